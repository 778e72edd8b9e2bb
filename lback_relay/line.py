"""The one line from a process to its broker, which concurrent senders share (group commit).

Senders put entries into an inbox. Whoever holds the line (a lock) sorts the inbox into one lane
per signal and sends a batch of each; what others put meanwhile goes with the next batches. A sender
that finds the line free does so itself and pays no thread switch; otherwise it waits for its own
entry. A thread, started when first needed, sends what nobody waits for. ``circuit.py`` has the
states of the broker.

An entry: put -> (inbox) -> sorted -> (lane) -> sent -> accepted, and gone; or sent -> no answer or
refused -> (still in its lane, under the same number) -> spooled -> drained, and gone. Without a
spool, or while it can't be written, it stays in its lane and is sent again; beyond ``max_queued``
entries it is dropped. What can go wrong in between: the reply is lost (the number makes the second
sending harmless); the sender is interrupted, or its time is up (the thread is woken, the entry is
still in its place); a lane is refused (it is spooled, the others go on); the process forks (the
child makes a line of its own), ends (``close`` spools what can't be sent) or is killed (what is
queued in memory is lost, what is spooled is not).

Knows neither Redis nor the modes of publishing. Durations are seconds.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Final

from lback_relay.broker.base import Broker
from lback_relay.circuit import Known
from lback_relay.config import SignalConfig
from lback_relay.errors import SpoolError
from lback_relay.lane import MAX_BATCH, Lane, Ticket
from lback_relay.sending import Sending
from lback_relay.spool import Spool
from lback_relay.spool_drain import Drain, DrainThread
from lback_relay.throttle import ThrottledLog

LOOK_EVERY_S: Final = 5.0
"""Between two looks, by a thread that is awake, for what other processes have left in the spool."""

CALL_SHARE: Final = 0.9
"""Of a waiting sender's time: what a call of the broker may take."""
_LEAD_SHARE: Final = 1 - CALL_SHARE

PAUSE_EVERY: Final = 128
PAUSE_S: Final = 50e-6
"""While more than a batch waits, a sender pauses at every so many: the thread needs the interpreter
several times for a batch, and from somebody who never pauses it gets it after 5 ms each time."""

_log = logging.getLogger("lback_relay.publisher")
_monotonic = time.monotonic


