"""Hold our speed to a part of the floor's: ``python -m benchmarks.guard``, by ``make bench-guard``.

Ratios within one run, never absolute times, and far below what is measured, so that a busy machine
does not fail it: what it finds is a round trip, a lock or a thread switch for each envelope. The
best round of each side counts; rounds go on until all ratios are kept, ``MAX_ROUNDS`` at most.
Exit codes: 0 all are kept, 1 one is not.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable
from typing import Final

from benchmarks import doses
from benchmarks.processes import BenchmarkFailed

MAX_ROUNDS: Final = 5

OURS: Final[dict[str, Callable[[], doses.Figures]]] = {
    "handled": lambda: doses.ours_handled(30_000),
    "handled, async": lambda: doses.ours_handled(20_000, is_async=True),
    "sends in the background": lambda: doses.ours_sent(15_000),
    "sends that wait": lambda: doses.ours_sent(3_000, threads=1),
}
FLOORS: Final[dict[str, Callable[[], doses.Figures]]] = {
    "batched": lambda: doses.floor("batched", 60_000),
    "pipelined": lambda: doses.floor("pipelined", 50_000),
    "single": lambda: doses.floor("single", 4_000),
}
LIMITS: Final = {
    ("handled", "batched"): 0.1,
    ("handled, async", "batched"): 0.05,
    ("sends in the background", "pipelined"): 0.02,
    ("sends that wait", "single"): 0.05,
}
"""Least ratio of ours to a floor: about a quarter of what was measured, or less."""


def main() -> int:
    """Run the command. Returns its exit code."""
    best: dict[str, float] = defaultdict(float)
    kept = False
    for number in range(MAX_ROUNDS):
        for name, dose in (OURS | FLOORS).items():
            try:
                best[name] = max(best[name], dose()["per_s"])
            except BenchmarkFailed as failure:  # noqa: PERF203 - the next round may go well
                sys.stderr.write(f"{name}: {failure}\n")
        ratios = {pair: best[pair[0]] / max(1.0, best[pair[1]]) for pair in LIMITS}
        for (ours, floor), ratio in ratios.items():
            sys.stderr.write(
                f"round {number + 1}: {ours} {best[ours]:,.0f}/s is {ratio:.2f} of the floor "
                f"'{floor}' ({best[floor]:,.0f}/s); at least {LIMITS[ours, floor]}\n"
            )
        kept = all(best[floor] for floor in FLOORS) and all(
            ratio >= LIMITS[pair] for pair, ratio in ratios.items()
        )
        if kept:
            break
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
