"""How much a worker takes at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lback_signal_worker.prefetch import MAX_CHUNK, MAX_ENTRIES, Prefetch, averaged

EIGHT = Prefetch(slots=8)


@pytest.mark.parametrize(
    ("average_s", "allowance"),
    [(None, 8), (60.0, 8), (0.05, 8), (0.01, 40), (0.0001, MAX_ENTRIES), (0.0, MAX_ENTRIES)],
)
def test_fifty_milliseconds_of_work_per_slot(average_s: float | None, allowance: int) -> None:
    """Slow handlers get one entry per slot, fast ones many, nobody more than a thousand."""
    assert EIGHT.allowance(average_s) == allowance


@given(
    slots=st.integers(1, 1000),
    average_s=st.none() | st.floats(0, 1e6),
    waiting=st.integers(1, 5000),
)
def test_every_slot_can_have_one_and_the_whole_is_bounded(
    slots: int, average_s: float | None, waiting: int
) -> None:
    """Whatever was measured."""
    rule = Prefetch(slots=slots)
    allowance = rule.allowance(average_s)
    assert slots <= allowance <= MAX_ENTRIES
    least, most = (rule.worth(room, allowance, few=False) for room in (allowance - 1, allowance))
    assert 0 <= least <= most
    assert 1 <= most <= allowance
    assert rule.worth(0, allowance, few=True) == 0
    assert rule.worth(1, allowance, few=True) == 1
    assert 1 <= rule.chunk(average_s, waiting) <= min(MAX_CHUNK, waiting)


@pytest.mark.parametrize(
    ("room", "allowance", "worth"),
    [(1000, 1000, 333), (333, 1000, 333), (332, 1000, 0), (8, 8, 8), (1, 8, 1), (0, 8, 0)],
)
def test_a_large_allowance_is_refilled_by_thirds(room: int, allowance: int, worth: int) -> None:
    """A read for every freed entry would cost more than the entry; a slow one is worth it."""
    assert EIGHT.worth(room, allowance, few=False) == worth


def test_where_others_take_up_the_slots_a_few_are_worth_a_read() -> None:
    """A third may never be free."""
    assert EIGHT.worth(40, 1000, few=True) == 40
    assert EIGHT.worth(1000, 1000, few=True) == 333


def test_chunks_of_fast_handlers_are_shared_evenly() -> None:
    """Sixteen entries for eight slots are two each, however fast."""
    assert EIGHT.chunk(0.00001, 16) == 2
    assert EIGHT.chunk(0.00001, 5000) == MAX_CHUNK
    assert EIGHT.chunk(1.0, 5000) == 1
    assert EIGHT.chunk(None, 5000) == 1


def test_the_average_follows_slowly_but_jumps_when_it_gets_slow() -> None:
    """One fast run says little; one that takes much longer is the news."""
    assert averaged(None, 0.5) == 0.5
    assert averaged(1.0, 0.0) == pytest.approx(0.8)
    assert averaged(0.001, 2.0) == 2.0
