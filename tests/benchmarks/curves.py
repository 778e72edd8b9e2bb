"""How handled/s and the time of one send change as something grows tenfold, and tenfold again.

Ours only. One thing grows, the rest is as usual: one signal, one handler, the usual payload.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import doses

SENDS: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One thing that grows.

    Attributes:
        name: its key.
        title: for the plot's axis.
        values: how large it is.
        handled: measures handled/s for a value.
        sent: measures sends/s for a value; None where it can't matter.
    """

    name: str
    title: str
    values: tuple[int, ...]
    handled: Callable[[int], float]
    sent: Callable[[int], float] | None = None


def _handled(count: int, **growing: int) -> float:
    return doses.ours_handled(count, **growing)["per_s"]  # type: ignore[arg-type]


def _sent(count: int, **growing: int) -> float:
    return doses.ours_sent(count, **growing)["per_s"]  # type: ignore[arg-type]


CURVES: Final = (
    Curve(
        name="backlog",
        title="backlog, envelopes",
        values=(10_000, 100_000, 1_000_000),
        handled=_handled,
        sent=lambda backlog: doses.ours_sent_onto(backlog, SENDS)["per_s"],
    ),
    Curve(
        name="handlers",
        title="handlers of the signal",
        values=(1, 10, 100),
        handled=lambda handlers: _handled(max(6_000, 100_000 // handlers), handlers=handlers),
    ),
    Curve(
        name="payload",
        title="payload, times 300 bytes",
        values=(1, 10, 100),
        handled=lambda times: _handled(max(6_000, 100_000 // times), times=times),
        sent=lambda times: _sent(max(2_000, SENDS // times), times=times),
    ),
    Curve(
        name="signals",
        title="signals",
        values=(1, 10, 100),
        handled=lambda signals: _handled(100_000, signals=signals),
        sent=lambda signals: _sent(SENDS, signals=signals),
    ),
)


def points(curve: Curve) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield (title, what measures it) for each point of a curve."""
    for value in curve.values:

        def measure(value: int = value) -> dict[str, Any]:
            sent = None if curve.sent is None else curve.sent(value)
            return {
                "value": value,
                "handled_per_s": curve.handled(value),
                "send_us": None if sent is None else 1e6 / sent,
            }

        yield f"ours: {curve.name} {value}", measure
