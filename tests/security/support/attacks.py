"""The table of attacks: what was tried how often, and how often it was stopped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

_HEAD: Final = ("attack", "tried", "stopped", "")


@dataclass
class Attack:
    """One row.

    Attributes:
        attack: in a few words, what somebody would try.
        tried: how often a test did.
        stopped: how often it came to nothing.
    """

    attack: str
    tried: int = 0
    stopped: int = 0

    @property
    def held(self) -> bool:
        """Return whether it was tried, and stopped each time."""
        return 0 < self.tried == self.stopped


class AttackTable:
    """The rows by name, in the order in which they were first named."""

    def __init__(self) -> None:
        self._rows: dict[str, Attack] = {}

    def __iter__(self) -> Iterator[Attack]:
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def held(self) -> bool:
        """Return whether there are rows, and none shows an attack that was not stopped."""
        return bool(self._rows) and all(row.held for row in self)

    def record(self, attack: str, tried: int, stopped: int) -> None:
        """Add to the row of this attack; record before asserting, so that a failure shows.

        Args:
            attack: the row's name, the same wherever the same is tried.
            tried: how many times; not negative.
            stopped: how many of these came to nothing; at most ``tried``.

        Raises:
            ValueError: the two can't be.
        """
        if not 0 <= stopped <= tried:
            raise ValueError(f"{attack}: {stopped} of {tried} can't have been stopped")
        row = self._rows.setdefault(attack, Attack(attack))
        row.tried += tried
        row.stopped += stopped


def as_table(rows: Iterable[Attack]) -> list[str]:
    """Return the lines of a table."""
    cells = [
        _HEAD,
        *(
            (row.attack, f"{row.tried:,}", f"{row.stopped:,}", "" if row.held else "NOT STOPPED")
            for row in rows
        ),
    ]
    name, tried, stopped = (max(len(line[column]) for line in cells) for column in range(3))
    return [
        f"{line[0]:<{name}}  {line[1]:>{tried}}  {line[2]:>{stopped}}  {line[3]}".rstrip()
        for line in cells
    ]


def write_json(path: Path, rows: Iterable[Attack]) -> None:
    """Write the rows, one object each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
