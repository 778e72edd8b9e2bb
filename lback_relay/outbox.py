"""Publish exactly what was committed: the envelope is a row of the application's transaction.

What happens to a signal of ``publish: "outbox"``::

    sent    the encoded envelope is INSERTed on the session's own connection
    commit  the row is there, for everybody to see; its id goes to the line of this process
    queued  the line's thread reads it back, publishes it, and deletes it once the broker has it

What can go wrong between each two:

- sent, and no session at hand or no transaction open: published at once, as ``immediate`` is.
- the INSERT fails (no such table, no right, no room): the application's transaction goes on as if
  nothing had been tried, the log says so at ERROR, and the signal waits for the commit in memory,
  as ``on_commit`` does; a crash between commit and publishing would lose it.
- rolled back, also to a savepoint before, or never committed: the row has never been, nor the id.
- killed after the commit: a sweep of any process publishes the row (``outbox_sweep.py``, which has
  what comes after, and why nothing is doubled).
- the broker is away: the rows stay (``outbox_line.py``).

The session is neither flushed nor queried. SQLAlchemy is imported when first needed; Redis is not
known here. Durations are seconds.
"""

from __future__ import annotations

import atexit
import logging
import os
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from lback_relay import outbox_table
from lback_relay.broker import connect
from lback_relay.config import RelayConfig
from lback_relay.errors import ConfigError
from lback_relay.outbox_line import SWEEP_EVERY_S, OutboxLine
from lback_relay.outbox_sweep import LEASE_S, Sweep, described
from lback_relay.outbox_table import Row, create_table, metadata
from lback_relay.throttle import ThrottledLog
from lback_relay.transaction import after_commit, session_at_hand

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

    from lback_relay.broker import Broker

__all__ = ["Outbox", "create_table", "metadata", "open_database"]

_DOOMED: Final = "25P02"
"""PostgreSQL's "current transaction is aborted": whatever comes, it will not be committed."""

_logger = logging.getLogger(__name__)


class Outbox:
    """Writes envelopes into the application's transactions, and publishes them afterwards.

    Every method may be called from any thread, and on both sides of a fork. Nothing is opened and
    no thread runs before the first row, or the first :meth:`watch`, of a process.

    Args:
        config: which signals, and where the broker is.
        connect_broker: makes a broker; None makes one of the config.
        lease_s: for how long a written row is left to its writer.
        sweep_every_s: between two looks for rows that others have left.
    """

    def __init__(
        self,
        config: RelayConfig,
        *,
        connect_broker: Callable[[], Broker] | None = None,
        lease_s: float = LEASE_S,
        sweep_every_s: float = SWEEP_EVERY_S,
    ) -> None:
        self._config = config
        self._connect = connect_broker or broker_of(config)
        self._log = ThrottledLog(_logger)
        self._lease_s = lease_s
        self._sweep_every_s = sweep_every_s
        # By process and database; the line keeps its engine, and so the id, alive.
        self._lines: dict[tuple[int, int], OutboxLine] = {}

    def write(self, session: Any, signal: str, envelope_id: str, encoded: bytes) -> bool:
        """Write an envelope into the session's open transaction. Never raises an Exception.

        Returns: whether that settles the matter; False leaves the signal to the caller.
        """
        try:
            session = session_at_hand({"session": session})
            # A session whose flush has failed can only be rolled back.
            if session is None or not session.in_transaction() or not session.is_active:
                return False
            connection = _connection(session)
            line = self._line(connection.engine)
            row = Row(envelope_id, signal, encoded)
            outbox_table.insert(connection, row, claimed_by=line.claimant, lease_s=self._lease_s)
        except Exception as error:  # noqa: BLE001 - the sender of a signal must never be hurt
            if _is_doomed(error):
                _logger.info(
                    "Forgot a signal: its transaction has failed", extra={"relay_signal": signal}
                )
                return True
            self._log.say(
                logging.ERROR,
                "A signal was not written to the outbox, and is published after the commit without "
                "it (a crash in between would lose it); see that the table %s is there: %s",
                outbox_table.TABLE_NAME,
                described(error),
                signal=signal,
            )
            return False
        after_commit(session, lambda: line.committed(envelope_id, signal))
        return True

    def watch(self, engine: Engine) -> None:
        """Sweep this database from this process, from now on. Cheap when it does so already."""
        if (os.getpid(), id(engine.dialect)) not in self._lines:
            self._line(engine).wake()

    def flush(self, timeout_s: float) -> bool:
        """Wait until what this process has committed is published. Returns whether it is."""
        until = time.monotonic() + timeout_s
        flushed = True
        for line in self._own_lines():
            flushed = line.flush(max(0.0, until - time.monotonic())) and flushed
        return flushed

    def close(self) -> None:
        """Flush for ``flush_timeout_s``, end the threads and close the connections."""
        for line in self._own_lines():
            line.close(self._config.flush_timeout_s)

    def published(self) -> int:
        """Return how many rows this process has published and deleted."""
        return sum(line.published for line in self._own_lines())

    def _own_lines(self) -> list[OutboxLine]:
        pid = os.getpid()
        return [line for line in list(self._lines.values()) if line.pid == pid]

    def _line(self, engine: Engine) -> OutboxLine:
        # An engine's options make another engine of it, with the same dialect.
        key = (os.getpid(), id(engine.dialect))
        line = self._lines.get(key)
        if line is None:
            sweep = Sweep(self._config.signals, self._connect, lease_s=self._lease_s)
            made = OutboxLine(engine, sweep, sweep_every_s=self._sweep_every_s)
            line = self._lines.setdefault(key, made)
            for other in [other for other in self._lines if other[0] != key[0]]:
                self._lines.pop(other, None)  # the parent's, before a fork
            _open[line] = self._config.flush_timeout_s
        return line


