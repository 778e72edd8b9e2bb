"""Publish what is in a spool, in the order of each producer, by one process of the host at a time.

The states of a drain, and what leads from one to the next::

    IDLE      nothing in the file                    -wake-> WAITING
    WAITING   another process holds the drain lock   -it is free, or ended-> DRAINING
    DRAINING  lane after lane, batch after batch     -nothing left-> IDLE
              no answer: a pause, then again; a refused signal: a pause of its own

The lock (``drain_lock.py``) only spares double work: rows are published under the numbers of their
producer, so that two drains at once, or one that is killed between publishing and removing, double
nothing.

While the file can't be written, what was published is remembered instead of removed.

Knows neither Redis nor the line of the process. Durations are seconds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Final

from lback_relay.broker.base import Broker
from lback_relay.circuit import Circuit, pause_s
from lback_relay.drain_lock import DrainLock
from lback_relay.envelope import BROADCAST, QUEUE
from lback_relay.errors import BrokerError, BrokerUnavailable, SpoolDamaged, SpoolError
from lback_relay.lane import MAX_BATCH, MAX_BATCH_BYTES, WAIT_FOR_ROOM
from lback_relay.spool import Batch, Spool
from lback_relay.throttle import ThrottledLog

LOOK_EVERY_S: Final = 0.2
"""Between two looks whether another process has drained what this one put into the spool."""
PAUSE_S: Final = 1.0
"""Before the next look at a spool that can't be used."""

Finishing = Callable[[str, str], AbstractContextManager[None]]
"""Given a signal and a producer; within it nothing is added to that lane, at whose end it is."""


