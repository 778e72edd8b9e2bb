"""Who drains a spool: one process of the host at a time.

The lock is SQLite's on a file of its own, which the operating system releases when its holder dies.
A fork takes it away for an instant (:mod:`lback_relay.held_connection`); no harm is done should
another process get it then, as it only spares double work.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from lback_relay.errors import SpoolError
from lback_relay.held_connection import HeldConnection


class DrainLock:
    """The lock of one spool's drain; one holder on this host.

    Attributes:
        held: whether this process has taken it, and not let go.
    """

    def __init__(self, spool: Path) -> None:
        self.held = False
        self._path = spool.with_suffix(".drain")
        self._own = HeldConnection()

    def take(self) -> bool:
        """Try to take it. Returns whether this process has it now.

        Raises:
            SpoolError: the lock's file can't be used.
        """
        with self._own.lock:
            if self._own.connection is None:
                self._own.connection = self._locked()
            self.held = self._own.connection is not None
            return self.held

    def release(self) -> None:
        """Let go, if held."""
        self.held = False
        self._own.close()

    def _locked(self) -> sqlite3.Connection | None:
        """Return a connection that has the lock; None when another process's has it."""
        try:
            with suppress(FileExistsError):
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            connection = sqlite3.connect(
                self._path, timeout=0, isolation_level=None, check_same_thread=False
            )
        except (sqlite3.Error, OSError) as error:
            raise SpoolError(f"the spool's lock {self._path} can't be used ({error})") from error
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            connection.close()
            if "locked" in str(error):
                return None
            raise SpoolError(f"the spool's lock {self._path} can't be used ({error})") from error
        return connection
