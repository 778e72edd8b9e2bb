"""Waiting for something to become true, instead of sleeping for as long as it may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_FIRST_PAUSE_S = 0.001
_LONGEST_PAUSE_S = 0.1


def wait_until(
    predicate: Callable[[], T], timeout_s: float = 30.0, what: str = "the condition"
) -> T:
    """Call ``predicate`` until it returns something true, and return that.

    Args:
        predicate: called again and again, with growing pauses up to 0.1 s.
        timeout_s: only bounds a failure; choose it generously.
        what: what is waited for, for the failure's text.

    Raises:
        AssertionError: it did not become true in time.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = _FIRST_PAUSE_S
    while True:
        result = predicate()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come within {timeout_s:g} s; last: {result!r}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
