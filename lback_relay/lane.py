"""The envelopes of one signal on their way to the broker, numbered in the order of sending.

An entry's sequence number follows from its place: entries are appended behind and leave in front,
so that a number, once tried, always stands for the same envelope, however the batches are cut. The
broker can therefore be given a batch again, whole or in part, until it has answered.

A lane goes to the broker or, in the same batches, through the spool. From the first envelope in the
spool on all must go there, or a later one would overtake it; once the broker has them all the lane
is direct again, under a new producer's id: should any row of the old one come to light later, no
later number may hide it.

Knows no broker, no thread and no clock; whoever holds the line (``line.py``) calls it.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from typing import Final
from uuid import uuid4

from tenacity import wait_exponential, wait_random
from tenacity.wait import wait_base

from lback_relay.circuit import pause_s
from lback_relay.config import SignalConfig

MAX_BATCH: Final = 512
"""Envelopes in one call; the broker does nothing else meanwhile (about 2 ms)."""
MAX_BATCH_BYTES: Final = 1_048_576

WAIT_FOR_ROOM: Final[wait_base] = wait_exponential(multiplier=0.25, max=4) + wait_random(0, 1)
"""Seconds before the next call to a broker that refused: up to five."""


class Ticket:
    """One caller's wait for its own entry.

    Attributes:
        settled: the broker has accepted the entry, or the wait for it is pointless for now.
    """

    __slots__ = ("_gate", "settled")

    def __init__(self) -> None:
        self.settled = False
        self._gate = allocate_lock()
        self._gate.acquire()

    def settle(self) -> None:
        """End the wait."""
        self.settled = True
        self.knock()

    def knock(self) -> None:
        """Wake the caller: it is settled, or shall look whether the line is free."""
        try:
            self._gate.release()
        except RuntimeError:  # knocked already, and not heard yet
            return

    def wait(self, timeout_s: float) -> bool:
        """Wait for a knock. Returns whether there was one."""
        return self._gate.acquire(timeout=timeout_s)


Entry = tuple[SignalConfig, bytes, "Ticket | None"]
"""One envelope to be sent, and who waits for it."""


class Lane:
    """The queue of one signal.

    Attributes:
        entries: first to be sent first.
        producer_id: who numbers them.
        spooled: earlier ones are in the spool.
        first_sequence: the number of the first entry; the others follow.
        retry_at: not to be tried before; seconds of the monotonic clock.
        refusals: in a row.
    """

    __slots__ = (
        "_given",
        "_max_batch",
        "entries",
        "first_sequence",
        "producer_id",
        "refusals",
        "retry_at",
        "spooled",
    )

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque()
        self.producer_id = uuid4().hex
        self.spooled = False
        self.first_sequence = 1
        self.retry_at = 0.0
        self.refusals = 0
        self._max_batch = MAX_BATCH
        self._given = 0  # the highest number that was given to the broker or the spool

    @property
    def end_sequence(self) -> int:
        """The number that the next entry will get."""
        return self.first_sequence + len(self.entries)

    def batch(self) -> list[Entry]:
        """Return the entries to be sent next: at least one, all under the same config."""
        batch: list[Entry] = []
        room = MAX_BATCH_BYTES
        config = self.entries[0][0]
        for entry in self.entries:
            signal, encoded, _ = entry
            room -= len(encoded)
            if batch and (room < 0 or len(batch) >= self._max_batch):
                break
            if signal is not config and signal != config:
                break
            batch.append(entry)
        return batch

    def give(self, count: int) -> bool:
        """Note that the first ``count`` entries are given away now. Returns whether any was before.

        Even where that failed it may have been heard.
        """
        again = self._given >= self.first_sequence
        self._given = max(self._given, self.first_sequence + count - 1)
        return again

    def accepted(self, count: int) -> None:
        """Take the first ``count`` entries away: the broker has them."""
        self.first_sequence += count  # first: a number must never be given to another entry
        for _ in range(count):
            self.entries.popleft()
        self.refusals = 0
        self._max_batch = min(self._max_batch * 2, MAX_BATCH)

    def unanswered(self) -> None:
        """Cut smaller batches: over a slow link a large one is never answered in time."""
        self._max_batch = max(1, self._max_batch // 2)

    def refused(self, now_s: float) -> None:
        """Leave the lane alone for a while, longer each time in a row."""
        self.refusals += 1
        self.retry_at = now_s + pause_s(WAIT_FOR_ROOM, self.refusals)

    def direct(self) -> None:
        """Go to the broker from now on: nothing of the lane is in the spool any more."""
        self.renumber()
        self.spooled = False
        self.refusals = 0
        self.retry_at = 0.0

    def renumber(self) -> None:
        """Number the entries as another producer, of whom nobody has heard."""
        self.producer_id = uuid4().hex
        self._given = 0

    def release_waiting(self) -> None:
        """End the waits for these entries; they stay queued."""
        for _, _, ticket in self.entries:
            if ticket is not None:
                ticket.settle()
