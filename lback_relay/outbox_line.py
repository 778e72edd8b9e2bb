"""What one process does about the outbox of one database: a queue, a thread, the states of both.

Committed rows come into the queue and leave it in the order of the commits, published and deleted
by the thread. It also looks, now and then, for what processes that are gone have left behind::

    DIRECT   what is committed is queued and published at once
      no answer, a failing database, too many in the queue -> BEHIND
      a refused signal -> that signal is behind, the others stay direct
    BEHIND   nothing is queued: the rows are in the table, and memory stays small
      after a pause: DIRECT, and at once a sweep of the table, which takes this process's own rows
      whoever has claimed them; only then the queue

What can go wrong between: a commit falls into the change from BEHIND to DIRECT: it is queued *and*
swept, and the broker accepts it once. The process forks: the child makes a line of its own; what
the parent has queued is the parent's. The process ends or is killed: the rows are in the table, and
whoever sweeps next publishes them once their claim has run out.

Knows neither SQLAlchemy nor Redis. Durations are seconds.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from tenacity import wait_exponential, wait_random
from tenacity.wait import wait_base

from lback_relay.circuit import pause_s
from lback_relay.errors import RelayError
from lback_relay.outbox_sweep import BATCH, Published, Sweep, described
from lback_relay.throttle import ThrottledLog

if TYPE_CHECKING:
    from sqlalchemy import Engine

SWEEP_EVERY_S: Final = 5.0
"""Between two looks for what others have left."""
MAX_QUEUED: Final = 10_000
"""Rows in memory; beyond it they wait in the table."""
_IF_MISSING: Final = "; if its table is missing, make it: lback-relay outbox --create-table"
_PAUSE: Final[wait_base] = wait_exponential(multiplier=0.1, max=4) + wait_random(0, 1)


class OutboxLine:
    """The line of one process to one database's outbox. Nothing runs before the first wake.

    Attributes:
        pid: the process that it belongs to.
        published: rows that the broker has accepted from this line.
    """

    def __init__(
        self, engine: Engine, sweep: Sweep, *, sweep_every_s: float = SWEEP_EVERY_S
    ) -> None:
        self.pid = os.getpid()
        self.published = 0
        self.claimant = sweep.claimant
        self._log = ThrottledLog(logging.getLogger("lback_relay.outbox"))
        self._engine = engine
        self._sweep = sweep
        self._sweep_every_s = sweep_every_s
        self._queue: deque[tuple[str, str]] = deque()  # envelope's id, signal
        self._behind = False
        self._refused: set[str] = set()
        self._failures = 0
        self._busy = False
        self._alarm: SimpleQueue[None] = SimpleQueue()
        self._starting = threading.RLock()  # a sender may be in an OS-signal handler
        self._thread: threading.Thread | None = None

    def committed(self, envelope_id: str, signal: str) -> None:
        """Publish a row that has just been committed. Returns at once."""
        if not self._behind and signal not in self._refused:
            if len(self._queue) < MAX_QUEUED:
                self._queue.append((envelope_id, signal))
            else:
                self._behind = True
        self.wake()

    def wake(self) -> None:
        """Have the thread look, starting it if there is none."""
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    thread = threading.Thread(
                        target=self._run, name="lback-relay-outbox", daemon=True
                    )
                    self._thread = thread
                    try:
                        thread.start()
                    except RuntimeError as error:  # no threads left, or the interpreter is ending
                        self._thread = None
                        self._log.say(logging.ERROR, "No thread can publish the outbox: %s", error)
                        return
        self._alarm.put(None)

    def flush(self, timeout_s: float) -> bool:
        """Wait until what was committed is published. Returns whether it is."""
        until = time.monotonic() + timeout_s
        while self._queue or self._busy or self._behind or self._refused:
            if time.monotonic() >= until or self._thread is None:
                return False
            time.sleep(0.005)
        return True

    def close(self, timeout_s: float) -> None:
        """Flush, and end the thread. A later commit begins anew."""
        if not self.flush(timeout_s):
            self._log.say(
                logging.WARNING,
                "Signals stay in the outbox: not published within flush_timeout_s (%s s); "
                "the next sweep publishes them",
                timeout_s,
            )
        with self._starting:
            thread, self._thread = self._thread, None
        self._alarm.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=1.0)  # it may be in a call that is not answered

    # the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        thread = threading.current_thread()
        sweep_at = 0.0  # at once: what others have left
        try:
            while self._thread is thread:
                if time.monotonic() >= sweep_at:
                    clean = self._round(self._catch_up)
                    self._failures = 0 if clean else self._failures + 1
                    sweep_at = time.monotonic() + self._pause_s()
                elif self._queue and not self._behind:
                    if not self._round(self._publish_queued):
                        self._failures = max(1, self._failures)
                        # Never later than before: a refused signal must not wait for the others.
                        sweep_at = min(sweep_at, time.monotonic() + self._pause_s())
                else:
                    self._wait(sweep_at)
        finally:
            self._sweep.close()

    def _wait(self, until: float) -> None:
        with suppress(Empty):
            self._alarm.get(timeout=max(0.0, until - time.monotonic()))
            while True:
                self._alarm.get_nowait()

    def _round(self, step: Callable[[], Published]) -> bool:
        """Take a step. Returns whether nothing is left behind."""
        self._busy = True
        try:
            done = step()
        except Exception as error:  # noqa: BLE001 - no failure may end the thread
            self._behind = True
            self._queue.clear()
            self._log.say(
                logging.WARNING,
                "The outbox can't be published now, and will be later: %s%s",
                described(error),
                "" if isinstance(error, RelayError) else _IF_MISSING,
            )
            return False
        else:
            self.published += done.published
            self._refused = done.refused
            return not done.refused
        finally:
            self._busy = False

    def _pause_s(self) -> float:
        if not self._failures:
            return self._sweep_every_s
        return min(pause_s(_PAUSE, self._failures), self._sweep_every_s)

    def _catch_up(self) -> Published:
        """Sweep the table, which holds all that was not queued."""
        thread = self._thread
        # First: a commit that comes after the sweep's look must find the queue open.
        self._behind = False
        self._refused = set()
        return self._sweep.sweep(self._engine, until=lambda: self._thread is not thread)

    def _publish_queued(self) -> Published:
        """Publish the first rows of the queue.

        They are read from the table, which alone knows what was committed: PostgreSQL turns the
        COMMIT of a failed transaction into a rollback, and a session does not tell.
        """
        done = Published(refused=set(self._refused))
        ids: list[str] = []
        while self._queue and len(ids) < BATCH:
            envelope_id, signal = self._queue.popleft()
            if signal not in self._refused:
                ids.append(envelope_id)
        self._sweep.publish_committed(self._engine, ids, done)
        return done
