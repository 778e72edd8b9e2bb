"""The page ``docs/performance/README.md`` and its plots, from the results of a run."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from benchmarks.metrics import METRICS, Results
from benchmarks.peers_table import install
from benchmarks.processes import HERE, ROOT
from benchmarks.report import HEADINGS, rows, shown

FOLDER: Final = ROOT / "docs" / "performance"
PLOTS: Final = (
    ("handled.png", "Handled a second in one worker process, empty handler"),
    ("sends.png", "Sends a second"),
    ("latency.png", "From the sending to the handler's start, at 500 sends a second"),
    ("growth.png", "What grows tenfold, and what it costs"),
)

_HEAD: Final = """\
# Measured

Made by `make bench`; do not edit. The reasons and what to tune are in
[performance.md](../performance.md), how it is measured is in `tests/benchmarks`.

"""


def write(results: Results, machine: dict[str, Any], details: Path) -> None:
    """Write the plots and the page."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    venv = install("plots", HERE / "plots.txt")
    command = [str(venv / "bin" / "python"), str(HERE / "plots.py"), str(details), str(FOLDER)]
    subprocess.run(command, check=True, timeout=300)
    (FOLDER / "README.md").write_text(_HEAD + "\n".join(_lines(results, machine)) + "\n")


def _lines(results: Results, machine: dict[str, Any]) -> Iterator[str]:
    yield "## On what"
    yield ""
    yield from _machine(machine)
    yield ""
    yield "## Targets"
    yield ""
    yield from _table(HEADINGS, rows(results))
    yield ""
    yield "## Each peer"
    yield ""
    summaries = results.summaries()
    peers = sorted({name for summary in summaries.values() for name in summary["peers"]})
    yield from _table(
        ("what", *peers),
        (
            (METRICS[name].title, *(shown(summary["peers"].get(peer)) for peer in peers))
            for name, summary in summaries.items()
            if summary["peers"]
        ),
    )
    yield ""
    for file, title in PLOTS:
        if (FOLDER / file).exists():
            yield f"![{title}]({file})"
            yield ""
    if results.failures:
        yield "## Without a figure"
        yield ""
        for failure in results.failures:
            lines = failure.strip().splitlines()
            yield f"- {lines[0].partition(': ended')[0]}: {lines[-1]}"


def _machine(machine: dict[str, Any]) -> Iterator[str]:
    made = f"{datetime.now(timezone.utc):%Y-%m-%d}, revision {machine['revision']}"
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    yield from _table(
        ("", ""),
        (
            ("made", made),
            ("processor", f"{machine['cores']} x {machine['processor']}"),
            ("load before", f"{machine['load_at_start']}"),
            ("system", f"{machine['system']}, Python {machine['python']}"),
            ("server", f"{machine['server']} on 127.0.0.1: {machine['durability']}"),
            ("ours", packages),
            ("peers", "; ".join(machine["peers"].values())),
        ),
    )


def _table(headings: tuple[str, ...], rows: Any) -> Iterator[str]:
    yield "| " + " | ".join(headings) + " |"
    yield "|" + "---|" * len(headings)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
