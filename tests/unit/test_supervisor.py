"""When workers are restarted and recycled: the plain decisions."""

from __future__ import annotations

import os

import pytest

from lback_relay.errors import ConfigError
from lback_signal_worker.config import WorkerConfig
from lback_signal_worker.recycling import (
    RESTART_MAX_S,
    YOUNG_S,
    deliveries_limit,
    how_it_ended,
    recycle_reason,
    restart_in_s,
    young_deaths,
)
from lback_signal_worker.supervised import VARIABLE, Supervised, memory_mb


def test_the_first_death_is_followed_by_a_start_within_a_second() -> None:
    """Whatever the jitter, and at once when the dead one had lived."""
    assert restart_in_s(young_deaths(0, YOUNG_S), 1.0) == 0.0
    assert 0 < restart_in_s(young_deaths(0, 0.1), 1.0) < 1.0


def test_young_deaths_in_a_row_make_the_waits_grow_to_a_bound() -> None:
    """Each wait is longer, none beyond the bound, and a life of some length ends the row."""
    waits = [restart_in_s(deaths, 0.5) for deaths in range(8)]
    assert waits == sorted(set(waits))
    assert restart_in_s(10_000, 1.0) == RESTART_MAX_S
    assert young_deaths(7, YOUNG_S + 1) == 0


def test_workers_have_different_limits_of_deliveries_never_above_the_given_one() -> None:
    """Jitter takes away up to a fifth; there is at least one delivery; none stays none."""
    assert deliveries_limit(1000, 0.0) == 1000
    assert deliveries_limit(1000, 1.0) == 800
    assert deliveries_limit(1, 1.0) == 1
    assert deliveries_limit(None, 0.5) is None


@pytest.mark.parametrize(
    ("handled", "limit", "rss_mb", "memory", "recycled"),
    [
        (0, 1, 900.0, 100, False),
        (9, 10, None, None, False),
        (10, 10, None, None, True),
        (1, None, 100.5, 100, True),
        (1, None, 99.0, 100, False),
        (1, None, None, 100, False),
    ],
)
def test_a_worker_is_recycled_by_its_work_or_its_memory(
    handled: int, limit: int | None, rss_mb: float | None, memory: int | None, recycled: bool
) -> None:
    """But never before it has handled something."""
    assert (recycle_reason(handled, limit, rss_mb, memory) is not None) is recycled


def test_an_end_is_told_as_exit_code_or_os_signal() -> None:
    """Also for a number that has no name."""
    assert how_it_ended(7) == "exit code 7"
    assert how_it_ended(-9) == "killed by SIGKILL"
    assert how_it_ended(-1000) == "killed by OS signal 1000"


def test_recycling_needs_a_supervisor_even_with_one_process() -> None:
    """Somebody has to start the next one; without, one process runs by itself."""
    assert not WorkerConfig().supervised
    assert WorkerConfig(processes=2).supervised
    assert WorkerConfig(max_deliveries=5).supervised
    assert WorkerConfig(max_memory_mb=100).supervised
    with pytest.raises(ConfigError, match="processes"):
        WorkerConfig(processes=0)


def test_a_worker_without_supervisor_has_no_link() -> None:
    """It is the variable alone that tells."""
    assert VARIABLE not in os.environ
    assert Supervised.from_environment({}) is None


def test_the_memory_of_this_process_is_plausible() -> None:
    """In MiB, where the system tells."""
    taken = memory_mb()
    assert taken is None or 5 < taken < 5000
