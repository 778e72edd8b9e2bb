"""What processes take while a soak runs: memory and open files, and whether either grows.

Knows no fault. Memory is resident, in KiB; instants are seconds of any clock.
"""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

MAX_GROWTH_KIB: Final = 16 * 1024
"""By how much a process may grow once it is warm, however long it runs."""
MAX_MORE_FILES: Final = 8
"""As many threads may have met at the connections' pools by then; a leak goes beyond in minutes."""


def memory_kib(pid: int) -> int:
    """Return how much memory a process takes; 0: it has ended."""
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0


def open_files(pid: int) -> int:
    """Return how many files and sockets a process has open; 0: it has ended."""
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0


@dataclass(kw_only=True)
class Watched:
    """One process.

    Attributes:
        name: for the report.
        pid: its.
        files_before: open files when it was warm and nothing had gone wrong yet.
        files_after: the same at the end, when all was well again.
        samples: (instant, memory).
    """

    name: str
    pid: int
    files_before: int = 0
    files_after: int = 0
    samples: list[tuple[float, int]] = field(default_factory=list)

    def sample(self, at: float) -> None:
        """Take one sample of the memory."""
        kib = memory_kib(self.pid)
        if kib:
            self.samples.append((at, kib))

    def growth_kib(self) -> float:
        """Return by how much it has grown since a third of the run."""
        warm = [kib for _, kib in self.samples[len(self.samples) // 3 :]]
        tenth = max(1, len(warm) // 10)
        return statistics.median(warm[-tenth:]) - statistics.median(warm[:tenth]) if warm else 0.0

    def slope_kib_per_min(self) -> float:
        """Return the slope of the memory, of a line fitted to two thirds of the run."""
        warm = self.samples[len(self.samples) // 3 :]
        if len(warm) < 3:
            return 0.0
        return 60 * statistics.linear_regression(*zip(*warm, strict=True)).slope

    def problems(self) -> list[str]:
        """Return what is wrong with it."""
        found = []
        if self.growth_kib() > MAX_GROWTH_KIB:
            found.append(f"{self.name} has grown by {self.growth_kib() / 1024:.1f} MiB")
        if self.files_after > self.files_before + MAX_MORE_FILES:
            found.append(
                f"{self.name} had {self.files_before} files open and has {self.files_after} now"
            )
        return found

    def told(self) -> str:
        """Return one line about it."""
        last_mib = self.samples[-1][1] / 1024 if self.samples else 0
        return (
            f"{self.name}: {last_mib:.1f} MiB, slope {self.slope_kib_per_min():+.0f} KiB/min, "
            f"files {self.files_before} -> {self.files_after}"
        )
