"""When to try again: exponential backoff with full jitter. Pure; durations are seconds.

Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("full jitter").
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from tenacity import wait_exponential


def backoff_bound_s(attempt: int, *, base_s: float, max_s: float) -> float:
    """Return the upper bound of the wait after a failed attempt.

    Args:
        attempt: the failed attempt's number, from 1.
        base_s: the bound after the first; it doubles with each further one.
        max_s: it grows no further.
    """
    state: Any = SimpleNamespace(attempt_number=attempt)  # all that this strategy looks at
    return wait_exponential(multiplier=base_s, max=max_s, exp_base=2)(state)


def backoff_s(attempt: int, *, base_s: float, max_s: float, random: Callable[[], float]) -> float:
    """Return the wait after a failed attempt: drawn evenly from 0 to its bound.

    Args:
        attempt: the failed attempt's number, from 1.
        base_s: the bound after the first attempt.
        max_s: the bound's limit.
        random: returns a number from 0 up to, not including, 1.
    """
    return backoff_bound_s(attempt, base_s=base_s, max_s=max_s) * random()
