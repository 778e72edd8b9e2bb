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
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from lback_relay.broker.base import Broker
from lback_relay.circuit import Known
from lback_relay.config import SignalConfig
from lback_relay.lane import Ticket
from lback_relay.sending import Sending
from lback_relay.throttle import ThrottledLog

_log = logging.getLogger("lback_relay.publisher")

_monotonic = time.monotonic


class Line:
    """The line of one process, with its thread.

    Attributes:
        pid: the process that it belongs to.
        sending: what is sent by whoever holds the line.
        dropped: envelopes that found the queue full.
    """

    def __init__(self, connect: Callable[[], Broker], *, max_queued: int) -> None:
        self.pid = os.getpid()
        self.dropped = 0
        self._max_queued = max_queued
        log = ThrottledLog(_log)
        self._say = log.say
        self.sending = Sending(connect, wake=self._wake, log=log)
        self._held = threading.Lock()  # the line itself
        self._asleep = True  # whoever puts an entry must wake the thread
        # Not an Event: its lock would dead-lock a sender in an OS-signal handler or a __del__.
        self._alarm: SimpleQueue[None] = SimpleQueue()
        self._starting = threading.RLock()
        self._thread: threading.Thread | None = None

    # senders ---------------------------------------------------------------------------------

    def put(self, signal: SignalConfig, encoded: bytes) -> None:
        """Queue an envelope and return at once."""
        if len(self.sending.inbox) + self.sending.sorted >= self._max_queued:
            self._overflow(signal)
            return
        self.sending.inbox.append((signal, encoded, None))
        if self._asleep:
            self._wake()

    def put_and_wait(self, signal: SignalConfig, encoded: bytes, timeout_s: float) -> None:
        """Queue an envelope and wait until the broker has it, as long as there is hope.

        Returns within ``timeout_s``; when the broker falls silent during a call that this sender
        makes itself, within half of ``timeout_s`` and what such a call may take, for it begins none
        in the second half.
        """
        lane = self.sending.lanes.get(signal.name)
        if self.sending.circuit.known is Known.DOWN or (lane is not None and lane.refusals):
            self.put(signal, encoded)
            return
        if len(self.sending.inbox) + self.sending.sorted >= self._max_queued:
            self._overflow(signal)
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
                "The broker has not answered within publish_timeout_s (%s s): "
                "the signal stays queued and is sent in the background",
                timeout_s,
                signal=signal.name,
            )

    def _wait_for(self, ticket: Ticket, began_at: float, timeout_s: float) -> None:
        led = False
        while not ticket.settled:
            waited_s = _monotonic() - began_at
            if self.sending.circuit.known is Known.UP and waited_s <= timeout_s / 2:
                if self._held.acquire(blocking=False):
                    led = True
                    try:
                        self.sending.round(begin_until=began_at + timeout_s / 2)
                    finally:
                        self._held.release()
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
            next_ticket = self.sending.inbox[0][2]
        except IndexError:
            if self.sending.sorted and self._asleep:
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
            with self._held:
                self.sending.round()
                pause = self.sending.pause_s()
            if pause == 0 or (pause is None and self.sending.inbox):
                continue
            # An entry for a broker that is away is no reason to wake up.
            self._asleep = pause is None or self.sending.circuit.known is not Known.DOWN
            if self._asleep and self.sending.inbox:  # put before anybody could know of the sleep
                continue
            with suppress(Empty):
                self._alarm.get(timeout=pause)
                while True:
                    self._alarm.get_nowait()
            self._asleep = False

    # the end ---------------------------------------------------------------------------------

    def flush(self, timeout_s: float) -> bool:
        """Send in the caller's own thread what is queued now. Returns whether all of it went."""
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
                gone = all(lanes[name].first_sequence >= end for name, end in ends.items())
                pause = sending.pause_s() or 0.0
            finally:
                self._held.release()
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
                self.sending.queued(),
                flush_timeout_s,
            )
        with self._starting:
            thread, self._thread = self._thread, None
            self._asleep = True
            self._alarm.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=1.0)  # it may be in a call that is not answered
        self.sending.close_broker()
