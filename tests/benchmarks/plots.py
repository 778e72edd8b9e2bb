"""Draw the plots: ``python plots.py DETAILS.json FOLDER``, in an environment with matplotlib.

Knows nothing of the relay; reads what ``python -m benchmarks`` wrote.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

OURS, PEERS, FLOOR = "#0b6e4f", "#9aa5b1", "#d9a441"
TITLES = {
    "handled_plain": "plain handler",
    "handled_async": "async handler",
    "sends_background": "in the background",
    "sends_sync_1": "waiting, 1 thread",
    "sends_sync_8": "waiting, 8 threads",
    "latency_median_ms": "median",
    "latency_p99_ms": "p99",
}


def bars(metrics: dict[str, Any], names: list[str], file: Path, title: str, unit: str) -> None:
    """Draw one panel of bars for each metric, on a logarithmic axis."""
    names = [name for name in names if name in metrics]
    if not names:
        return
    figure, panels = plt.subplots(1, len(names), figsize=(5 * len(names), 3.6), squeeze=False)
    for panel, name in zip(panels[0], names, strict=True):
        summary = metrics[name]
        systems = {"lback_relay": (summary["ours"], OURS)}
        systems |= {peer: (value, PEERS) for peer, value in summary["peers"].items()}
        systems["floor"] = (summary["floor"], FLOOR)
        shown = {key: each for key, each in systems.items() if each[0] is not None}
        drawn = panel.barh(
            list(shown),
            [each[0] for each in shown.values()],
            color=[each[1] for each in shown.values()],
        )
        panel.bar_label(drawn, fmt="{:,.1f}" if unit == "ms" else "{:,.0f}", padding=3, fontsize=8)
        panel.set_xscale("log")
        # From the same distance below the least, or a small difference would look large.
        values = [each[0] for each in shown.values() if each[0] > 0]
        panel.set_xlim(min(values) / 3, max(values) * 6)
        panel.invert_yaxis()
        panel.set_title(TITLES[name], fontsize=10)
        panel.set_xlabel(unit)
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)


def growth(extras: dict[str, Any], file: Path) -> None:
    """Draw handled/s and the time of a send as one thing grows."""
    names = [
        name for name in ("backlog", "handlers", "payload", "signals") if f"curve_{name}" in extras
    ]
    if not names:
        return
    figure, panels = plt.subplots(2, len(names), figsize=(3.6 * len(names), 6), squeeze=False)
    for column, name in enumerate(names):
        points = extras[f"curve_{name}"]
        for row, (key, label) in enumerate(
            [("handled_per_s", "handled/s"), ("send_us", "µs per send")]
        ):
            panel = panels[row][column]
            drawn = [(point["value"], point[key]) for point in points if point[key] is not None]
            if drawn:
                panel.plot(*zip(*drawn, strict=True), marker="o", color=OURS)
            else:
                panel.text(0.5, 0.5, "can't matter", ha="center", transform=panel.transAxes)
            panel.set_xscale("log")
            panel.set_ylim(bottom=0)
            panel.set_title(name if row == 0 else "", fontsize=10)
            if column == 0:
                panel.set_ylabel(label)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)


def main(details: Path, folder: Path) -> None:
    """Draw all of it."""
    found = json.loads(details.read_text())
    metrics = found["metrics"]
    bars(
        metrics,
        ["handled_plain", "handled_async"],
        folder / "handled.png",
        "Handled in one worker process",
        "a second",
    )
    bars(
        metrics,
        ["sends_background", "sends_sync_1", "sends_sync_8"],
        folder / "sends.png",
        "Sent by one process",
        "a second",
    )
    bars(
        metrics,
        ["latency_median_ms", "latency_p99_ms"],
        folder / "latency.png",
        "From the sending to the handler's start, at 500/s",
        "ms",
    )
    growth(found["extras"], folder / "growth.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
