"""One worker process, as its supervisor sees it. Knows no policy.

A fresh interpreter runs the same command line: the supervisor's own memory, threads and locks are
not in it, handlers are imported anew (so that a restart takes new code), and it works the same on
every platform. A session of its own keeps a terminal's Ctrl-C from it: the supervisor tells it.
Start it from the main thread: Linux means the death of the *thread* that started it. Durations are
seconds on the monotonic clock.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Sequence

from lback_signal_worker.supervised import DRAINED, POLLED, RECYCLING, UP, VARIABLE


class ChildProcess:
    """A started worker.

    Args:
        number: which one it is, from 1.
        command: its command line.
        now: the time on the monotonic clock.

    Attributes:
        started_at: when it was started.
        alive_at: when it last showed that it lives.
        polled_at: when it last had reached the broker; None: never.
        up: whether it takes entries, or has.
        drained: whether nothing is left to do but to exit.
        draining_since: when it began to drain, or was told to; None: it has not.
        hung: whether it was found to make no progress.
        killed: whether it was killed because it did not end.

    Raises:
        OSError: the machine can't start one.
    """

    def __init__(self, number: int, command: Sequence[str], now: float) -> None:
        self.number = number
        self.started_at = self.alive_at = now
        self.polled_at: float | None = None
        self.up = self.drained = False
        self.draining_since: float | None = None
        self.hung = False
        self.killed = False
        self._channel, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - our own command
                    list(command),
                    env={**os.environ, VARIABLE: f"{number}:{theirs.fileno()}:{os.getpid()}"},
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
        except OSError:
            self._channel.close()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ended(self) -> int | None:
        """Return its return code; None while it runs."""
        return self._process.poll()

    def listen(self, now: float) -> None:
        """Take in what it has said since the last call."""
        words = b""
        with contextlib.suppress(OSError):
            words = self._channel.recv(4096, socket.MSG_DONTWAIT)
        if not words:
            return
        self.alive_at = now
        self.up = self.up or UP in words
        self.drained = self.drained or DRAINED in words
        if POLLED in words:
            self.polled_at = now
        if RECYCLING in words and self.draining_since is None:
            self.draining_since = now

    def tell(self, number: signal.Signals, now: float) -> None:
        """Send an OS signal that makes it drain."""
        if self.draining_since is None:
            self.draining_since = now
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it."""
        self.killed = True
        self._process.kill()

    def end(self) -> None:
        """Kill it if it runs, and wait for its end."""
        self._process.kill()
        self._process.wait()
        self._channel.close()
