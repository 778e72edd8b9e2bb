"""The one line from a process to its broker, which concurrent senders share (group commit).

Senders put entries into an inbox. Whoever holds the line (a lock) sorts the inbox into one lane
per signal and sends a batch of each; what others put meanwhile goes with the next batches. A sender
that finds the line free does so itself and pays no thread switch; otherwise it waits for its own
entry. A thread, started when first needed, sends what nobody waits for. ``circuit.py`` has the
states of the broker.

An entry: put -> (inbox) -> sorted -> (lane) -> sent -> accepted, and gone; or sent -> no answer or
refused -> (still in its lane, under the same number) -> sent again; or, at ``max_queued``, dropped.
What can go wrong in between: the reply is lost (the number makes the second sending harmless); the
sender is interrupted, or its time is up (the thread is woken, the entry is still in its place); a
lane is refused (it pauses, the others go on); the process forks (the child makes a line of its own)
or ends (``close``; a killed process loses what is queued).

Knows neither Redis nor the modes of publishing. Durations are seconds.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from uuid import uuid4

from lback_relay.broker.base import Broker
from lback_relay.circuit import Circuit, Known
from lback_relay.config import SignalConfig
from lback_relay.envelope import BROADCAST, QUEUE
from lback_relay.errors import BrokerError, BrokerUnavailable, RelayError
from lback_relay.lane import Entry, Lane, Ticket
from lback_relay.throttle import ThrottledLog

_log = logging.getLogger("lback_relay.publisher")

_monotonic = time.monotonic


class Line:
    """Everything of one process: inbox, lanes, connection, thread.

    Attributes:
        pid: the process that it belongs to.
        producer_id: under which this process numbers its envelopes.
        published, dropped, failed: envelopes accepted by the broker; envelopes dropped because the
            queue was full; calls of the broker that failed.
    """

    def __init__(self, connect: Callable[[], Broker], *, max_queued: int) -> None:
        self.pid = os.getpid()
        self.producer_id = uuid4().hex
        self.published = 0
        self.dropped = 0
        self.failed = 0
        self._connect = connect
        self._max_queued = max_queued
        self._broker: Broker | None = None
        self._circuit = Circuit()
        self._inbox: deque[Entry] = deque()
        self._lanes: dict[str, Lane] = {}
        self._sorted = 0  # entries in all lanes
        self._sending = threading.Lock()  # the line itself
        self._asleep = True  # whoever puts an entry must wake the thread
        # Not an Event: its lock would dead-lock a sender in an OS-signal handler or a __del__.
        self._alarm: SimpleQueue[None] = SimpleQueue()
        self._starting = threading.RLock()
        self._thread: threading.Thread | None = None
        self._say = ThrottledLog(_log).say

    # senders ---------------------------------------------------------------------------------

    def put(self, signal: SignalConfig, encoded: bytes) -> None:
        """Queue an envelope and return at once."""
        if len(self._inbox) + self._sorted >= self._max_queued:
            self._overflow(signal)
            return
        self._inbox.append((signal, encoded, None))
        if self._asleep:
            self._wake()

    def put_and_wait(self, signal: SignalConfig, encoded: bytes, timeout_s: float) -> None:
        """Queue an envelope and wait until the broker has it, as long as there is hope.

        Returns within ``timeout_s``; when the broker falls silent during a call that this sender
        makes itself, within half of ``timeout_s`` and what such a call may take, for it begins none
        in the second half.
        """
        lane = self._lanes.get(signal.name)
        if self._circuit.known is Known.DOWN or (lane is not None and lane.refusals):
            self.put(signal, encoded)
            return
        if len(self._inbox) + self._sorted >= self._max_queued:
            self._overflow(signal)
            return
        began_at = _monotonic()
        ticket = Ticket()
        self._inbox.append((signal, encoded, ticket))
        try:
            self._wait_for(ticket, began_at, timeout_s)
        finally:
            if not ticket.settled:  # time is up, or Ctrl-C: the thread goes on with it
                self._wake()
        if not ticket.settled:
            self._say(
                logging.WARNING,
                "The broker has not answered within publish_timeout_s (%s s): "
                "the signal stays queued and is sent in the background",
                timeout_s,
                signal=signal.name,
            )

    def _wait_for(self, ticket: Ticket, began_at: float, timeout_s: float) -> None:
        led = False
        while not ticket.settled:
            waited_s = _monotonic() - began_at
            if self._circuit.known is Known.UP and waited_s <= timeout_s / 2:
                if self._sending.acquire(blocking=False):
                    led = True
                    try:
                        self._send_round(begin_until=began_at + timeout_s / 2)
                    finally:
                        self._sending.release()
                    continue
            elif self._asleep:
                self._wake()
            if waited_s >= timeout_s or not ticket.wait(timeout_s - waited_s):
                break
        if led:
            self._hand_over()

    def _hand_over(self) -> None:
        """Let the next one send what was put while this sender held the line."""
        try:
            next_ticket = self._inbox[0][2]
        except IndexError:
            if self._sorted and self._asleep:
                self._wake()
            return
        if next_ticket is not None:
            next_ticket.knock()
        elif self._asleep:
            self._wake()

    def _overflow(self, signal: SignalConfig) -> None:
        """Drop an envelope that finds the queue full. The spool will take it here."""
        with self._starting:
            self.dropped += 1
        self._say(
            logging.ERROR,
            "Dropped a signal: as many as max_queued (%d) wait for the broker already",
            self._max_queued,
            signal=signal.name,
        )

    # whoever holds the line ------------------------------------------------------------------

    def _send_round(self, begin_until: float = math.inf) -> None:
        """Send one batch of each lane that may be tried now, beginning none after an instant."""
        self._sort_inbox()
        now = _monotonic()
        if self._circuit.retry_at > now:
            return
        for name, lane in self._lanes.items():
            if not lane.entries or lane.retry_at > now:
                continue
            if not self._send_batch(name, lane) or _monotonic() > begin_until:
                return

    def _sort_inbox(self) -> None:
        for _ in range(len(self._inbox)):
            entry = self._inbox.popleft()
            name = entry[0].name
            lane = self._lanes.get(name)
            if lane is None:
                # Copied, because senders and counts() look at the lanes meanwhile.
                lane = Lane()
                self._lanes = {**self._lanes, name: lane}
            lane.entries.append(entry)
            self._sorted += 1

    def _send_batch(self, name: str, lane: Lane) -> bool:
        """Send a lane's next batch. Returns whether the broker has answered, be it a refusal."""
        batch = lane.batch()
        signal = batch[0][0]
        try:
            if self._broker is None:
                self._broker = self._connect()
            self._broker.publish(
                name,
                [encoded for _, encoded, _ in batch],
                producer_id=self.producer_id,
                first_sequence=lane.first_sequence,
                queue=QUEUE in signal.delivery,
                broadcast=BROADCAST in signal.delivery,
                max_backlog=signal.max_backlog,
            )
        except BrokerUnavailable as error:
            lane.unanswered()
            self._note_silence(error)
            return False
        except Exception as error:  # noqa: BLE001 - no failure of a broker may end the thread
            self._note_refusal(name, lane, error)
            return True
        except BaseException:  # an interrupted call: its answer must not be read as the next one's
            self._close_broker()
            raise
        self._circuit.answered()
        lane.accepted(len(batch))
        self._sorted -= len(batch)
        self.published += len(batch)
        for _, _, ticket in batch:
            if ticket is not None:
                ticket.settle()
        return True

    def _note_silence(self, error: BrokerUnavailable) -> None:
        self.failed += 1
        self._circuit.unanswered(_monotonic())
        if self._circuit.known is not Known.DOWN:
            self._wake()
            return
        self._say(
            logging.WARNING,
            "The broker does not answer; what is queued (now %d signals) will be sent later: %s",
            self.queued(),
            error,
        )
        for lane in self._lanes.values():
            lane.release_waiting()

    def _note_refusal(self, name: str, lane: Lane, error: Exception) -> None:
        self.failed += 1
        self._say(
            logging.ERROR,
            "The broker refused a signal; what is queued of it (now %d) will be tried again: %s",
            len(lane.entries),
            error,
            signal=name,
            error=None if isinstance(error, RelayError) else error,
        )
        if isinstance(error, BrokerError):
            self._circuit.answered()
        lane.refused(_monotonic())
        self._wake()

    def _pause_s(self) -> float | None:
        """Return how long there is nothing to try; None while nothing is sorted at all."""
        due = [lane.retry_at for lane in self._lanes.values() if lane.entries]
        if not due:
            return None
        return max(0.0, max(min(due), self._circuit.retry_at) - _monotonic())

    # the thread ------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Have the thread look at the queue, starting it if there is none."""
        with self._starting:
            self._asleep = False
            thread = self._thread
            if thread is None or not thread.is_alive():
                thread = threading.Thread(
                    target=self._run, name="lback-relay-publisher", daemon=True
                )
                self._thread = thread
                try:
                    thread.start()
                except RuntimeError as error:  # no threads left, or the interpreter is ending
                    self._thread = None
                    self._asleep = True
                    self._say(logging.ERROR, "No thread can be started to send signals: %s", error)
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
            with self._sending:
                self._send_round()
                pause = self._pause_s()
            if pause == 0 or (pause is None and self._inbox):
                continue
            # Only an entry for a broker that is away needs no waking up for.
            self._asleep = self._circuit.known is not Known.DOWN or pause is None
            if self._asleep and self._inbox:  # put before it was said that a waking is needed
                continue
            with suppress(Empty):
                self._alarm.get(timeout=pause)
                while True:
                    self._alarm.get_nowait()
            self._asleep = False

    # the end ---------------------------------------------------------------------------------

    def queued(self) -> int:
        """Return how many envelopes wait for the broker."""
        return len(self._inbox) + self._sorted

    def flush(self, timeout_s: float) -> bool:
        """Send in the caller's own thread what is queued now. Returns whether all of it went."""
        until = _monotonic() + timeout_s
        ends: dict[str, int] | None = None
        while self._sending.acquire(timeout=max(0.0, until - _monotonic())):
            try:
                if ends is None:
                    self._sort_inbox()
                    ends = {name: lane.end_sequence for name, lane in self._lanes.items()}
                    self._retry_now()
                self._send_round()
                gone = all(self._lanes[name].first_sequence >= end for name, end in ends.items())
                pause = self._pause_s() or 0.0
            finally:
                self._sending.release()
            left_s = until - _monotonic()
            if gone or left_s <= 0:
                return gone
            time.sleep(min(pause, left_s))
        return False

    def close(self, flush_timeout_s: float) -> None:
        """Flush, end the thread, close the connection. Sending afterwards begins anew."""
        if not self.flush(flush_timeout_s):
            self._say(
                logging.ERROR,
                "Not sent within flush_timeout_s: %d signals, after %s s; "
                "they are lost if the process ends now",
                self.queued(),
                flush_timeout_s,
            )
        with self._starting:
            thread, self._thread = self._thread, None
            self._asleep = True
            self._alarm.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=1.0)  # it may be in a call that is not answered
        self._close_broker()

    def _retry_now(self) -> None:
        self._circuit.retry_at = 0.0
        for lane in self._lanes.values():
            lane.retry_at = 0.0

    def _close_broker(self) -> None:
        if self._broker is not None:
            with suppress(Exception):
                self._broker.close()
