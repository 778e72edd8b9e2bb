"""Databases for tests of the outbox: SQLite files, and a private PostgreSQL server."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from support.brokers import skip_or_fail
from support.waiting import wait_until

KINDS = ("sqlite", "postgresql")


def postgres_binaries() -> Path | None:
    """Return the folder of a server's executables; Debian keeps them off the PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("postgres")
    if found:
        folders.insert(0, Path(found).parent)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@contextmanager
def running_postgres() -> Iterator[str]:
    """Run a server of the tests' own on 127.0.0.1; yield the beginning of its URLs.

    It refuses to run as root, and then runs as the user postgres.
    """
    binaries = postgres_binaries()
    if binaries is None:
        skip_or_fail("no PostgreSQL server is installed")
    user: dict[str, Any] = {"user": "postgres"} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="lback-relay-pg-"))
    if user:
        shutil.chown(folder, "postgres")
    data = folder / "data"
    try:
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "test", "--auth=trust", "-E", "UTF8", "-N"],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=120,
            **user,
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [
                    str(binaries / "postgres"),
                    "-D",
                    data,
                    "-h",
                    "127.0.0.1",
                    "-p",
                    str(port),
                    "-k",
                    folder,
                    "-F",
                ],
                cwd=folder,
                stdout=log,
                stderr=log,
                **user,
            )
        base = f"postgresql+psycopg://test@127.0.0.1:{port}/"
        try:
            wait_until(lambda: _answers(base + "postgres"), what="PostgreSQL's first answer")
            yield base
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def database_on(base: str) -> Iterator[str]:
    """Make a database on a server; yield its URL; drop it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    admin = create_engine(base + "postgres", isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield base + name
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


def _answers(url: str) -> bool:
    engine = create_engine(url)
    try:
        with engine.connect():
            return True
    except OperationalError:
        return False
    finally:
        engine.dispose()


@pytest.fixture(scope="session")
def postgres_base() -> Iterator[str]:
    """Yield the beginning of the URLs of a server that these tests share."""
    with running_postgres() as base:
        yield base


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Yield the URL of an empty database of this test alone, on each kind in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/test.db"
        return
    with database_on(request.getfixturevalue("postgres_base")) as url:
        yield url