class Line:
    """The line of one process, with its thread.

    Args:
        connect: makes a broker; called when first needed.
        max_queued: entries kept in memory.
        spool: keeps what can't be sent; None keeps it in memory.
        max_backlog: the limit of each signal that has one, for the drain.

    Attributes:
        pid: the process that it belongs to.
        sending: what is sent by whoever holds the line.
        dropped: envelopes that found the queue full and no spool.
        spool: what keeps those that can't be sent, if there is any.
    """

    def __init__(
        self,
        connect: Callable[[], Broker],
        *,
        max_queued: int,
        spool: Spool | None = None,
        max_backlog: Callable[[str], int | None] = lambda _signal: None,
    ) -> None:
        self.pid = os.getpid()
        self.dropped = 0
        self._max_queued = max_queued
        log = ThrottledLog(_log)
        self._say = log.say
        self.spool = spool
        self.sending = Sending(
            connect, wake=self._wake, log=log, spool=spool, drain=self._wake_drain
        )
        self._drain: Drain | None = None
        self._drain_thread: DrainThread | None = None
        if spool is not None:
            self._drain = Drain(
                spool,
                connect,
                max_backlog=max_backlog,
                finishing=self._finishing,
                circuit=self.sending.circuit,
            )
            self._drain_thread = DrainThread(
                spool,
                self._drain,
                self.sending.circuit,
                own_lanes=self._spooled_lanes,
                abandon=self._abandon_spool,
                log=log,
            )
        self._overflowed = Lane()  # who numbers what found the queue full
        self._look_at = 0.0
        self._unusable = ""  # what was said of a spool that can't be used
        self._held = threading.Lock()  # the line itself
        self._asleep = True  # whoever puts an entry must wake the thread
        # Not an Event: its lock would dead-lock a sender in an OS-signal handler or a __del__.
        self._alarm: SimpleQueue[None] = SimpleQueue()
        self._starting = threading.RLock()
        self._thread: threading.Thread | None = None

    # senders ---------------------------------------------------------------------------------

    def put(self, signal: SignalConfig, encoded: bytes) -> None:
        """Queue an envelope and return at once."""
        if self.sending.queued() >= self._max_queued:
            self._overflow(signal, encoded)
            return
        self.sending.inbox.append((signal, encoded, None))
        if self._asleep:
            self._wake()
        elif (queued := len(self.sending.inbox)) >= MAX_BATCH and queued % PAUSE_EVERY == 0:
            time.sleep(PAUSE_S)

    def put_and_wait(self, signal: SignalConfig, encoded: bytes, timeout_s: float) -> None:
        """Queue an envelope and wait until the broker has it, as long as there is hope.

        Returns within ``timeout_s``, also when the broker falls silent during a call that this
        sender makes itself: it begins one in the first tenth only, and a call takes nine tenths at
        most (:data:`CALL_SHARE`).
        """
        lane = self.sending.lanes.get(signal.name)
        hopeless = self.sending.circuit.known is Known.DOWN or (lane is not None and lane.refusals)
        if hopeless and not self.sending.spools(lane):
            self.put(signal, encoded)
            return
        if self.sending.queued() >= self._max_queued:
            self._overflow(signal, encoded)
            return
        began_at = _monotonic()
        ticket = Ticket()
        self.sending.inbox.append((signal, encoded, ticket))
        try:
            self._wait_for(ticket, began_at, timeout_s)
        finally:
            if not ticket.settled:  # time is up, or Ctrl-C: the thread goes on with it
                self._wake()
        if not ticket.settled:
            self._say(
                logging.WARNING,
                "The broker has not answered within %.3g s (see publish_timeout_s): "
                "the signal stays queued and is sent in the background",
                timeout_s, signal=signal.name,
            )  # fmt: skip

    def _wait_for(self, ticket: Ticket, began_at: float, timeout_s: float) -> None:
        led = False
        while not ticket.settled:
            waited_s = _monotonic() - began_at
            if self._may_lead() and waited_s <= timeout_s * _LEAD_SHARE:
                if self._held.acquire(blocking=False):
                    led = True
                    try:
                        self.sending.round(begin_until=began_at + timeout_s * _LEAD_SHARE)
                    finally:
                        self._held.release()
                    continue
            elif self._asleep:
                self._wake()
            if waited_s >= timeout_s or not ticket.wait(timeout_s - waited_s):
                break
        if led:
            self._hand_over()

    def _may_lead(self) -> bool:
        """Return whether a sender may hold the line: no unanswered call is to be feared."""
        return self.sending.circuit.known is Known.UP or self.sending.spools(None)

    def _hand_over(self) -> None:
        """Let the next one send what was put while the line was held: it waits for a knock."""
        try:
            next_ticket = self.sending.inbox[0][2]
        except IndexError:
            if self.sending.sorted and self._asleep:
                self._wake()
            return
        if next_ticket is not None:
            next_ticket.knock()
        elif self._asleep:
            self._wake()

    def _overflow(self, signal: SignalConfig, encoded: bytes) -> None:
        """Spool an envelope that finds the queue full, out of order; without a spool drop it."""
        if self.spool is not None:
            lane = self._overflowed
            try:
                with self._starting:
                    self.spool.append(
                        signal.name, lane.producer_id, lane.first_sequence, signal.delivery,
                        [encoded],
                    )  # fmt: skip
                    lane.first_sequence += 1
                    self.sending.spooled += 1
            except SpoolError as error:
                self.sending.note_spool_failure(error)
            else:
                self._wake_drain()
                return
        with self._starting:
            self.dropped += 1
        self._say(
            logging.ERROR,
            "Dropped a signal: as many as max_queued (%d) wait for the broker already",
            self._max_queued,
            signal=signal.name,
        )

    # the spool -------------------------------------------------------------------------------

    def drained(self) -> int:
        """Return how many envelopes this process has sent from the spool."""
        return 0 if self._drain is None else self._drain.published

    def _wake_drain(self) -> None:
        if self._drain_thread is not None:
            self._drain_thread.wake()

    def _spooled_lanes(self) -> list[tuple[str, str]]:
        lanes = self.sending.lanes
        return [(name, lane.producer_id) for name, lane in lanes.items() if lane.spooled]

    @contextmanager
    def _finishing(self, signal: str, producer_id: str) -> Iterator[None]:
        """Hold the line while the end of a lane of this process leaves the spool."""
        lane = self.sending.lanes.get(signal)
        if lane is None or lane.producer_id != producer_id:
            yield
            return
        try:
            with self._held:
                yield
                lane.direct()
        finally:  # also when the broker has not answered: who found the line held waits
            self._hand_over()

    def _abandon_spool(self, error: SpoolError) -> None:
        with self._held:
            self.sending.note_spool_failure(error)
        self._hand_over()

    def _look_for_left(self) -> None:
        """Drain what processes that are gone have left."""
        if self.spool is None or _monotonic() < self._look_at:
            return
        self._look_at = _monotonic() + LOOK_EVERY_S
        try:
            self.spool.prepare()
            if self.spool.next_lane() is not None:
                self._wake_drain()
        except SpoolError as error:
            if str(error) != self._unusable:  # once: nothing has happened yet
                self._unusable = str(error)
                self._say(logging.WARNING, "Nothing is kept while the broker is away: %s", error)

    # the thread ------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Have the thread look at the queue, starting it if there is none."""
        with self._starting:
            self._asleep = False
            thread = self._thread
            if thread is None or not thread.is_alive():
                name = "lback-relay-publisher"
                self._thread = thread = threading.Thread(target=self._run, name=name, daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # no threads left, or the interpreter is ending
                    self._thread = None
                    self._asleep = True
                    self._say(
                        logging.WARNING,
                        "No thread can be started to send signals, which leave at the end: %s",
                        error,
                    )
                    return
        self._alarm.put(None)

    def _run(self) -> None:
        try:
            self._send_until_closed(threading.current_thread())
        finally:
            with self._starting:
                if self._thread in {None, threading.current_thread()}:  # no other one is in charge
                    self._thread = None
                    self._asleep = True

    def _send_until_closed(self, thread: threading.Thread) -> None:
        while self._thread is thread:
            self._look_for_left()
            with self._held:
                self.sending.round()
                pause = self.sending.pause_s()
            if pause == 0 or (pause is None and self.sending.inbox):
                continue
            # An entry for a broker that is away is no reason to wake up, but for the spool.
            self._asleep = (
                pause is None
                or self.sending.circuit.known is not Known.DOWN
                or self.sending.spools(None)
            )
            if self._asleep and self.sending.inbox:  # put before anybody could know of the sleep
                continue
            with suppress(Empty):
                self._alarm.get(timeout=pause)
                while True:
                    self._alarm.get_nowait()
            self._asleep = False

    # the end ---------------------------------------------------------------------------------

    def flush(self, timeout_s: float, *, keep: bool = False) -> bool:
        """Send in the caller's own thread what is queued now.

        Args:
            timeout_s: longest wait.
            keep: whether the spool is good enough while the broker does not answer.

        Returns: whether all of it went to the broker.
        """
        sending = self.sending
        until = _monotonic() + timeout_s
        ends: dict[str, int] | None = None
        while self._held.acquire(timeout=max(0.0, until - _monotonic())):
            try:
                if ends is None:
                    sending.sort_inbox()
                    ends = {name: lane.end_sequence for name, lane in sending.lanes.items()}
                    sending.retry_now()
                sending.round()
                lanes = sending.lanes
                safe = all(lanes[name].first_sequence >= end for name, end in ends.items())
                gone = safe and not any(lanes[name].spooled for name in ends)
                pause = sending.pause_s()
            finally:
                self._held.release()
                self._hand_over()
            left_s = until - _monotonic()
            if gone or left_s <= 0 or (keep and safe and sending.circuit.known is Known.DOWN):
                return gone
            # While the drain is at it there is nothing to do here.
            time.sleep(min(0.01 if pause is None else pause, left_s))
        return False

    def close(self, flush_timeout_s: float) -> None:
        """Flush or spool, end the threads, close the connection. Sending afterwards begins anew."""
        if not self.flush(flush_timeout_s, keep=True):
            self._keep_the_rest(flush_timeout_s)
        with self._starting:
            thread, self._thread = self._thread, None
            self._asleep = True
            self._alarm.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=1.0)  # it may be in a call that is not answered
        self.sending.close_broker()
        if self._drain_thread is not None:
            self._drain_thread.stop()
        if self.spool is not None:
            self.spool.close()

    def _keep_the_rest(self, flush_timeout_s: float) -> None:
        """Spool what the broker has not taken in time, and say what becomes of it."""
        if self._held.acquire(timeout=1.0):  # a call that is not answered may hold it
            try:
                self.sending.spool_all()
            finally:
                self._held.release()
                self._hand_over()
        queued = self.sending.queued()
        if queued:
            self._say(
                logging.ERROR,
                "Not sent within flush_timeout_s: %d signals, after %s s; "
                "they are lost if the process ends now",
                queued, flush_timeout_s,
            )  # fmt: skip
        elif self.spool is not None:
            self._say(
                logging.WARNING,
                "Signals stay in the spool; the next process that sends here, or "
                "'lback-relay spool drain', sends them",
            )
