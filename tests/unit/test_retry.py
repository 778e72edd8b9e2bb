"""When a failed handler is tried again."""

from __future__ import annotations

import pytest

from lback_signal_worker.retry import backoff_bound_s, backoff_s


@pytest.mark.parametrize(("attempt", "bound_s"), [(1, 1), (2, 2), (3, 4), (4, 8), (9, 60)])
def test_the_bound_doubles_up_to_its_limit(attempt: int, bound_s: float) -> None:
    """The first failure waits for up to the base."""
    assert backoff_bound_s(attempt, base_s=1, max_s=60) == bound_s


def test_the_wait_is_drawn_evenly_below_the_bound() -> None:
    """Full jitter: what failed together does not come back together."""
    waits = [
        backoff_s(3, base_s=1, max_s=60, random=lambda drawn=drawn: drawn)  # type: ignore[misc]
        for drawn in (0.0, 0.25, 0.999)
    ]
    assert waits == [0, 1, pytest.approx(3.996)]


def test_huge_attempt_numbers_stay_at_the_limit() -> None:
    """Doubling for ever would overflow."""
    assert backoff_bound_s(100_000, base_s=1, max_s=300) == 300


def test_without_a_base_the_wait_is_none() -> None:
    """A handler may ask for being tried at once."""
    assert backoff_s(5, base_s=0, max_s=0, random=lambda: 0.9) == 0
