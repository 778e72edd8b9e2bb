"""When a supervised worker is restarted, replaced or recycled: plain decisions.

Knows no process and no clock: times and randomness are arguments. Durations are seconds, sizes
mebibytes.
"""

from __future__ import annotations

import signal
from typing import Final

from lback_signal_worker.retry import backoff_bound_s

YOUNG_S: Final = 10.0
"""Who dies before this has probably died of what will kill the next one too."""
RESTART_BASE_S: Final = 0.25
RESTART_MAX_S: Final = 30.0
JITTER: Final = 0.2


def young_deaths(before: int, lived_s: float) -> int:
    """Count the deaths in a row at a young age, after one more.

    Args:
        before: the count so far.
        lived_s: how long the last one has lived.
    """
    return before + 1 if lived_s < YOUNG_S else 0


def restart_in_s(deaths: int, random: float) -> float:
    """Return how long to wait before a dead worker is started again.

    Args:
        deaths: young deaths in a row; 0 means at once.
        random: 0 to 1; half of the wait is random, so that several do not start together.
    """
    if deaths == 0:
        return 0.0
    bound_s = backoff_bound_s(min(deaths, 64), base_s=RESTART_BASE_S, max_s=RESTART_MAX_S)
    return bound_s * (0.5 + 0.5 * random)


def deliveries_limit(max_deliveries: int | None, random: float) -> int | None:
    """Return this worker's own limit: up to a fifth lower, so that not all go at once.

    Args:
        max_deliveries: the user's limit, never exceeded by more than one batch; None: none.
        random: 0 to 1.
    """
    if max_deliveries is None:
        return None
    return max(1, int(max_deliveries * (1 - JITTER * random)))


def recycle_reason(
    handled: int, deliveries_max: int | None, rss_mb: float | None, memory_max_mb: int | None
) -> str | None:
    """Tell why a worker should be recycled now; None when it should not.

    A worker that has handled nothing is never recycled: the next one would be no smaller.

    Args:
        handled: deliveries settled.
        deliveries_max: its limit.
        rss_mb: the memory it takes; None: unknown.
        memory_max_mb: its limit.
    """
    if not handled:
        return None
    if deliveries_max is not None and handled >= deliveries_max:
        return f"{handled} deliveries are done"
    if memory_max_mb is not None and rss_mb is not None and rss_mb > memory_max_mb:
        return f"it takes {rss_mb:.0f} MiB, more than {memory_max_mb}"
    return None


def how_it_ended(code: int) -> str:
    """Put a process's return code (negative: minus the OS signal's number) into words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by OS signal {-code}"
