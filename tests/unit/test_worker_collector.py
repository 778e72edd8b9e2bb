"""How often the garbage collector looks at what a worker makes."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from lback_signal_worker.cli import _THRESHOLD_AT_START, YOUNG_OBJECTS, _calm_collector


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Leave the collector as it was."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_it_looks_more_rarely_and_not_at_what_was_loaded() -> None:
    """A thousand envelopes are in hand; by its own rule it would look again and again."""
    gc.set_threshold(*_THRESHOLD_AT_START)
    _calm_collector()
    assert gc.get_threshold() == (YOUNG_OBJECTS, *_THRESHOLD_AT_START[1:])
    assert gc.get_freeze_count() > 1000


@pytest.mark.parametrize("chosen", [0, 300, YOUNG_OBJECTS + 1])
def test_what_the_handlers_have_chosen_stays(chosen: int) -> None:
    """More often, more rarely, or, by 0, not at all."""
    gc.set_threshold(chosen)
    _calm_collector()
    assert gc.get_threshold()[0] == chosen
