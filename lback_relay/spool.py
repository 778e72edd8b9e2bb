"""The spool: a file that keeps what could not be published until the broker is back.

One SQLite file per broker in a folder of the host, shared by all processes there. A row is one
envelope under its producer's number, so that nobody needs to own a row: whoever publishes one
again publishes it in vain (``broker/scripts/publish.lua``), and what a process that is gone has
left is everybody's. What can go wrong:

- killed while writing: SQLite's log holds whole transactions or nothing of them.
- a power failure: what was forced to the disk stays, by each write itself with
  ``spool_sync = "full"``, and otherwise by :meth:`Spool.force`, within seconds.
- killed between publishing a row and removing it: it is published again, and not doubled.
- the disk is full, read-only or broken, or ``max_spool_bytes`` are used: :class:`SpoolError`; what
  is in the file already stays, and the caller keeps what it has.
- the process forks: a child makes a spool of its own; its parent's is closed at that moment
  (:mod:`lback_relay.held_connection`), and goes on with another connection.

Knows neither publisher nor broker. Sizes are bytes, ages are seconds.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from lback_relay.envelope import BROADCAST, QUEUE
from lback_relay.errors import SpoolDamaged, SpoolError
from lback_relay.held_connection import HeldConnection
from lback_relay.spool_rights import make_folder

FORMAT: Final = 1
"""Version of the table; a file of another one is refused."""
_APPLICATION_ID: Final = 0x6C627370
_PAGE_BYTES: Final = 4096
_LOG_BYTES: Final = 8 * 1_048_576

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS envelopes (
    signal TEXT NOT NULL,
    producer TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    delivery TEXT NOT NULL,
    spooled_at REAL NOT NULL,
    encoded BLOB NOT NULL,
    PRIMARY KEY (signal, producer, sequence)
) WITHOUT ROWID
"""
_INSERT: Final = "INSERT OR IGNORE INTO envelopes VALUES (?, ?, ?, ?, ?, ?)"


class Batch(NamedTuple):
    """Envelopes to be published by one call: consecutive numbers, delivered alike.

    Attributes:
        first_sequence: the first one's number.
        delivery: "queue", "broadcast" or both, as when they were sent.
        encoded: their bytes.
        whole: nothing of the lane comes after them.
    """

    first_sequence: int
    delivery: tuple[str, ...]
    encoded: list[bytes]
    whole: bool

    @property
    def last_sequence(self) -> int:
        """The last one's number."""
        return self.first_sequence + len(self.encoded) - 1


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits of one signal: how many envelopes, how many bytes, and the oldest one's age."""

    signal: str
    envelopes: int
    encoded_bytes: int
    oldest_s: float


