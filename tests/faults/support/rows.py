"""The rows' figures: collected, shown as a table at the end, and written as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

_HEAD: Final = ("row", "name", "published", "finished", "duplicates", "lost", "recovery_s", "")


@dataclass(kw_only=True)
class Figures:
    """What one row has shown; None: the row has no such figure.

    Attributes:
        row: its number in the fault matrix.
        name: the fault, in a few words.
        published: envelopes that the sender was told are taken.
        finished: (envelope, handler) pairs that have ended well.
        duplicates: further ends of such pairs.
        lost: pairs of which nothing is known.
        recovery_s: from the end of the fault until all was well again.
        passed: whether the test has.
        notes: what else is worth a line below the table; not in the JSON.
    """

    row: int
    name: str
    published: int | None = None
    finished: int | None = None
    duplicates: int | None = None
    lost: int | None = None
    recovery_s: float | None = None
    passed: bool = False
    notes: list[str] = field(default_factory=list)


def merged(parts: Iterable[Figures]) -> list[Figures]:
    """Return one for each row, in order: a row may be shown by several tests."""
    rows: dict[int, Figures] = {}
    for part in parts:
        row = rows.setdefault(part.row, Figures(row=part.row, name=part.name, passed=True))
        for name in ("published", "finished", "duplicates", "lost"):
            setattr(row, name, _both(getattr(row, name), getattr(part, name), sum))
        row.recovery_s = _both(row.recovery_s, part.recovery_s, max)
        row.passed = row.passed and part.passed
        row.notes += part.notes
    return [rows[number] for number in sorted(rows)]


def as_table(rows: Iterable[Figures]) -> list[str]:
    """Return the lines of a table, and the notes."""
    rows = list(rows)
    cells = [_HEAD, *(_cells(figures) for figures in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEAD))]
    table = [
        "  ".join(
            cell.ljust(width) if column in {1, 7} else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    return table + [f"row {figures.row}: {note}" for figures in rows for note in figures.notes]


def write_json(path: Path, rows: Iterable[Figures]) -> None:
    """Write the rows, one object each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([_fields(figures) for figures in rows], indent=2) + "\n")


def _fields(figures: Figures) -> dict[str, Any]:
    return {name: value for name, value in asdict(figures).items() if name != "notes"}


def _both(one: Any, other: Any, join: Callable[[tuple[Any, Any]], Any]) -> Any:
    if one is None or other is None:
        return one if other is None else other
    return join((one, other))


def _cells(figures: Figures) -> tuple[str, ...]:
    shown = ["-" if value is None else str(value) for value in _fields(figures).values()]
    return (*shown[:-1], "passed" if figures.passed else "FAILED")
