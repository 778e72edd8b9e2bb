"""A handler's database session in a process that never starts the framework."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.lback_project import lback_project

pytestmark = pytest.mark.lback

WORKER = """
import json, os, sys, threading
from lback_relay.lback.database import worker_session
from lback_relay.lback.settings import set_project
from lback_relay.snapshot import EntitySnapshot

set_project(sys.argv[1])
os.chdir("/")  # a worker may run anywhere
import lback.models.user

user = EntitySnapshot("lback.models.user.Group", {}, (1,))
with worker_session() as session:
    name = user.load(session).name
    session.get(lback.models.user.Group, 1).description = "not committed"
try:
    with worker_session() as session:
        session.add(lback.models.user.Group(name="by a failed handler"))
        session.flush()
        raise RuntimeError
except RuntimeError:
    pass
with worker_session() as session:
    session.add(lback.models.user.Group(name="kept"))
    session.commit()

child = os.fork()
if child == 0:
    with worker_session() as session:
        os._exit(0 if session.query(lback.models.user.Group).count() == 2 else 1)
_, status = os.waitpid(child, 0)

with worker_session() as session:
    groups = [(group.name, group.description) for group in session.query(lback.models.user.Group)]
print(json.dumps([
    name, groups, status, threading.active_count(),
    [name for name in ("watchdog", "lback.core.server") if name in sys.modules],
]))
"""


def test_a_worker_reads_and_writes_the_projects_rows(tmp_path: Path) -> None:
    """Without watchers, without config.json, and from any folder."""
    with lback_project(tmp_path / "shop", redis_url=None) as project:
        project.append("settings.py", '\nDB_NAME = "relative.sqlite3"\n')
        project.seed()
        (project.folder / "config.json").unlink()
        name, groups, status, threads, loaded = project.run_json(WORKER, str(project.folder))
        assert not (project.folder / "config.json").exists()
        assert (project.folder / "relative.sqlite3").exists()
    assert name == "basic_user"
    assert groups == [["basic_user", "Everybody who registers"], ["kept", None]]
    assert (status, threads, loaded) == (0, 1, [])


def test_without_a_usable_database_the_error_says_what_to_set(tmp_path: Path) -> None:
    """It names the setting."""
    with lback_project(tmp_path / "shop", redis_url=None) as project:
        project.append("settings.py", '\nDB_ENGINE = "postgresql"\n')
        said = project.run(
            "from lback_relay.lback.database import worker_session\nwith worker_session(): pass",
            check=False,
        )
    assert "DB_PASSWORD_ENCRYPTED: PostgreSQL needs it" in said
