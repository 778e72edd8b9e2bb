"""What the holder of the line does: sort the inbox into lanes and send a batch of each.

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
from uuid import uuid4

from lback_relay.broker.base import Broker
from lback_relay.circuit import Circuit, Known
from lback_relay.envelope import BROADCAST, QUEUE
from lback_relay.errors import BrokerError, BrokerUnavailable, RelayError
from lback_relay.lane import Entry, Lane
from lback_relay.throttle import ThrottledLog


class Sending:
    """Inbox, lanes and connection of one process.

    Args:
        connect: makes the broker when it is first needed.
        wake: has the thread look at the queue; called where something must be sent again.
        log: where failures are said.

    Attributes:
        inbox: entries not yet sorted; any thread may append.
        lanes: signal to its entries; replaced, not changed, when a signal is new.
        sorted: number of entries in all lanes.
        circuit: what is known of the broker.
        published, failed: envelopes accepted by the broker; calls of it that failed.
    """

    def __init__(
        self, connect: Callable[[], Broker], *, wake: Callable[[], None], log: ThrottledLog
    ) -> None:
        self.inbox: deque[Entry] = deque()
        self.lanes: dict[str, Lane] = {}
        self.sorted = 0
        self.circuit = Circuit()
        self.published = 0
        self.failed = 0
        self._producer_id = uuid4().hex
        self._connect = connect
        self._broker: Broker | None = None
        self._wake = wake
        self._say = log.say

    def queued(self) -> int:
        """Return how many envelopes wait for the broker."""
        return len(self.inbox) + self.sorted

    def round(self, begin_until: float = math.inf) -> None:
        """Send one batch of each lane that may be tried now, beginning none after an instant."""
        self.sort_inbox()
        now = time.monotonic()
        if self.circuit.retry_at > now:
            return
        for name, lane in self.lanes.items():
            if not lane.entries or lane.retry_at > now:
                continue
            if not self._send_batch(name, lane) or time.monotonic() > begin_until:
                return

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
            self._broker.publish(
                name,
                [encoded for _, encoded, _ in batch],
                producer_id=self._producer_id,
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
            self.close_broker()
            raise
        self.circuit.answered()
        lane.accepted(len(batch))
        self.sorted = sum(len(lane.entries) for lane in self.lanes.values())
        self.published += len(batch)
        for _, _, ticket in batch:
            if ticket is not None:
                ticket.settle()
        return True

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
        lane.refused(time.monotonic())
        self._wake()

    def pause_s(self) -> float | None:
        """Return how long there is nothing to try; None while nothing is sorted at all."""
        due = [lane.retry_at for lane in self.lanes.values() if lane.entries]
        if not due:
            return None
        return max(0.0, max(min(due), self.circuit.retry_at) - time.monotonic())

    def retry_now(self) -> None:
        """Let the next round try everything, however lately it has failed."""
        self.circuit.retry_at = 0.0
        for lane in self.lanes.values():
            lane.retry_at = 0.0

    def close_broker(self) -> None:
        """Close the connection; the next round opens one."""
        if self._broker is not None:
            with suppress(Exception):
                self._broker.close()
