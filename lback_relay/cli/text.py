"""How commands lay out what they print. Pure.

What comes from the broker was written by others: it goes through
:func:`~lback_relay.printable.printable`, so that no control character of theirs reaches a terminal.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

ABSENT: Final = "-"
"""What is listed in the place of a name that is not there."""


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[str] = ()
) -> list[str]:
    """Lay out columns, each as wide as its widest cell.

    Args:
        header: the columns' names.
        rows: their cells.
        right: names of the columns that are aligned at the right.
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(header, row, widths, strict=True)
        ).rstrip()
        for row in (header, *rows)
    ]


def shortened(text: str, length: int) -> str:
    """Cut a text that is longer, and mark it as cut."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def counted(count: int, what: str) -> str:
    """Return ``1 dead letter``, ``1,200 dead letters``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def age(seconds: float) -> str:
    """Return a duration in its largest unit, rounded down: ``5 s``, ``12 m``, ``3 h``, ``40 d``."""
    whole = max(0, int(seconds))
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"
