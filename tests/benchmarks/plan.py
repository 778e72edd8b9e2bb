"""Which doses a run has, in which order. Rounds are interleaved: each takes one dose of everybody.

So a machine that is slower for a while is so for all, and medians over the rounds compare.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import doses
from benchmarks.metrics import FLOOR, METRICS, OURS, Results
from benchmarks.peers_table import PEERS_BY_NAME, Peer

from lback_relay.keyring import new_key

RATE: Final = 500.0
RTT_S: Final = 0.002
ALL: Final = tuple(METRICS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much a run measures.

    Attributes:
        rounds: how often each dose is taken.
        share: of the counts below.
        turns: how often a dose that compares two ways of ours takes both.
        idle_s: how long an idle worker is watched.
        curves: whether the tenfold growths and the backlog of a million are measured, too.
        begin_until_s: no dose begins later.
    """

    rounds: int
    share: float
    turns: int
    idle_s: float
    curves: bool
    begin_until_s: float

    def count(self, full: int) -> int:
        """Return a dose's count."""
        return max(200, int(full * self.share))


Way = dict[str, Any]
"""How a dose is taken: what it is called with."""

QUICK: Final = Size(rounds=1, share=0.25, turns=1, idle_s=8.0, curves=False, begin_until_s=160.0)
FULL: Final = Size(rounds=3, share=1.0, turns=4, idle_s=10.0, curves=True, begin_until_s=3000.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dose:
    """One thing to run.

    Attributes:
        title: for the progress.
        metrics: those that it is for.
        run: does it, and notes the samples.
    """

    title: str
    metrics: tuple[str, ...]
    run: Callable[[Results], None]


def rounds(size: Size, only: Collection[str], peers: Sequence[str]) -> Iterator[list[Dose]]:
    """Yield the doses of each round."""
    for number in range(size.rounds):
        made = [*_ours(size, first=number == 0), *_floors(size)]
        for name in peers:
            made += _of_peer(PEERS_BY_NAME[name], size, first=number == 0)
        yield [dose for dose in made if set(dose.metrics) & set(only)]


def _ours(size: Size, *, first: bool) -> Iterator[Dose]:
    def handled(results: Results) -> None:
        found = doses.ours_handled(size.count(200_000))
        results.add("handled_plain", OURS, found["per_s"])
        results.add("rss_mib", OURS, found["rss_mib"])
        for key in ("commands_per_1000", "server_us", "worker_us", "envelope_bytes"):
            results.extras[f"handled_{key}"].append(found[key])

    def handled_async(results: Results) -> None:
        found = doses.ours_handled(size.count(120_000), is_async=True)
        results.add("handled_async", OURS, found["per_s"])

    def kept(results: Results) -> None:
        ways: tuple[Way, Way] = {"delay_s": 0.0}, {"delay_s": RTT_S / 2}
        near, far = _rates(size, 160_000, doses.ours_handled, *ways)
        results.add("handled_rtt2ms_kept", OURS, far / near)
        results.extras["handled_through_a_way_of_0_ms"].append(near)
        results.extras["handled_through_a_way_of_2_ms"].append(far)

    def signed(results: Results) -> None:
        ways: tuple[Way, Way] = {"keys": ""}, {"keys": new_key().text()}
        for name, count, dose in (
            ("handled_signed_kept", 160_000, doses.ours_handled),
            ("sends_signed_kept", 80_000, doses.ours_sent),
        ):
            plain, with_keys = _rates(size, count, dose, *ways)
            results.add(name, OURS, with_keys / plain)

    def took(results: Results) -> None:
        found = doses.latency(None, size.count(2500), RATE)
        results.add("latency_median_ms", OURS, found["median_ms"])
        results.add("latency_p99_ms", OURS, found["p99_ms"])

    def spread(results: Results) -> None:
        found = doses.ours_spread(4, 8, size.count(20_000))
        results.add("scale_4x8_efficiency", OURS, found["efficiency"])

    def idle(results: Results) -> None:
        # In a whole run 30 s, the period of what it does most rarely: in a shorter time its
        # commands count once too often, or not at all.
        found = doses.ours_idle(size.rounds * size.idle_s)
        results.add("idle_cpu_percent", OURS, found["idle_cpu_percent"])
        results.add("idle_commands_per_s", OURS, found["idle_commands_per_s"])
        results.extras["idle_rss_mib"].append(found["idle_rss_mib"])

    def backlog(results: Results) -> None:
        found = doses.ours_handled(1_000_000)
        results.add("rss_backlog_mib", OURS, found["rss_mib"])
        results.extras["handled_of_a_million"].append(found["per_s"])

    yield Dose(title="ours: handled", metrics=("handled_plain", "rss_mib"), run=handled)
    yield Dose(title="ours: handled, async", metrics=("handled_async",), run=handled_async)
    for name, count, threads in (
        ("sends_background", 80_000, 0),
        ("sends_sync_1", 10_000, 1),
        ("sends_sync_8", 20_000, 8),
    ):
        yield _sends(name, size.count(count), threads)
    yield Dose(title="ours: latency", metrics=("latency_median_ms", "latency_p99_ms"), run=took)
    for kind in ("plain", "entity"):
        yield _added(kind, size.count(3000))
    yield Dose(title="ours: 2 ms away", metrics=("handled_rtt2ms_kept",), run=kept)
    yield Dose(
        title="ours: signed", metrics=("handled_signed_kept", "sends_signed_kept"), run=signed
    )
    yield Dose(title="ours: 4 x 8", metrics=("scale_4x8_efficiency",), run=spread)
    if first:
        yield Dose(
            title="ours: idle", metrics=("idle_cpu_percent", "idle_commands_per_s"), run=idle
        )
        if size.curves:
            yield Dose(title="ours: a million", metrics=("rss_backlog_mib",), run=backlog)


def _rates(
    size: Size, full: int, dose: Callable[..., doses.Figures], one: Way, other: Way
) -> tuple[float, float]:
    """Return how many a second a dose does in one way, and in the other, the two compared.

    In short turns, as a machine's spells of slowness last longer than one of them, and in an order
    that one which gets slower or faster meanwhile does not favour.
    """
    count = size.count(full) // size.turns
    took_s = [0.0, 0.0]
    for _ in range(size.turns):
        for index in (0, 1, 1, 0):
            took_s[index] += 1 / dose(count, **(one, other)[index])["per_s"]
    return 2 * size.turns / took_s[0], 2 * size.turns / took_s[1]


def _sends(name: str, count: int, threads: int) -> Dose:
    def sends(results: Results) -> None:
        found = doses.ours_sent(count, threads=threads)
        results.add(name, OURS, found["per_s"])
        results.extras[f"{name}_commands_per_1000"].append(found["commands_per_1000"])

    return Dose(title=f"ours: {name}", metrics=(name,), run=sends)


def _added(kind: str, count: int) -> Dose:
    def added(results: Results) -> None:
        busy = doses.added(kind, count, pause_s=0.0)
        results.add(f"added_us_{kind}", OURS, busy["added_us"])
        results.extras[f"send_us_{kind}_without_relay"].append(busy["without_us"])
        # After a pause caches are cold and a thread must be woken, as in a process that is idle.
        calm = doses.added(kind, min(count, 1000), pause_s=0.001)
        results.extras[f"added_us_{kind}_after_a_pause"].append(calm["added_us"])

    return Dose(title=f"ours: added, {kind}", metrics=(f"added_us_{kind}",), run=added)


def _floors(size: Size) -> Iterator[Dose]:
    for kind, count, metrics in (
        ("batched", 250_000, ("handled_plain", "handled_async")),
        ("pipelined", 150_000, ("sends_background", "sends_least")),
        ("single", 15_000, ("sends_sync_1", "sends_sync_8", "sends_grouped")),
    ):
        yield _floor(kind, size.count(count), metrics)
    yield _floor("dispatched", size.count(150_000), ("sends_least",), OURS)
    yield _floor("grouped", size.count(20_000), ("sends_grouped",), OURS)


def _floor(kind: str, count: int, metrics: tuple[str, ...], stands_for: str = FLOOR) -> Dose:
    def floor(results: Results) -> None:
        per_s = doses.floor(kind, count)["per_s"]
        for name in metrics:
            results.add(name, stands_for, per_s)

    return Dose(title=f"floor: {kind}", metrics=metrics, run=floor)


def _of_peer(peer: Peer, size: Size, *, first: bool) -> Iterator[Dose]:
    watched = first and size.curves

    def handled(results: Results) -> None:
        count = size.count(peer.count)
        found = doses.peer_handled(peer, count, idle_s=size.idle_s if watched else 0.0)
        # Each runs in the form in which it is quickest, and is compared with both of ours.
        results.add("handled_plain", peer.name, found["per_s"])
        results.add("handled_async", peer.name, found["per_s"])
        # They send one by one and return once the broker has it.
        results.add("sends_background", peer.name, found["sent_per_s"])
        results.add("sends_sync_1", peer.name, found["sent_per_s"])
        results.add("rss_mib", peer.name, found["rss_mib"])
        for name in ("idle_cpu_percent", "idle_commands_per_s"):
            if name in found:
                results.add(name, peer.name, found[name])

    def took(results: Results) -> None:
        found = doses.latency(peer, size.count(2500), RATE)
        results.add("latency_median_ms", peer.name, found["median_ms"])
        results.add("latency_p99_ms", peer.name, found["p99_ms"])

    metrics = ["handled_plain", "handled_async", "sends_background", "sends_sync_1", "rss_mib"]
    if watched:
        metrics += ["idle_cpu_percent", "idle_commands_per_s"]
    yield Dose(title=f"{peer.name}: sent and handled", metrics=tuple(metrics), run=handled)
    yield Dose(
        title=f"{peer.name}: latency",
        metrics=("latency_median_ms", "latency_p99_ms"),
        run=took,
    )
