"""Measure the relay beside its peers: ``python -m benchmarks``, by ``make bench`` and its like.

Writes ``build/bench.json`` (one object for each metric) and ``build/bench-details.json`` (all
samples); with ``--page`` also the plots and the page under ``docs/performance``. Everything that is
started is ended, and everything temporary removed, on Ctrl-C too. Exit codes: 0 all was measured,
1 something gave no figure, 2 usage, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks import machine, page, report
from benchmarks.curves import CURVES, points
from benchmarks.metrics import METRICS, Results
from benchmarks.peers_table import PEERS_BY_NAME, install_peers
from benchmarks.plan import FULL, QUICK, rounds
from benchmarks.processes import ROOT, BenchmarkFailed
from rich.console import Console

BUSY: Final = 1.0
"""Load from which on figures are worth a warning: something else is running."""


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small round, below 3 minutes")
    parser.add_argument(
        "--only", type=_names, default=list(METRICS), metavar="METRIC,…", help=", ".join(METRICS)
    )
    parser.add_argument(
        "--peers", type=_names, default=list(PEERS_BY_NAME), metavar="NAME,…",
        help="'' for none; " + ", ".join(PEERS_BY_NAME),
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, metavar="N", help="default: 3, quick: 1")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench.json", metavar="FILE")
    parser.add_argument("--page", action="store_true", help="write docs/performance, too")
    given = parser.parse_args()
    for what, names, known in (
        ("--only", given.only, METRICS), ("--peers", given.peers, PEERS_BY_NAME),
    ):  # fmt: skip
        unknown = [name for name in names if name not in known]
        if unknown:
            parser.error(f"{what}: there is no {', '.join(unknown)}; known: {', '.join(known)}")
    return given


class Progress:
    """Says what is done, and when it began, one line each."""

    def __init__(self, total: int, begin_until_s: float) -> None:
        self.began_at = time.monotonic()
        self._total = total
        self._begin_until_s = begin_until_s
        self._done = 0

    def say(self, text: str) -> None:
        """Say something that is not counted."""
        sys.stderr.write(f"[{time.monotonic() - self.began_at:5.0f} s] {text}\n")
        sys.stderr.flush()

    def run(self, title: str, results: Results, do: Callable[[], None]) -> None:
        """Run one dose; what goes wrong with it is noted, and the others go on."""
        self._done += 1
        began_at = time.monotonic()
        if began_at > self.began_at + self._begin_until_s:
            results.failures.append(f"{title}: the time was up before it")
            return
        try:
            do()
        except BenchmarkFailed as failure:
            results.failures.append(f"{title}: {failure}")
            self.say(f"{self._done}/{self._total} {title}: FAILED, {str(failure)[:200]}")
        else:
            took_s = time.monotonic() - began_at
            self.say(f"{self._done}/{self._total} {title} ({took_s:.1f} s)")


def measure(given: argparse.Namespace) -> Results:
    """Take all doses."""
    results = Results(asked=tuple(given.only))
    size = QUICK if given.quick else FULL
    every = list(rounds(size, given.only, given.peers))
    if given.rounds:
        every = (every + every[-1:] * given.rounds)[: given.rounds]
    curves = size.curves and set(given.only) == set(METRICS)
    total = sum(map(len, every)) + (sum(len(curve.values) for curve in CURVES) if curves else 0)
    install_peers(given.peers)
    progress = Progress(total, size.begin_until_s)
    if machine.busy() > BUSY:
        progress.say(
            f"the machine's load is {machine.busy():.1f} already: compare ratios, not figures"
        )
    for doses in every:
        for dose in doses:
            progress.run(dose.title, results, lambda run=dose.run: run(results))  # type: ignore[misc]
    if curves:
        for curve in CURVES:
            for title, point in points(curve):
                progress.run(
                    title,
                    results,
                    lambda name=curve.name, point=point: results.extras[f"curve_{name}"].append(  # type: ignore[misc]
                        point()
                    ),
                )
    return results


def main() -> int:
    """Run the command. Returns its exit code."""
    given = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(width=None if sys.stdout.isatty() else 160)
    try:
        described = machine.described(given.peers)
        results = measure(given)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: everything that was started is ended\n")
        return 130
    report.print_table(results, console)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(results.summaries(), indent=2) + "\n")
    details = given.json.with_name(f"{given.json.stem}-details.json")
    details.write_text(json.dumps(report.details(results, described), indent=2) + "\n")
    console.print(f"{given.json} and {details.name}", highlight=False)
    if given.page and set(given.only) != set(METRICS):
        console.print("docs/performance stays as it is: this was a part of it")
    elif given.page:
        page.write(results, described, details)
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
