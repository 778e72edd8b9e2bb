"""The table on the terminal and on the page: one row for each metric, its targets met or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from benchmarks.metrics import METRICS, OURS, Metric, Results, Summary
from rich.console import Console
from rich.table import Table

HEADINGS: Final = ("what", "ours", "spread", "best peer", "floor", "targets")
NONE: Final = "-"
"""Stands where there is no figure."""


def shown(value: float | None, unit: str = "") -> str:
    """Return a figure with as many digits as mean something."""
    if value is None:
        return NONE
    if abs(value) >= 100:
        return f"{value:,.0f}{unit}"
    return f"{value:.3g}{unit}"


def rows(results: Results) -> Iterator[tuple[str, ...]]:
    """Yield the table's rows."""
    for name, summary in results.summaries().items():
        metric = METRICS[name]
        yield (
            metric.title,
            shown(summary["ours"], metric.unit),
            _spread(results.samples[name][OURS]),
            _best(metric, summary),
            NONE if summary["floor"] is None
            else f"{shown(summary['floor'], metric.unit)} ({metric.floor})",
            "; ".join(verdicts(metric, summary)) or NONE,
        )  # fmt: skip


def verdicts(metric: Metric, summary: Summary) -> Iterator[str]:
    """Yield each target with whether it is met, and by which ratio where it is one."""
    words = {True: "met", False: "NOT MET", None: "not measured"}
    for target in metric.targets:
        value = summary[target.key]
        ratio = f" ({value:.2f})" if target.key != "ours" and value is not None else ""
        yield f"{target.words}: {words[target.met(summary)]}{ratio}"


def _spread(samples: list[float]) -> str:
    if len(samples) < 2:
        return NONE
    return f"{shown(min(samples))} to {shown(max(samples))}"


def _best(metric: Metric, summary: Summary) -> str:
    peers: Mapping[str, float] = summary["peers"]
    if not peers:
        return NONE
    best = (max if metric.more_is_better else min)(peers, key=lambda name: peers[name])
    return f"{shown(peers[best], metric.unit)} ({best})"


def print_table(results: Results, console: Console) -> None:
    """Print the table, and what gave no figure."""
    table = Table(show_lines=True)
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    for row in rows(results):
        table.add_row(*row)
    console.print(table)
    peers = sorted({name for each in results.summaries().values() for name in each["peers"]})
    if peers:
        each_peer = Table("what", *peers, title="each peer")
        for name, summary in results.summaries().items():
            if summary["peers"]:
                figures = (shown(summary["peers"].get(peer)) for peer in peers)
                each_peer.add_row(METRICS[name].title, *figures)
        console.print(each_peer)
    for failure in results.failures:
        console.print(f"no figure: {failure}", style="red", markup=False, highlight=False)


def details(results: Results, machine: dict[str, Any]) -> dict[str, Any]:
    """Return all that was measured, for the plots and for whoever wants to know."""
    return {
        "machine": machine,
        "metrics": results.summaries(),
        "titles": {name: METRICS[name].title for name in results.summaries()},
        "samples": {name: dict(systems) for name, systems in results.samples.items()},
        "extras": dict(results.extras),
        "failures": results.failures,
    }