def open_database(url: str, *, create: bool = False) -> Engine:
    """Return an engine for a database's URL. Nothing is opened.

    Args:
        url: SQLAlchemy's.
        create: let SQLite make a file that is not there.

    Raises:
        ConfigError: the URL, or the driver that it needs, can't be used; or it names a SQLite
            database that is in memory, or a file that is not there.
    """
    try:
        from sqlalchemy import create_engine, make_url
        from sqlalchemy.exc import ArgumentError

        read = make_url(url)
        engine = create_engine(read)
    except ImportError as error:
        problem = f"the package {error.name!r} is missing; install it to reach the database"
        raise ConfigError([problem], source="the database") from error
    except (ArgumentError, ValueError):  # their texts may quote the password
        problem = "its URL can't be read; it looks like postgresql+psycopg://user@host/name"
        raise ConfigError([problem], source="the database") from None
    if read.password is not None and _misplaced_at(url):
        problem = "its URL can't be read: write each '@' as %40, but the one before the host"
        raise ConfigError([problem], source="the database")
    if read.get_backend_name() == "sqlite":
        _check_sqlite(read, create=create)
    return engine


def _check_sqlite(url: URL, *, create: bool) -> None:
    """See that there is a file, for SQLite would make an empty one of a misspelt name."""
    if _in_memory(url):
        problem = (
            "a database in memory keeps no outbox; give the URL of a file, such as "
            "sqlite:////srv/shop/db.sqlite3"
        )
        raise ConfigError([problem], source="the database")
    name = url.database or ""
    file = Path(unquote(urlsplit(name).path) if "uri" in url.query else name)
    try:
        there = create or file.exists()
    except PermissionError:
        there = True  # perhaps; SQLite says that it can't be opened
    if not there:
        problem = (
            f"there is no file {file}; see that its name is right, or give --create-table, which "
            "makes it with the outbox's table"
        )
        raise ConfigError([problem], source="the database")


def _in_memory(url: URL) -> bool:
    """Tell whether a SQLite database is in memory, where no other connection finds it."""
    return ":memory:" in (url.database or ":memory:") or url.query.get("mode") == "memory"


def _misplaced_at(url: str) -> bool:
    """Tell whether an "@" stands behind the one that ends the password: that was not escaped.

    SQLAlchemy takes what follows the first one for the host, which drivers show.
    """
    _user, _colon, behind = url.partition("://")[2].partition(":")
    return "@" in behind.partition("@")[2]


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn SQLAlchemy's errors into one sentence without a value.

    Raises:
        ConfigError: the database does not answer, or refuses.
    """
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except SQLAlchemyError as error:
        problem = (
            f"{described(error)}; see that it can be reached and that the table "
            f"{outbox_table.TABLE_NAME} is there (lback-relay outbox --create-table makes it)"
        )
        raise ConfigError([problem], source="the database") from error


def broker_of(config: RelayConfig) -> Callable[[], Broker]:
    """Return what makes the broker of a config, for a thread that nobody waits for."""
    return lambda: connect(config.url, namespace=config.namespace, client_name="lback_relay-outbox")


def _connection(session: Any) -> Connection:
    """Return the session's own connection, if an outbox can be on it.

    Raises:
        ConfigError: it can't.
    """
    clause = {"clause": metadata().tables[outbox_table.TABLE_NAME]}
    bind = session.get_bind(**clause)
    if bind.dialect.is_async:
        problem = "an AsyncSession can't write to the outbox; write 'on_commit'"
        raise ConfigError([problem], source="the database")
    if bind.dialect.name == "sqlite" and _in_memory(bind.engine.url):
        problem = "a database in memory keeps no outbox; write 'on_commit'"
        raise ConfigError([problem], source="the database")
    connection: Connection = session.connection(bind_arguments=clause)
    return connection


def _is_doomed(error: Exception) -> bool:
    orig = getattr(error, "orig", None)
    return _DOOMED in (getattr(orig, "sqlstate", None), getattr(orig, "pgcode", None))


# Every line that may have a thread, with its flush_timeout_s.
_open: weakref.WeakKeyDictionary[OutboxLine, float] = weakref.WeakKeyDictionary()


@atexit.register
def _close_lines() -> None:
    """Publish at the end of the process what it has committed; its threads still run."""
    pid = os.getpid()
    for line, flush_timeout_s in list(_open.items()):
        if line.pid == pid:
            line.close(flush_timeout_s)
