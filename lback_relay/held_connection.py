"""A SQLite connection that threads share, and that no fork copies.

SQLite keeps in the process's memory which locks its connections have on a file. A fork copies that
memory, but not the locks: a child would write without one, or wait for ever for one that its parent
has long given back, even on a connection of its own to the same file. So all of them are closed
before this process forks, and opened again when they are next needed.

Source: SQLite, "How To Corrupt An SQLite Database File", section 2.6. Durations are seconds.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from contextlib import suppress
from typing import Final

FORK_WAITS_S: Final = 10.0
"""At most so long for the one who works on a connection; longer than a write waits for another."""


class HeldConnection:
    """A place for a connection, which its owner opens when there is none.

    Attributes:
        lock: held by whoever uses or replaces the connection.
        connection: the connection; None when it is closed.
    """

    __slots__ = ("__weakref__", "connection", "lock")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.connection: sqlite3.Connection | None = None
        with _registering:
            _all.add(self)

    def close(self) -> None:
        """Close it; that gives all its locks back."""
        with self.lock:
            connection, self.connection = self.connection, None
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()


_all: weakref.WeakSet[HeldConnection] = weakref.WeakSet()
_registering = threading.Lock()
_held_by_fork: list[HeldConnection] = []


def _before_fork() -> None:
    _registering.acquire()
    for held in _all:
        # Without its lock it is left as it is: a fork that never comes would be worse.
        if held.lock.acquire(timeout=FORK_WAITS_S):
            _held_by_fork.append(held)
            held.close()


def _after_in_parent() -> None:
    while _held_by_fork:
        _held_by_fork.pop().lock.release()
    _registering.release()


def _after_in_child() -> None:
    global _registering  # noqa: PLW0603 - the thread that may hold it is not here
    _held_by_fork.clear()
    for held in _all:
        held.lock = threading.RLock()
    _registering = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
