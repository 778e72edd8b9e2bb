"""A worker's side of its supervisor: words to it, and death with it.

One socket, inherited, whose number is in an environment variable that is taken out at once, so
that what handlers start does not mistake itself for a worker. The worker sends single letters over
it, and never waits for that: a supervisor that is stopped holds up nobody. When the supervisor is
gone, the kernel kills the worker (``PR_SET_PDEATHSIG``, Linux), or the end of the socket does;
what was in hand is pending, and is claimed by another worker. Durations are seconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import threading
from collections.abc import MutableMapping
from dataclasses import replace
from pathlib import Path
from random import SystemRandom
from time import monotonic
from typing import Final

from lback_signal_worker.config import WorkerConfig
from lback_signal_worker.os_signals import OsSignals
from lback_signal_worker.recycling import deliveries_limit, recycle_reason
from lback_signal_worker.worker import Worker

VARIABLE: Final = "LBACK_SIGNAL_WORKER_SUPERVISED"
UP: Final = b"u"
"""It takes entries."""
POLLED: Final = b"p"
"""It has reached the broker."""
AWAY: Final = b"a"
"""It lives, and the broker does not answer, or refuses: no reason to replace it."""
TAKING: Final = b"t"
"""Entries may be on their way to it over a slow line."""
RECYCLING: Final = b"r"
"""It has begun to drain by itself."""
DRAINED: Final = b"d"
"""All that ran has ended and is settled; only the process is left."""
BEAT_S: Final = 0.5
PR_SET_PDEATHSIG: Final = 1


class Supervised:
    """The link of one worker to its supervisor.

    Args:
        number: which one of the supervisor's workers this is, from 1.
        channel: the socket to the supervisor.
    """

    def __init__(self, number: int, channel: socket.socket) -> None:
        self.number = number
        self.recycling = False
        """Whether this worker drains by itself, or by SIGHUP, in order to be replaced."""
        self._channel = channel
        self._polled_at = float("-inf")

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Supervised | None:
        """Return the link that the environment names, None without; from now on, die with it."""
        named = environ.pop(VARIABLE, None)
        if named is None:
            return None
        number, descriptor, parent = (int(part) for part in named.split(":"))
        os.set_inheritable(descriptor, False)
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            die()
        link = cls(number, socket.socket(fileno=descriptor))
        threading.Thread(target=link.die_with_supervisor, name="relay-orphan", daemon=True).start()
        return link

    def config(self, config: WorkerConfig) -> WorkerConfig:
        """Return this worker's config: each has a health file of its own."""
        path = config.health_file
        return replace(config, health_file=None if path is None else f"{path}.{self.number}")

    def attend(self, worker: Worker, config: WorkerConfig, stop: OsSignals) -> str:
        """Report progress until this worker should end. Returns why."""
        limit = deliveries_limit(config.max_deliveries, SystemRandom().random())
        self.say(UP)
        while True:
            name = stop.wait(BEAT_S)
            if name is not None:
                self.recycling = name == "SIGHUP"
                return name
            self.report(worker, config, monotonic())
            handled = int(worker.figures()["handled"])
            reason = recycle_reason(handled, limit, memory_mb(), config.max_memory_mb)
            if reason is not None:
                self.recycling = True
                self.say(RECYCLING)
                return reason

    def interrupted(self, stop: OsSignals) -> bool:
        """Tell whether an OS signal cuts the drain short.

        One SIGTERM does not when this worker had begun to drain by itself: its supervisor means
        the same, and could not know.
        """
        if self.recycling and stop.pending():
            stop.wait(0)
            self.recycling = False
        return stop.pending()

    def report(self, worker: Worker, config: WorkerConfig, now: float) -> None:
        """Say how it goes; nothing when there was no progress.

        A read that has begun counts as some until it is as old as a lease, for the entries that it
        brings are others' then; one that hangs is known by that. It fails by its own timeout when
        nothing comes. Who hangs elsewhere is silent at once.
        """
        polled_at = worker.polled_at
        if polled_at != self._polled_at:
            self._polled_at = polled_at
            self.say(POLLED)
        elif worker.away:
            self.say(AWAY)
        else:
            since = worker.taking_since
            if since is not None and now - since < config.lease_s - config.hung_s:
                self.say(TAKING)

    def say(self, word: bytes) -> None:
        """Send one word, if the supervisor takes it now."""
        with contextlib.suppress(OSError):
            self._channel.send(word, socket.MSG_DONTWAIT)

    def die_with_supervisor(self) -> None:
        """Wait for the end of the supervisor, then end."""
        with contextlib.suppress(OSError):
            while self._channel.recv(1):
                pass
        die()


def die() -> None:
    """End this process as a crash would."""
    os.kill(os.getpid(), signal.SIGKILL)


def memory_mb() -> float | None:
    """Return the resident memory of this process; None where there is no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1_048_576
