# ruff: noqa: INP001 - a project's root is no package
"""Create the shop's tables and the group that every new user joins: ``python seed.py``."""

import os
from pathlib import Path

# Lback reads config.json from the current folder.
os.chdir(Path(__file__).resolve().parent)

from lback.core import server  # noqa: E402 - Lback needs the folder first
from lback.models.user import Group  # noqa: E402

# Registering answers 500 as long as this group is missing.
NEW_USERS = "basic_user"


def main() -> None:
    """Seed the database once; running it again changes nothing."""
    server.initialize_core_components()
    database = server.db_manager
    database.create_all_tables()
    session = database.create_session()
    try:
        if session.query(Group).filter_by(name=NEW_USERS).first() is None:
            session.add(Group(name=NEW_USERS, description="Everybody who registers"))
            session.commit()
    finally:
        session.close()


if __name__ == "__main__":
    main()
