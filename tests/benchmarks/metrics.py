"""What is measured, in which unit, and what it must reach; samples in, summaries out. Pure.

A summary is what ``build/bench.json`` holds of a metric: the median of our samples, those of the
peers and of the floor, and ours divided by the best peer's and by the floor.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

OURS: Final = "ours"
FLOOR: Final = "floor"

Summary = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """A limit that one value of a summary must keep.

    Attributes:
        key: "ours", "ratio_to_best_peer" or "ratio_to_floor".
        limit: the value.
        at_least: whether it must be reached, rather than not exceeded.
        words: how the table says it.
    """

    key: str
    limit: float
    at_least: bool
    words: str

    def met(self, summary: Summary) -> bool | None:
        """Return whether it is met; None when it was not measured."""
        value = summary[self.key]
        if value is None:
            return None
        return bool(value >= self.limit if self.at_least else value <= self.limit)


def _at_least(limit: float, of: str, words: str) -> Target:
    return Target(of, limit, at_least=True, words=words)


def _at_most(limit: float, of: str, words: str) -> Target:
    return Target(of, limit, at_least=False, words=words)


PEER: Final = "ratio_to_best_peer"
TO_FLOOR: Final = "ratio_to_floor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One figure.

    Attributes:
        name: its key in ``bench.json``.
        title: what the table calls it.
        unit: as shown behind a figure.
        more_is_better: else less is.
        floor: what its floor is.
        targets: what it must reach.
    """

    name: str
    title: str
    unit: str = "/s"
    more_is_better: bool = True
    floor: str = ""
    targets: tuple[Target, ...] = ()


METRICS: Final = {
    metric.name: metric
    for metric in (
        Metric(
            name="handled_plain",
            title="handled, empty plain handler, one process",
            floor="plain batched loop",
            targets=(
                _at_least(20, PEER, "≥ 20 x best peer"),
                _at_least(0.5, TO_FLOOR, "≥ 50 % of floor"),
            ),
        ),
        Metric(
            name="handled_async",
            title="handled, empty async handler, one process",
            floor="plain batched loop",
            targets=(_at_least(10, PEER, "≥ 10 x best peer"),),
        ),
        Metric(
            name="sends_background",
            title="sends in the background, one thread",
            floor="pipelined XADD",
            targets=(
                _at_least(12, PEER, "≥ 12 x best peer"),
                _at_least(1, TO_FLOOR, "≥ floor"),
            ),
        ),
        Metric(
            name="sends_least",
            title="no relay: dispatcher, msgpack, pipelined XADD",
            floor="pipelined XADD",
        ),
        Metric(
            name="sends_sync_1",
            title="sends that wait for the broker, one thread",
            floor="one plain XADD at a time",
            targets=(_at_least(0.8, TO_FLOOR, "≥ 80 % of floor"),),
        ),
        Metric(
            name="sends_sync_8",
            title="sends that wait for the broker, eight threads",
            floor="one plain XADD at a time",
            targets=(_at_least(2, TO_FLOOR, "≥ 2 x floor"),),
        ),
        Metric(
            name="sends_grouped",
            title="no relay: eight threads, msgpack, XADD by group commit",
            floor="one plain XADD at a time",
        ),
        Metric(
            name="latency_median_ms",
            title="send to handler start at 500/s, median",
            unit=" ms",
            more_is_better=False,
            targets=(_at_most(1, OURS, "≤ 1 ms"), _at_most(1, PEER, "below every peer")),
        ),
        Metric(
            name="latency_p99_ms",
            title="send to handler start at 500/s, p99",
            unit=" ms",
            more_is_better=False,
            targets=(_at_most(5, OURS, "≤ 5 ms"), _at_most(1, PEER, "below every peer")),
        ),
        Metric(
            name="added_us_plain",
            title="added to dispatcher.send, plain payload",
            unit=" µs",
            more_is_better=False,
            targets=(_at_most(15, OURS, "≤ 15 µs"),),
        ),
        Metric(
            name="added_us_entity",
            title="added to dispatcher.send, ORM entity",
            unit=" µs",
            more_is_better=False,
            targets=(_at_most(40, OURS, "≤ 40 µs"),),
        ),
        Metric(
            name="handled_rtt2ms_kept",
            title="part of handled/s kept at 2 ms round trip",
            unit="",
            targets=(_at_least(0.8, OURS, "≥ 80 %"),),
        ),
        Metric(
            name="handled_signed_kept",
            title="part of handled/s kept with signed envelopes",
            unit="",
            targets=(_at_least(0.85, OURS, "≥ 85 %"),),
        ),
        Metric(
            name="sends_signed_kept",
            title="part of sends/s in the background kept with signed envelopes",
            unit="",
            targets=(_at_least(0.85, OURS, "≥ 85 %"),),
        ),
        Metric(
            name="scale_4x8_efficiency",
            title="4 workers x 8 slots, 10 ms handler, part of 3,200/s",
            unit="",
            targets=(_at_least(0.95, OURS, "≥ 95 %"),),
        ),
        Metric(
            name="idle_cpu_percent",
            title="idle worker, part of a core",
            unit=" %",
            more_is_better=False,
            targets=(_at_most(1, OURS, "≤ 1 %"),),
        ),
        Metric(
            name="idle_commands_per_s",
            title="idle worker, commands to the broker",
            more_is_better=False,
            targets=(_at_most(2, OURS, "≤ 2/s"),),
        ),
        Metric(
            name="rss_mib",
            title="worker's memory, most while working",
            unit=" MiB",
            more_is_better=False,
            targets=(_at_most(60, OURS, "≤ 60 MiB"),),
        ),
        Metric(
            name="rss_backlog_mib",
            title="the same, with a backlog of a million",
            unit=" MiB",
            more_is_better=False,
            targets=(_at_most(60, OURS, "≤ 60 MiB"),),
        ),
    )
}


@dataclass(slots=True)
class Results:
    """All samples of a run.

    Attributes:
        asked: the metrics that were asked for; a dose may have figures of others, too.
        samples: metric to system ("ours", "floor", a peer's name) to its samples.
        extras: further figures, by name, in the order of measuring.
        failures: what gave no figure, and why.
    """

    asked: tuple[str, ...] = field(default_factory=lambda: tuple(METRICS))
    samples: dict[str, dict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    extras: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    failures: list[str] = field(default_factory=list)

    def add(self, metric: str, system: str, value: float) -> None:
        """Note a sample."""
        self.samples[metric][system].append(value)

    def summary(self, name: str) -> Summary:
        """Return what ``bench.json`` holds of a metric."""
        return summary(METRICS[name], self.samples.get(name, {}))

    def summaries(self) -> dict[str, Summary]:
        """Return the summaries of the metrics that were asked for and measured, in their order."""
        return {
            name: self.summary(name)
            for name in METRICS
            if name in self.asked and self.samples.get(name)
        }


def summary(metric: Metric, samples: Mapping[str, Sequence[float]]) -> Summary:
    """Return the medians of a metric's samples, and the ratios."""
    medians = {system: statistics.median(values) for system, values in samples.items() if values}
    ours, floor = medians.pop(OURS, None), medians.pop(FLOOR, None)
    peers = dict(sorted(medians.items()))
    best = None
    if peers:
        best = max(peers.values()) if metric.more_is_better else min(peers.values())
    return {
        "ours": ours,
        "peers": peers,
        "floor": floor,
        "ratio_to_best_peer": _ratio(ours, best),
        "ratio_to_floor": _ratio(ours, floor),
    }


def _ratio(ours: float | None, other: float | None) -> float | None:
    return None if ours is None or not other else ours / other
