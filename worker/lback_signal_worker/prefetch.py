"""How many entries a worker takes at once. Pure; durations are seconds.

A worker holds about 50 ms of work per slot: fast handlers get large batches, slow ones leave the
work to other workers. Never less than one entry per slot, nor more than 1,500 in all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_ENTRIES: Final = 1500
WORK_S: Final = 0.05
"""Work per slot that may wait in this process."""
CHUNK_S: Final = 0.005
"""Work that one slot takes from the queue at once."""
MAX_CHUNK: Final = 32

_WEIGHT: Final = 0.2
_JUMP: Final = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefetch:
    """The rule for one kind of slots.

    Attributes:
        slots: how many handlers run at once.
        max_entries: entries in all.
    """

    slots: int
    max_entries: int = MAX_ENTRIES

    def allowance(self, average_s: float | None) -> int:
        """Return how many unfinished entries of a signal may be in hand.

        Args:
            average_s: how long one entry takes; None when none has been measured.
        """
        if average_s is None:
            return min(self.slots, self.max_entries)
        per_slot = WORK_S / max(average_s, 1e-9)
        return int(min(max(per_slot, 1.0) * self.slots, self.max_entries))

    def worth(self, room: int, allowance: int, *, few: bool) -> int:
        """Return how many entries are worth a read now; 0 when none are.

        Of a small allowance as many as there is room for; of a large one a third, when there is
        room for that: one third runs, one is being settled, and one is on its way.

        Args:
            room: for how many there is room.
            allowance: of the signal.
            few: whether a few are worth a read all the same.
        """
        if allowance < 4 * self.slots:
            return room
        third = allowance // 3
        return third if room >= third else room if few else 0

    def chunk(self, average_s: float | None, waiting: int) -> int:
        """Return how many of the waiting entries one slot takes at once."""
        if average_s is None:
            return 1
        worth = int(CHUNK_S / max(average_s, 1e-9))
        fair = -(-waiting // self.slots)
        return max(1, min(worth, fair, MAX_CHUNK))


def averaged(average_s: float | None, measured_s: float) -> float:
    """Return the moving average with one more measurement.

    A sudden slowness counts at once: what was prefetched by the old average already waits.
    """
    if average_s is None or measured_s > _JUMP * average_s:
        return measured_s
    return average_s + _WEIGHT * (measured_s - average_s)
