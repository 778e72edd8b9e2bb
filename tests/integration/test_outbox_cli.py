"""``lback-relay outbox`` as a user runs it, and what docs/outbox.md tells people to paste."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Engine, create_engine, inspect
from support.brokers import running_server
from support.databases import database_url, postgres_base
from support.outbox_child import relay_of
from support.outboxes import NOWHERE, commit, engine, expire_claims, in_stream, rows
from support.waiting import wait_until

from lback_relay.outbox import create_table, metadata

__all__ = ["database_url", "engine", "postgres_base"]

ROOT = Path(__file__).parents[2]


def environment(**variables: str) -> dict[str, str]:
    """Return a clean environment with ``variables``."""
    environ = {name: v for name, v in os.environ.items() if not name.startswith("LBACK_RELAY_")}
    return {**environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **variables}


def command(arguments: Sequence[str]) -> list[str]:
    """Return the command line of ``lback-relay outbox``."""
    return [sys.executable, "-m", "lback_relay.cli", "outbox", *arguments]


def run(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the real command."""
    return subprocess.run(
        command(arguments),
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def config_file(tmp_path: Path, redis_url: str, namespace: str) -> Path:
    """A config outside of a Lback project."""
    file = tmp_path / "relay.toml"
    file.write_text(
        f'url = "{redis_url}"\nnamespace = "{namespace}"\n'
        '[signals.order_paid]\npublish = "outbox"\n'
    )
    return file


def leave(engine: Engine, namespace: str, *names: str) -> None:
    """Leave rows as a process does that dies after its commit."""
    away = relay_of(NOWHERE, namespace)
    commit(away, engine, *names)
    away.close()
    expire_claims(engine)


def test_it_publishes_what_is_left_and_counts(
    engine: Engine,
    config_file: Path,
    database_url: str,
    redis_url: str,
    namespace: str,
) -> None:
    """A dry run before only looks; a second run finds nothing."""
    leave(engine, namespace, "a", "b")
    given = ("--config", str(config_file), "--database", database_url)
    looked = run(*given, "--dry-run", folder=config_file.parent)
    assert looked.returncode == 0, looked.stderr
    assert "order_paid  2 left, 0 of them in hand, oldest " in looked.stdout
    assert in_stream(redis_url, namespace) == []
    done = run(*given, folder=config_file.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "published 2\nthe outbox is empty\n"
    assert in_stream(redis_url, namespace) == ["a", "b"]
    again = run(
        "--config", str(config_file), folder=config_file.parent, OUTBOX_DATABASE_URL=database_url
    )
    assert again.stdout == "published 0\nthe outbox is empty\n"


def test_it_finds_the_database_of_a_project(tmp_path: Path, redis_url: str, namespace: str) -> None:
    """As the framework does, and makes the table when told."""
    (tmp_path / "settings.py").write_text(
        "RELAY_SIGNALS = {'order_paid': {'publish': 'outbox'}}\n"
        "DB_ENGINE, DB_NAME = 'sqlite3', 'shop.db'\n"
    )
    variables = {"LBACK_RELAY_URL": redis_url, "LBACK_RELAY_NAMESPACE": namespace}
    missing = run(folder=tmp_path, **variables)
    assert missing.returncode == 2
    assert f"there is no file {tmp_path}/shop.db; " in missing.stderr
    assert "--create-table" in missing.stderr
    assert not (tmp_path / "shop.db").exists()
    (tmp_path / "shop.db").touch()
    empty = run(folder=tmp_path, **variables)
    assert empty.returncode == 2
    assert "no such table: lback_relay_outbox" in empty.stderr
    assert "(lback-relay outbox --create-table makes it)" in empty.stderr
    assert "Traceback" not in missing.stderr + empty.stderr
    (tmp_path / "shop.db").unlink()
    made = run("--create-table", folder=tmp_path, **variables)
    assert (made.returncode, made.stdout) == (0, "published 0\nthe outbox is empty\n")
    assert (tmp_path / "shop.db").exists()


def test_watching_goes_on_until_it_is_stopped(
    engine: Engine, config_file: Path, database_url: str, redis_url: str, namespace: str
) -> None:
    """By SIGTERM, with exit code 0."""
    with subprocess.Popen(
        command(["--config", str(config_file), "--database", database_url, "--watch"]),
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as watching:
        try:
            assert watching.stdout is not None
            assert watching.stdout.readline() == "watching the outbox\n"
            leave(engine, namespace, "a")
            wait_until(lambda: rows(engine) == 0, what="the sweep")
            assert in_stream(redis_url, namespace) == ["a"]
            watching.terminate()
            assert watching.wait(30) == 0
            assert watching.stdout.read() == "published 1\nstopped\n"
        finally:
            watching.kill()


@pytest.mark.parametrize(
    ("database", "said"),
    [
        ("sqlite:////nowhere/at/all.db", "there is no file /nowhere/at/all.db"),
        ("sqlite:////proc", "unable to open database file"),
        ("sqlite://", "a database in memory keeps no outbox"),
        ("no url", "its URL can't be read"),
        ("postgresql+psycopg://u:hunter2@h:abc/x", "its URL can't be read"),
        ("postgresql+psycopg://u:top@hunter2@127.0.0.1:1/x", "write each '@' as %40"),
        ("oracle+nothing://user:hunter2@host/x", "the database: "),
        ("mysql+psycopg_missing://u:hunter2@h/x", "the database: "),
    ],
)
def test_a_database_that_can_not_be_used_is_told_in_a_sentence(
    config_file: Path, database: str, said: str
) -> None:
    """Exit code 2, no traceback, no password."""
    done = run(
        "--config", str(config_file), folder=config_file.parent, OUTBOX_DATABASE_URL=database
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


def test_a_broker_that_does_not_answer_has_its_exit_code(
    engine: Engine, database_url: str, tmp_path: Path, namespace: str
) -> None:
    """The rows stay."""
    leave(engine, namespace, "a")
    file = tmp_path / "relay.toml"
    file.write_text(f'url = "{NOWHERE}"\nnamespace = "{namespace}"\nsignals = ["order_paid"]\n')
    done = run("--config", str(file), "--database", database_url, folder=tmp_path)
    assert done.returncode == 4, done.stderr
    assert rows(engine) == 1


def test_a_refused_signal_has_the_same_exit_code(
    engine: Engine, config_file: Path, database_url: str, redis_url: str, namespace: str
) -> None:
    """And is named, with what is left of it."""
    with config_file.open("a") as file:
        file.write("max_backlog = 1\n")
    leave(engine, namespace, "a", "b")
    done = run("--config", str(config_file), "--database", database_url, folder=config_file.parent)
    assert done.returncode == 4
    assert done.stdout.startswith("published 1; refused: order_paid\norder_paid  1 left")
    assert in_stream(redis_url, namespace) == ["a"]


def test_watching_outlives_a_broker_that_is_away(
    engine: Engine, database_url: str, tmp_path: Path, namespace: str
) -> None:
    """It says so once, and publishes when the broker is there."""
    leave(engine, namespace, "a")
    path = tmp_path / "redis.sock"
    file = tmp_path / "relay.toml"
    file.write_text(f'url = "unix://{path}"\nnamespace = "{namespace}"\nsignals = ["order_paid"]\n')
    with subprocess.Popen(
        command(["--config", str(file), "--database", database_url, "--watch"]),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watching:
        try:
            assert watching.stderr is not None
            assert watching.stderr.readline().startswith("lback-relay: ")
            with running_server("--unixsocket", str(path)):
                wait_until(lambda: rows(engine) == 0, timeout_s=60, what="the sweep")
                assert in_stream(f"unix://{path}", namespace) == ["a"]
                watching.terminate()
                assert watching.wait(30) == 0
        finally:
            watching.kill()


def test_wrong_usage_is_told(tmp_path: Path) -> None:
    """A config without a database, both kinds of config, and to watch without doing anything."""
    assert "give --database, too" in run("--config", "x.toml", folder=tmp_path).stderr
    both = run("--config", "x.toml", "--settings", "y", folder=tmp_path)
    assert "not both" in both.stderr
    assert both.returncode == 2
    looking = run("--watch", "--dry-run", folder=tmp_path)
    assert "either --watch or --dry-run, not both" in looking.stderr
    assert looking.returncode == 2


def snippets() -> list[str]:
    """Return the Python of docs/outbox.md."""
    text = (ROOT / "docs" / "outbox.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def columns(engine: Engine) -> dict[str, tuple[str, bool, bool]]:
    """Return what the table's columns are."""
    found = inspect(engine)
    key = found.get_pk_constraint("lback_relay_outbox")["constrained_columns"]
    assert [
        each["column_names"] for each in found.get_unique_constraints("lback_relay_outbox")
    ] == [["envelope_id"]]
    return {
        each["name"]: (str(each["type"]), each["nullable"], each["name"] in key)
        for each in found.get_columns("lback_relay_outbox")
    }


def test_the_migration_makes_the_table_that_create_table_makes(database_url: str) -> None:
    """Pasted from the page; it can be taken back."""
    engine = create_engine(database_url)
    namespace: dict[str, object] = {}
    migration = next(snippet for snippet in snippets() if "op.create_table" in snippet)
    exec(migration, namespace)
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        namespace["upgrade"]()  # type: ignore[operator]
    migrated = columns(engine)
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        namespace["downgrade"]()  # type: ignore[operator]
    assert inspect(engine).get_table_names() == []
    create_table(engine)
    create_table(engine)
    assert columns(engine) == migrated
    metadata().drop_all(engine)
    with engine.begin() as connection:
        create_table(connection)
    assert columns(engine) == migrated
    engine.dispose()


def test_the_page_s_other_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes the table in the current folder."""
    monkeypatch.chdir(tmp_path)
    snippet = next(each for each in snippets() if "create_table(create_engine(" in each)
    exec(snippet, {})
    made = create_engine("sqlite:///shop.db")
    assert set(columns(made)) == set(metadata().tables["lback_relay_outbox"].columns.keys())
    made.dispose()
