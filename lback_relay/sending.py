"""What the holder of the line does: sort the inbox into lanes and send or spool a batch of each.

A lane is spooled while the broker does not answer or refuses its signal, and until the broker has
all of it (``lane.py``). Where there is no spool, or while it can't be written, the entries stay in
memory, and the broker is tried again and again.

One thread at a time calls these methods, the one that holds the line (``line.py``); others may put
entries into the inbox and read the attributes meanwhile. The steps are ordered so that an OS-signal
handler that raises between two of them may double an envelope but never lose one. Knows neither
Redis nor threads. Instants are seconds of the monotonic clock.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from lback_relay.broker.base import Broker
from lback_relay.circuit import Circuit, Known
from lback_relay.envelope import BROADCAST, QUEUE
from lback_relay.errors import (
    BrokerError,
    BrokerUnavailable,
    NumbersSpent,
    RelayError,
    SpoolDamaged,
    SpoolError,
)
from lback_relay.lane import Entry, Lane
from lback_relay.spool import Spool
from lback_relay.throttle import ThrottledLog

SPOOL_PAUSE_S: Final = 1.0
"""Before the next try of a spool that could not be written."""


class Sending:
    """Inbox, lanes and connection of one process.

    Args:
        connect: makes the broker when it is first needed.
        wake: has the thread look at the queue; called where something must be sent again.
        log: where failures are said.
        spool: keeps what can't be sent; None keeps it in memory.
        drain: has the spool drained; called after each write.

    Attributes:
        inbox: entries not yet sorted; any thread may append.
        lanes: signal to its entries; replaced, not changed, when a signal is new.
        sorted: number of entries in all lanes.
        circuit: what is known of the broker.
        published, failed: envelopes accepted by the broker; calls of it that failed.
        spooled, spool_failed: envelopes written to the spool; writes of it that failed.
    """

    def __init__(
        self,
        connect: Callable[[], Broker],
        *,
        wake: Callable[[], None],
        log: ThrottledLog,
        spool: Spool | None = None,
        drain: Callable[[], None] = lambda: None,
    ) -> None:
        self.inbox: deque[Entry] = deque()
        self.lanes: dict[str, Lane] = {}
        self.sorted = 0
        self.circuit = Circuit()
        self.published = 0
        self.failed = 0
        self.spooled = 0
        self.spool_failed = 0
        self._spool = spool
        self._spool_at = 0.0  # not to be tried before
        self._drain = drain
        self._connect = connect
        self._broker: Broker | None = None
        self._wake = wake
        self._say = log.say

    def queued(self) -> int:
        """Return how many envelopes wait for the broker."""
        return len(self.inbox) + self.sorted

    def round(self, begin_until: float = math.inf) -> None:
        """Send or spool one batch of each lane that may be tried now.

        Args:
            begin_until: no call of the broker is begun after this instant.
        """
        self.sort_inbox()
        for name, lane in self.lanes.items():
            if not lane.entries:
                continue
            if self.spools(lane):
                self._spool_batch(name, lane)
                continue
            now = time.monotonic()
            if lane.spooled or max(self.circuit.retry_at, lane.retry_at) > now:
                continue
            if now > begin_until or not self._send_batch(name, lane):
                return

    def spools(self, lane: Lane | None) -> bool:
        """Return whether a lane's next entry would go to the spool; None stands for a new lane."""
        if self._spool is None or self._spool_at > time.monotonic():
            return False
        return self.circuit.known is Known.DOWN or (
            lane is not None and (lane.spooled or lane.refusals > 0)
        )

    def sort_inbox(self) -> None:
        """Put each entry into the lane of its signal."""
        for _ in range(len(self.inbox)):
            entry = self.inbox[0]
            name = entry[0].name
            lane = self.lanes.get(name)
            if lane is None:
                # Copied, because senders and counts() look at the lanes meanwhile.
                lane = Lane()
                self.lanes = {**self.lanes, name: lane}
            lane.entries.append(entry)
            self.inbox.popleft()
            self.sorted += 1

    def _send_batch(self, name: str, lane: Lane) -> bool:
        """Send a lane's next batch. Returns whether the broker has answered, be it a refusal."""
        batch = lane.batch()
        signal = batch[0][0]
        try:
            if self._broker is None:
                self._broker = self._connect()
            again = lane.give(len(batch))
            self._broker.publish(
                name,
                [encoded for _, encoded, _ in batch],
                producer_id=lane.producer_id,
                first_sequence=lane.first_sequence,
                queue=QUEUE in signal.delivery,
                broadcast=BROADCAST in signal.delivery,
                max_backlog=signal.max_backlog,
                fresh=not (again or lane.refusals),
            )
        except BrokerUnavailable as error:
            lane.unanswered()
            self._note_silence(error)
            return False
        except Exception as error:  # noqa: BLE001 - no failure of a broker may end the thread
            self._note_refusal(name, lane, error)
            return True
        except BaseException:  # an interrupted call: its answer must not be read as the next one's
            self.close_broker()
            raise
        self.circuit.answered()
        self.published += len(batch)
        self._accepted(lane, batch)
        return True

    def _accepted(self, lane: Lane, batch: list[Entry]) -> None:
        """Let go of entries that are safe elsewhere, and end the waits for them."""
        lane.accepted(len(batch))
        self.sorted = sum([len(lane.entries) for lane in self.lanes.values()])
        for _, _, ticket in batch:
            if ticket is not None:
                ticket.settle()

    def _spool_batch(self, name: str, lane: Lane) -> None:
        """Write a lane's next batch to the spool."""
        assert self._spool is not None  # noqa: S101 - spools() has said so
        batch = lane.batch()
        lane.give(len(batch))
        try:
            self._spool.append(
                name,
                lane.producer_id,
                lane.first_sequence,
                batch[0][0].delivery,
                [encoded for _, encoded, _ in batch],
            )
        except SpoolError as error:
            self.note_spool_failure(error)
            lane.release_waiting()
            self._wake()
            return
        lane.spooled = True
        self.spooled += len(batch)
        self._accepted(lane, batch)
        self._drain()

    def spool_all(self) -> None:
        """Spool what is queued, as far as there is a spool that can be written."""
        self.sort_inbox()
        if self._spool is None:
            return
        for name, lane in self.lanes.items():
            self._spool_at = 0.0
            while lane.entries and not self._spool_at:
                self._spool_batch(name, lane)

    def note_spool_failure(self, error: SpoolError) -> None:
        """Leave the spool alone for a while, and keep in memory what comes."""
        self.spool_failed += 1
        self._spool_at = time.monotonic() + SPOOL_PAUSE_S
        self._say(
            logging.ERROR,
            "Signals stay in memory (now %d), and are lost if the process ends now: %s",
            self.queued(),
            error,
        )
        if isinstance(error, SpoolDamaged):
            for lane in self.lanes.values():
                if lane.spooled:
                    lane.direct()

    def _note_silence(self, error: BrokerUnavailable) -> None:
        self.failed += 1
        self.circuit.unanswered(time.monotonic())
        if self.circuit.known is not Known.DOWN:
            self._wake()
            return
        self._say(
            logging.WARNING,
            "The broker does not answer; what is queued (now %d signals) will be sent later: %s",
            self.queued(),
            error,
        )
        self.sort_inbox()  # who has come during the call need not wait for the next one
        if self.spools(None):
            self._wake()
            return
        for lane in self.lanes.values():
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
            self.circuit.answered()
        if isinstance(error, NumbersSpent):
            lane.renumber()
        lane.refused(time.monotonic())
        if not self.spools(lane):
            lane.release_waiting()
        self._wake()

    def pause_s(self) -> float | None:
        """Return how long there is nothing to try; None while nothing is sorted at all."""
        due = [self._due_at(lane) for lane in self.lanes.values() if lane.entries]
        if not due:
            return None
        return max(0.0, min(due) - time.monotonic())

    def _due_at(self, lane: Lane) -> float:
        if self.spools(lane):
            return 0.0
        if lane.spooled:
            return self._spool_at
        broker_at = max(lane.retry_at, self.circuit.retry_at)
        may_spool = self._spool is not None and self._spool_at > time.monotonic()
        return min(broker_at, self._spool_at) if may_spool else broker_at

    def retry_now(self) -> None:
        """Let the next round try everything, however lately it has failed."""
        self.circuit.retry_at = 0.0
        self._spool_at = 0.0
        for lane in self.lanes.values():
            lane.retry_at = 0.0

    def close_broker(self) -> None:
        """Close the connection; the next round opens one."""
        if self._broker is not None:
            with suppress(Exception):
                self._broker.close()
