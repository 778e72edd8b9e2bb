"""The benchmarks' arithmetic: medians, ratios and verdicts, and what a rate of signals needs."""

from __future__ import annotations

import pytest
from benchmarks.capacity import HEADROOM, PEAK, Constants, need
from benchmarks.metrics import FLOOR, METRICS, OURS, Results, Target

KEYS = ["ours", "peers", "floor", "ratio_to_best_peer", "ratio_to_floor"]


def _results(metric: str, **systems: list[float]) -> Results:
    results = Results()
    for system, samples in systems.items():
        for sample in samples:
            results.add(metric, system, sample)
    return results


def test_a_summary_has_medians_and_ratios_to_the_most_of_the_peers() -> None:
    """Where more is better, the best peer is the one with the most."""
    results = _results(
        "handled_plain", ours=[100.0, 900.0, 200.0], floor=[400.0], one=[10.0], two=[20.0, 22.0]
    )
    assert results.summaries() == {
        "handled_plain": {
            "ours": 200.0,
            "peers": {"one": 10.0, "two": 21.0},
            "floor": 400.0,
            "ratio_to_best_peer": 200 / 21,
            "ratio_to_floor": 0.5,
        }
    }


def test_the_best_peer_of_a_latency_is_the_lowest() -> None:
    """The ratio is ours divided by theirs, so that less than one is better than all."""
    summary = _results("latency_p99_ms", ours=[2.0], one=[4.0], two=[8.0]).summary("latency_p99_ms")
    assert summary["ratio_to_best_peer"] == 0.5


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_what_was_not_measured_is_null(metric: str) -> None:
    """No peers and no floor: the keys are there all the same."""
    summary = _results(metric, **{OURS: [1.0]}).summary(metric)
    assert list(summary) == KEYS
    assert [summary[key] for key in KEYS] == [1.0, {}, None, None, None]


def test_a_peer_of_which_nothing_came_makes_no_ratio() -> None:
    """Nor does it divide by zero."""
    summary = _results("idle_commands_per_s", ours=[1.0], rq=[0.0]).summary("idle_commands_per_s")
    assert summary["ratio_to_best_peer"] is None


def test_only_metrics_that_were_asked_for_are_summed_up() -> None:
    """A dose has figures of others, too, which would be incomplete."""
    results = Results(asked=("sends_background",))
    results.add("sends_background", FLOOR, 1.0)
    results.add("sends_sync_1", FLOOR, 1.0)
    assert list(results.summaries()) == ["sends_background"]


@pytest.mark.parametrize(
    ("at_least", "value", "met"), [(True, 2.0, True), (True, 1.9, False), (False, 2.0, True)]
)
def test_a_target_is_met_at_its_limit(*, at_least: bool, value: float, met: bool) -> None:
    """And one that was not measured is neither met nor missed."""
    target = Target("ours", 2.0, at_least=at_least, words="2")
    assert target.met({"ours": value}) is met
    assert target.met({"ours": None}) is None


def test_needs_grow_with_the_peak_and_keep_headroom() -> None:
    """Cores of the server, of senders and of workers follow from what one envelope costs."""
    constants = Constants(
        send_us=20, publish_us=3, handle_us=7, worker_us=100, memory_bytes=1024, file_bytes=1024
    )
    found = need(constants, 1000.0)
    assert found.peak_per_s == 1000 * PEAK
    assert found.server_cores == pytest.approx(1000 * PEAK * 10e-6 / HEADROOM)
    assert found.sending_cores == pytest.approx(1000 * PEAK * 20e-6 / HEADROOM)
    assert found.workers == 1
    assert found.slots[0] == pytest.approx(1000 * PEAK * 0.001 / HEADROOM, abs=1)
    assert found.file_gib_per_day == pytest.approx(1000 * 86_400 / 2**20)