class Spool:
    """One process's access to a spool. Opens nothing before it is first needed.

    Every method may be called from any thread.

    Args:
        path: the file; its folder is made when it is first written.
        max_bytes: size that the file may reach.
        durable: whether each write waits until the disk has it.
        timeout_s: longest wait for another process that writes.
    """

    def __init__(
        self, path: Path, *, max_bytes: int = 2**30, durable: bool = True, timeout_s: float = 5.0
    ) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._durable = durable
        self._timeout_s = timeout_s
        self._unforced = False
        self._own = HeldConnection()

    # writing ---------------------------------------------------------------------------------

    def append(
        self,
        signal: str,
        producer_id: str,
        first_sequence: int,
        delivery: Sequence[str],
        encoded: Sequence[bytes],
    ) -> None:
        """Write envelopes, all or none. Writing the same numbers again changes nothing.

        Raises:
            SpoolError: they could not be written.
        """
        now = time.time()  # for people to read: no decision hangs on it
        modes = ",".join(delivery)
        rows = [
            (signal, producer_id, first_sequence + index, modes, now, each)
            for index, each in enumerate(encoded)
        ]
        with self._open(write=True) as connection, _transaction(connection):
            connection.executemany(_INSERT, rows)
        self._unforced = not self._durable

    def force(self) -> None:
        """Force what was written to the disk, while others may write; does nothing the next time.

        Raises:
            SpoolError: the disk has refused.
        """
        if not self._unforced:
            return
        self._unforced = False  # first: what is written from here on is for the next call
        try:
            # No lock is on the log, so that closing it gives none back. What is in the file itself
            # SQLite has forced, before it began the log anew.
            log = os.open(f"{self.path}-wal", os.O_RDONLY)
            try:
                os.fsync(log)
            finally:
                os.close(log)
        except FileNotFoundError:
            return
        except OSError as error:
            self._unforced = True
            raise _spool_error(self.path, error) from error

    def remove(self, signal: str, producer_id: str, last_sequence: int) -> None:
        """Remove a producer's envelopes up to a number: the broker has them.

        Raises:
            SpoolError: they could not be removed.
        """
        with self._open(write=True) as connection, _transaction(connection):
            connection.execute(
                "DELETE FROM envelopes WHERE signal = ? AND producer = ? AND sequence <= ?",
                (signal, producer_id, last_sequence),
            )

    def shrink(self) -> None:
        """Give the room of what was removed back to the disk, as far as nobody is in the way."""
        with suppress(SpoolError), self._open(write=True) as connection:
            # Not execute(), which takes one step of a statement without columns: one page.
            connection.executescript("PRAGMA incremental_vacuum")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    # reading ---------------------------------------------------------------------------------

    def next_lane(self, after: tuple[str, str] = ("", "")) -> tuple[str, str] | None:
        """Return the next (signal, producer) that has envelopes, in order; None after the last.

        Raises:
            SpoolError: the file can't be read.
        """
        if not self.exists():
            return None
        with self._open() as connection:
            row: tuple[str, str] | None = connection.execute(
                "SELECT signal, producer FROM envelopes WHERE (signal, producer) > (?, ?) "
                "ORDER BY signal, producer LIMIT 1",
                after,
            ).fetchone()
        return row

    def batch(
        self, signal: str, producer_id: str, *, after: int, max_count: int, max_bytes: int
    ) -> Batch | None:
        """Return the first envelopes of a producer behind a number; None when there are none.

        At least one, and no more than ``max_count`` and ``max_bytes``.

        Raises:
            SpoolError: the file can't be read.
        """
        taken: list[bytes] = []
        first, modes, room = 0, "", max_bytes
        with self._open() as connection:
            rows = connection.execute(
                "SELECT sequence, delivery, encoded FROM envelopes "
                "WHERE signal = ? AND producer = ? AND sequence > ? ORDER BY sequence LIMIT ?",
                (signal, producer_id, after, max_count + 1),
            )
            try:
                for sequence, delivery, encoded in rows:
                    room -= len(encoded)
                    if not taken:
                        first, modes = sequence, delivery
                    elif (
                        sequence != first + len(taken)
                        or delivery != modes
                        or room < 0
                        or len(taken) >= max_count
                    ):
                        return Batch(first, _modes(modes), taken, whole=False)
                    taken.append(encoded)
            finally:
                rows.close()  # an open cursor would hold the log's end, which then grows
        return Batch(first, _modes(modes), taken, whole=True) if taken else None

    def waiting(self) -> list[Waiting]:
        """Return what is in the file, by signal. Reads all of it: not for each send.

        Raises:
            SpoolError: the file can't be read.
        """
        if not self.exists():
            return []
        now = time.time()
        with self._open() as connection:
            rows = connection.execute(
                "SELECT signal, COUNT(*), SUM(LENGTH(encoded)), MIN(spooled_at) FROM envelopes "
                "GROUP BY signal ORDER BY signal"
            ).fetchall()
        return [
            Waiting(signal, count, size, max(0.0, now - oldest))
            for signal, count, size, oldest in rows
        ]

    def exists(self) -> bool:
        """Return whether anything was ever written here.

        Raises:
            SpoolError: this user may not look.
        """
        try:
            return self.path.exists()
        except OSError as error:
            raise _spool_error(self.path, error) from error

    # the file --------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the folder, and see that envelopes are safe in it.

        Raises:
            SpoolError: it can't be made, or others may write to it.
        """
        make_folder(self.path.parent)

    def close(self) -> None:
        """Close the file. A later call opens it again."""
        with suppress(SpoolError):
            self.force()
        self._own.close()

    @contextmanager
    def _open(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """Lend the connection to one thread; SQLite's errors become ours."""
        own = self._own
        with own.lock:
            try:
                if own.connection is None:
                    if write:
                        self.prepare()
                    own.connection = self._connected()
                yield own.connection
            except (sqlite3.Error, OSError) as error:
                self.close()
                raise _spool_error(self.path, error) from error

    def _connected(self) -> sqlite3.Connection:
        with suppress(FileExistsError):
            # SQLite gives its log and index the same rights.
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        connection = sqlite3.connect(
            self.path, timeout=self._timeout_s, isolation_level=None, check_same_thread=False
        )
        try:
            self._set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        if found not in (0, FORMAT):
            raise SpoolError(
                f"the spool {self.path} was written by another version of lback_relay (format "
                f"{found}, this one knows {FORMAT}); drain it with that version: "
                "lback-relay spool drain"
            )
        if not found:
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        _use_log(connection)
        connection.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'NORMAL'}")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        connection.execute(f"PRAGMA max_page_count = {max(16, self._max_bytes // _PAGE_BYTES)}")
        if not found:
            with _transaction(connection):
                connection.execute(_TABLE)
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {FORMAT}")


@retry(
    retry=retry_if_exception_type(sqlite3.OperationalError),
    stop=stop_after_delay(2),
    wait=wait_fixed(0.01),
    reraise=True,
)
def _use_log(connection: sqlite3.Connection) -> None:
    """Turn the write-ahead log on. SQLite does not wait here for another one who does so."""
    connection.execute("PRAGMA journal_mode = WAL").fetchone()


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _modes(words: str) -> tuple[str, ...]:
    return tuple(word for word in words.split(",") if word in {QUEUE, BROADCAST})


def _spool_error(path: Path, error: sqlite3.Error | OSError) -> SpoolError:
    """Say what is wrong with the file, and what to do."""
    text = str(error)
    if "full" in text:
        return SpoolError(
            f"the spool {path} is full, or its disk is ({text}); make room, or raise "
            "max_spool_bytes"
        )
    if "malformed" in text or "not a database" in text:
        return SpoolDamaged(
            f"the spool {path} is damaged ({text}); move it away, and save what can be read with "
            "the sqlite3 program's .recover"
        )
    return SpoolError(f"the spool {path} can't be used ({text}); see its rights and its disk")