class Drain:
    """One drain of one spool, for one thread at a time.

    Args:
        spool: what is drained.
        connect: makes the broker when it is first needed.
        max_backlog: the limit of each signal that has one.
        finishing: see :data:`Finishing`.
        circuit: told of each answer.

    Attributes:
        published: envelopes published so far.
    """

    def __init__(
        self,
        spool: Spool,
        connect: Callable[[], Broker],
        *,
        max_backlog: Callable[[str], int | None] = lambda _signal: None,
        finishing: Finishing = lambda _signal, _producer: nullcontext(),
        circuit: Circuit | None = None,
    ) -> None:
        self.published = 0
        self._spool = spool
        self._connect = connect
        self._max_backlog = max_backlog
        self._finishing = finishing
        self._circuit = circuit
        self._broker: Broker | None = None
        self._max_batch = MAX_BATCH
        self._answered = False  # the last call was
        self._published: dict[tuple[str, str], int] = {}  # not removed yet: the last number
        self._spool_error: SpoolError | None = None

    def one_pass(
        self,
        *,
        skip: frozenset[str] = frozenset(),
        until: Callable[[], bool] = lambda: False,
        progress: Callable[[], None] = lambda: None,
    ) -> dict[str, BrokerError]:
        """Publish all that is there, but for signals that are refused.

        Args:
            skip: signals to leave alone.
            until: asked between batches whether to stop.
            progress: called after each batch.

        Returns: the signals that were refused, and why.

        Raises:
            BrokerUnavailable: no answer; what was not published is still there.
            SpoolError: the file can't be read, or what was published not be removed (it was
                published all the same, and will not be again).
        """
        refused: dict[str, BrokerError] = {}
        lane = self._spool.next_lane()
        while lane is not None and not until():
            signal, producer = lane
            if signal not in skip and signal not in refused:
                try:
                    self.drain_lane(signal, producer, until=until, progress=progress)
                except BrokerUnavailable:
                    raise
                except BrokerError as error:
                    refused[signal] = error
            lane = self._spool.next_lane(lane)
        failure, self._spool_error = self._spool_error, None
        if failure is not None:
            raise failure
        return refused

    def drain_lane(
        self,
        signal: str,
        producer: str,
        *,
        only_end: bool = False,
        until: Callable[[], bool] = lambda: False,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        """Publish what one producer has spooled of a signal.

        Args:
            signal: the signal's name.
            producer: the producer's id.
            only_end: do nothing unless one batch is all that is left.
            until: asked between batches whether to stop.
            progress: called after each batch.

        Raises:
            BrokerError: as of publishing.
            SpoolError: the file can't be read.
        """
        if (signal, producer) in self._published:
            self._remove(signal, producer)
        # Nobody waits for a call that may not be answered: the end is sent by a second one.
        while (batch := self._next(signal, producer)) and not (batch.whole and self._answered):
            if (only_end and not batch.whole) or until():
                return
            self._publish(signal, producer)
            progress()
        with self._finishing(signal, producer):
            while self._publish(signal, producer):
                progress()

    def _next(self, signal: str, producer: str) -> Batch | None:
        return self._spool.batch(
            signal,
            producer,
            after=self._published.get((signal, producer), -1),
            max_count=self._max_batch,
            max_bytes=MAX_BATCH_BYTES,
        )

    def _publish(self, signal: str, producer: str) -> bool:
        """Publish and remove the next batch. Returns whether there was one."""
        batch = self._next(signal, producer)
        if batch is None:
            return False
        self._answered = False
        try:
            if self._broker is None:
                self._broker = self._connect()
            self._broker.publish(
                signal,
                batch.encoded,
                producer_id=producer,
                first_sequence=batch.first_sequence,
                queue=QUEUE in batch.delivery,
                broadcast=BROADCAST in batch.delivery,
                max_backlog=self._max_backlog(signal),
            )
        except BrokerUnavailable:
            self._max_batch = max(1, self._max_batch // 2)
            raise
        self._answered = True
        if self._circuit is not None:
            self._circuit.answered()
        self._max_batch = min(MAX_BATCH, self._max_batch * 2)
        self._published[signal, producer] = batch.last_sequence
        self.published += len(batch.encoded)
        self._remove(signal, producer)
        return True

    def _remove(self, signal: str, producer: str) -> None:
        try:
            self._spool.remove(signal, producer, self._published[signal, producer])
        except SpoolError as error:
            self._spool_error = error
        else:
            del self._published[signal, producer]

    def close(self) -> None:
        """Close the connection to the broker; a later pass opens one."""
        broker, self._broker = self._broker, None
        if broker is not None:
            with suppress(Exception):
                broker.close()


class DrainThread:
    """Drains a spool whenever there is something in it; the thread lives no longer than that.

    Args:
        spool: what is drained.
        drain: what does it.
        circuit: what is known of the broker.
        own_lanes: this process's lanes that go through the spool now.
        abandon: called when the spool is damaged: nothing may wait for it any more.
        log: where it is said.
    """

    def __init__(
        self,
        spool: Spool,
        drain: Drain,
        circuit: Circuit,
        *,
        own_lanes: Callable[[], list[tuple[str, str]]],
        abandon: Callable[[SpoolError], None],
        log: ThrottledLog,
    ) -> None:
        self._told = 0  # of those published
        self._spool = spool
        self._drain = drain
        self._circuit = circuit
        self._own_lanes = own_lanes
        self._abandon = abandon
        self._log = log
        self._lock = DrainLock(spool.path)
        self._starting = threading.RLock()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._refusals: dict[str, tuple[int, float]] = {}  # in a row, not before

    def wake(self) -> None:
        """Have the spool drained, if nobody does so already."""
        if self._thread is not None:
            return
        with self._starting:
            if self._thread is not None:
                return
            self._stopped = threading.Event()
            thread = threading.Thread(target=self._run, name="lback-relay-spool", daemon=True)
            self._thread = thread
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending: another process drains it
                self._thread = None

    def stop(self) -> None:
        """End the thread after its current call. What is in the spool stays there."""
        with self._starting:
            thread = self._thread
            self._stopped.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=1.0)

    def _run(self) -> None:
        stopped = self._stopped
        try:
            while not stopped.is_set():
                pause = self._step(stopped)
                if pause is None:
                    with self._starting:  # what is spooled from now on starts another thread
                        if self._own_lanes() or (self._lock.held and self._spool_has_rows()):
                            continue
                        self._thread = None
                        return
                stopped.wait(pause)
        finally:
            with self._starting:
                if self._thread in {None, threading.current_thread()}:
                    self._thread = None
            self._lock.release()
            self._drain.close()

    def _spool_has_rows(self) -> bool:
        with suppress(SpoolError):
            return self._spool.next_lane() is not None
        return True

    def _step(self, stopped: threading.Event) -> float | None:
        """Take one step. Returns the pause after it; None when nothing is left to do."""
        try:
            self._spool.force()
        except SpoolError as error:  # what can be read can be sent
            self._log.say(logging.ERROR, "The spool may not survive a power failure: %s", error)
        wait_s = self._circuit.retry_at - time.monotonic()
        if wait_s > 0:
            return min(wait_s, 1.0)
        try:
            return self._drain_once(stopped)
        except BrokerUnavailable as error:
            self._circuit.unanswered(time.monotonic())
            text = "The broker does not answer; signals wait in the spool: %s"
            self._log.say(logging.WARNING, text, error)
            return 0.01
        except SpoolDamaged as error:
            self._abandon(error)
            return 60 * PAUSE_S
        except SpoolError as error:
            self._log.say(logging.ERROR, "The spool can't be drained now: %s", error)
            with suppress(SpoolError, BrokerError):
                # Where all was published but can't be removed, nobody has to wait for it.
                self._end_own_lanes()
        except BrokerError as error:
            self._log.say(logging.ERROR, "The broker refused a signal of the spool: %s", error)
        except Exception as error:  # noqa: BLE001 - no failure may end the thread
            self._log.say(logging.ERROR, "The spool can't be drained now", error=error)
        return PAUSE_S

    def _drain_once(self, stopped: threading.Event) -> float | None:
        if not self._lock.take():
            self._end_own_lanes()
            return LOOK_EVERY_S if self._own_lanes() else None
        now = time.monotonic()
        resting = frozenset(name for name, (_, at) in self._refusals.items() if at > now)
        self._note_refusals(self._drain.one_pass(skip=resting, until=stopped.is_set))
        if self._refusals:
            return LOOK_EVERY_S
        self._end_own_lanes()  # those of which others have removed the last rows
        if not stopped.is_set() and not self._spool_has_rows():
            self._spool.shrink()
            sent, self._told = self._drain.published - self._told, self._drain.published
            text = "The spool is empty again: %d signals of it were sent"
            self._log.say(logging.WARNING, text, sent)
        return None

    def _end_own_lanes(self) -> None:
        """Go back to the broker where at most one batch is left in the spool."""
        for signal, producer in self._own_lanes():
            self._drain.drain_lane(signal, producer, only_end=True)

    def _note_refusals(self, refused: dict[str, BrokerError]) -> None:
        now = time.monotonic()
        for signal, error in refused.items():
            count = self._refusals.get(signal, (0, 0.0))[0] + 1
            self._refusals[signal] = (count, now + pause_s(WAIT_FOR_ROOM, count))
            self._log.say(
                logging.ERROR,
                "The broker refused a signal of the spool, which will be tried again: %s",
                error,
                signal=signal,
            )
        self._refusals = {name: each for name, each in self._refusals.items() if each[1] > now}
