"""A session to the project's database for handlers, without starting the framework.

The framework's own way to a session starts file watchers and writes ``config.json``; a worker
needs neither. Importing the models (``lback.models.user``) starts nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lback_relay.lback.framework_settings import absolute_sqlite, database_echo, database_url
from lback_relay.lback.settings import project_root, project_settings

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

# By process id: connections must not be shared across a fork.
_engines: dict[int, Engine] = {}


@contextmanager
def worker_session() -> Iterator[Session]:
    """Open a session to the project's database, as the project's settings name it.

    Commit what should stay; an end without a commit, or by an error, rolls back. The session
    belongs to the ``with`` block and to its thread. Usage::

        with worker_session() as session:
            row = user.load(session)

    Raises:
        ConfigError: the settings name no database that can be used.
    """
    from sqlalchemy.orm import Session

    with Session(_engine()) as session:
        yield session


def _engine() -> Engine:
    engine = _engines.get(os.getpid())
    if engine is not None:
        return engine
    from sqlalchemy import create_engine

    settings = project_settings()
    url = absolute_sqlite(database_url(settings), project_root())
    # Two threads at their first session may each make one; one stays, the other opened nothing.
    return _engines.setdefault(os.getpid(), create_engine(url, echo=database_echo(settings)))
