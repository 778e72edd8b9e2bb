"""Several workers, each a process of its own, kept running by this one, which handles nothing.

States of one place: *starting* → it says it is up → *up* → it drains (told to, or by itself) →
*draining* → it ends → *waiting* for its restart → starting. The first worker starts alone; the
others when it is up, so that a wrong config is said once. What goes wrong:

- starting → ended: before any worker was ever up, exit codes 2, 3 and 4 end the supervisor with
  that code. Later they are deaths like others: the running ones go on.
- starting for longer than ``START_S``, or up without progress for ``hung_s``: it is hung, gets
  SIGTERM, and SIGKILL ``HUNG_DRAIN_S`` later. A broker that is away or refuses is no reason, and
  neither is a line that is slow with a batch, for as long as its lease lasts.
- up → ended: restarted at once; with growing waits when it dies young again and again.
- draining by itself for longer than the drain may take: SIGKILL. Its entries are claimed by others.
- The machine can't start a process: as if it had died young.
- The first SIGTERM or SIGINT is passed on to all at once, and nothing starts any more; who has not
  ended within the one grace is killed, and the exit code is 5. A second one cuts all drains short.
- A worker that drains by itself, and is told to by a SIGTERM that crossed its word: the worker
  knows that both mean the same.
- SIGHUP recycles one after the other; from a terminal (it was closed) it means the end.
- This process dies: the kernel, or the end of the socket, kills the workers (``supervised.py``).

Durations are seconds on the monotonic clock.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import SystemRandom
from time import monotonic
from typing import Final

from lback_signal_worker.child_process import ChildProcess
from lback_signal_worker.config import WorkerConfig
from lback_signal_worker.os_signals import OsSignals
from lback_signal_worker.recycling import how_it_ended, restart_in_s, young_deaths

logger = logging.getLogger(__name__)

TICK_S: Final = 0.1
START_S: Final = 120.0
"""Handlers may import a lot; a broker may take its time."""
HUNG_DRAIN_S: Final = 3.0
SETTLE_S: Final = 4.0
"""What a worker may need beyond its drain: to notice, to settle, to leave."""
AT_ONCE_S: Final = 2.0
EXIT_DRAINED: Final = 0
EXIT_DRAIN_TIMEOUT: Final = 5
EXIT_RECYCLED: Final = 6
"""A worker drained in order to be replaced."""
FATAL_AT_START: Final = (2, 3, 4)
_RANDOM: Final = SystemRandom().random


class Place:
    """One of the workers that should run, and the process that is it now."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.child: ChildProcess | None = None
        self.deaths = 0
        self.start_at = float("-inf")


class Supervisor:
    """Keeps ``config.processes`` workers running.

    Args:
        config: of the workers.
        command: starts one.
        random: spreads restarts.
    """

    def __init__(
        self,
        config: WorkerConfig,
        command: Sequence[str],
        random: Callable[[], float] = _RANDOM,
    ) -> None:
        self._config = config
        self._command = tuple(command)
        self._random = random
        self._places = [Place(number + 1) for number in range(config.processes)]
        self._ever_up = False
        self._code = EXIT_DRAINED
        self._kill_at: float | None = None
        self._rolling: list[ChildProcess] = []

    def run(self, stop: OsSignals) -> int:
        """Run until an OS signal, or until a worker shows that none can start.

        Args:
            stop: the OS signals.

        Returns: the exit code.
        """
        stop.watch(signal.SIGHUP)
        logger.info("supervising %d workers", len(self._places))
        try:
            while self._kill_at is None or self._children():
                name = stop.wait(TICK_S)
                now = monotonic()
                if name is not None:
                    self._heed(name, now)
                self._turn(now)
        finally:
            for child in self._children():
                child.end()
            self._unhealthy(*(f".{place.number}" for place in self._places), "")
        logger.info("all workers have stopped")
        return self._code

    def _turn(self, now: float) -> None:
        """Look at every place once."""
        for place in self._places:
            child = place.child
            if child is None:
                if self._kill_at is None and now >= place.start_at:
                    self._start(place, now)
                continue
            code = child.ended()
            child.listen(now)  # afterwards, so that no last word is missed
            self._ever_up = self._ever_up or child.up
            if code is not None:
                child.end()
                place.child = None
                self._ended(place, child, code, now)
            else:
                self._watch(child, now)
        self._roll(now)
        self._show_health(now)

    def _children(self) -> list[ChildProcess]:
        return [place.child for place in self._places if place.child is not None]

    def _heed(self, name: str, now: float) -> None:
        """Do what an OS signal asks for."""
        if name == signal.SIGHUP.name and not _at_terminal():
            if self._kill_at is None and not self._rolling:
                logger.info("SIGHUP: recycling the workers, one after the other")
                self._rolling = self._children()
        elif self._kill_at is None:
            logger.info("%s: all workers finish what runs, and take nothing new", name)
            self._stop(now)
        else:
            logger.warning("%s again: stopping at once", name)
            self._kill_at = min(self._kill_at, now + AT_ONCE_S)
            for child in self._children():
                child.tell(signal.SIGTERM, now)

    def _stop(self, now: float) -> None:
        """Have all workers drain, within one grace."""
        drain_s, grace_s = self._config.drain_timeout_s, self._config.stop_grace_s
        # Just before the container's runtime would kill everything, if there is so much time.
        self._kill_at = now + max((drain_s + grace_s) / 2, min(drain_s + SETTLE_S, grace_s - 0.5))
        for child in self._children():
            child.tell(signal.SIGTERM, now)

    def _start(self, place: Place, now: float) -> None:
        if not self._ever_up and place is not self._places[0]:
            return
        try:
            place.child = ChildProcess(place.number, self._command, now)
        except OSError as error:
            self._restart_later(place, 0.0, f"can't be started: {error}", now)
        else:
            logger.info("worker %d started, pid %d", place.number, place.child.pid)

    def _ended(self, place: Place, child: ChildProcess, code: int, now: float) -> None:
        self._unhealthy(f".{place.number}")
        how = how_it_ended(code)
        if self._kill_at is not None:
            logger.info("worker %d (pid %d) ended: %s", place.number, child.pid, how)
            clean = code in (EXIT_DRAINED, EXIT_RECYCLED)
            # An OS signal before Python can catch it, or afterwards, kills: nothing was in hand.
            clean = clean or (code == -signal.SIGTERM and (child.drained or not child.up))
            if not clean and self._code == EXIT_DRAINED:
                self._code = EXIT_DRAIN_TIMEOUT
        elif code in FATAL_AT_START and not self._ever_up:
            self._code = code
            self._stop(now)
        elif code == EXIT_RECYCLED:
            logger.info("worker %d (pid %d) is recycled", place.number, child.pid)
            place.deaths, place.start_at = 0, now
            self._start(place, now)
        else:
            why = "replaced because it hung" if child.hung else f"died: {how}"
            self._restart_later(place, now - child.started_at, f"(pid {child.pid}) {why}", now)

    def _restart_later(self, place: Place, lived_s: float, what: str, now: float) -> None:
        place.deaths = young_deaths(place.deaths, lived_s)
        wait_s = restart_in_s(place.deaths, self._random())
        place.start_at = now + wait_s
        logger.error("worker %d %s; starting another in %.1f s", place.number, what, wait_s)

    def _watch(self, child: ChildProcess, now: float) -> None:
        """End a worker that hangs, or drains for too long."""
        if child.killed:
            return
        if self._kill_at is not None:
            if now >= self._kill_at:
                logger.error("worker %d has not ended in time and is killed", child.number)
                child.kill()
            return
        if child.draining_since is None:
            if now - child.alive_at > (self._config.hung_s if child.up else START_S):
                logger.error(
                    "worker %d (pid %d) has made no progress for %.0f s and is replaced",
                    child.number, child.pid, now - child.alive_at,
                )  # fmt: skip
                child.hung = True
                child.tell(signal.SIGTERM, now)
            return
        patience_s = HUNG_DRAIN_S if child.hung else self._config.drain_timeout_s + SETTLE_S
        if now - child.draining_since > patience_s:
            child.kill()

    def _roll(self, now: float) -> None:
        """Recycle the next one once all are up again."""
        children = self._children()
        if not self._rolling or len(children) < len(self._places):
            return
        if any(not child.up or child.draining_since is not None for child in children):
            return
        child = self._rolling.pop(0)
        if child in children:
            child.tell(signal.SIGHUP, now)

    def _show_health(self, now: float) -> None:
        """Give the health file the age of the poll that is longest ago; nothing without all."""
        path = self._config.health_file
        polled = [child.polled_at for child in self._children()]
        if path is None or len(polled) < len(self._places) or self._kill_at is not None:
            return
        known = [polled_at for polled_at in polled if polled_at is not None]
        if len(known) < len(polled):
            return
        at = time.time() - (now - min(known))
        try:
            Path(path).touch()
            os.utime(path, (at, at))
        except OSError as error:
            logger.warning("the health file can't be touched: %s", error)

    def _unhealthy(self, *endings: str) -> None:
        """Take health files away: who has stopped is not healthy."""
        for ending in endings:
            if self._config.health_file is not None:
                with suppress(OSError):
                    Path(f"{self._config.health_file}{ending}").unlink(missing_ok=True)


def _at_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()
