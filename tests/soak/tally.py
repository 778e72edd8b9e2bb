"""The account of a soak, kept small: a byte for each envelope and question, however long it runs.

A key is ``SENDER-NUMBER``, numbered from 0. Knows neither broker nor clock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from faults.support.account import Pair
from faults.support.ledger import FINISHED, PUBLISHED, Line

_MOST: Final = 255


class Counts:
    """How often each key was seen."""

    def __init__(self) -> None:
        self.total = 0
        self._of: defaultdict[str, bytearray] = defaultdict(bytearray)

    def add(self, key: str) -> None:
        """Count one more."""
        sender, _, text = key.rpartition("-")
        number, counts = int(text), self._of[sender]
        if number >= len(counts):
            counts.extend(bytes(number + 1024 - len(counts)))
        counts[number] = min(counts[number] + 1, _MOST)
        self.total += 1

    def __getitem__(self, key: str) -> int:
        sender, _, text = key.rpartition("-")
        counts = self._of.get(sender, b"")
        return counts[int(text)] if int(text) < len(counts) else 0

    def __iter__(self) -> Iterator[str]:
        for sender, counts in self._of.items():
            for number, count in enumerate(counts):
                if count:
                    yield f"{sender}-{number}"

    def repeated(self) -> list[str]:
        """Return the keys seen more than once."""
        return [key for key in self if self[key] > 1]


class Tally:
    """What was published, what is in the stream, and what each handler has finished.

    Args:
        handlers: their names.
    """

    def __init__(self, handlers: tuple[str, ...]) -> None:
        self.published = Counts()
        self.streamed = Counts()
        self.finished = {name: Counts() for name in handlers}
        self.last_end_of: dict[int, float] = {}

    def read(self, lines: Iterable[Line]) -> None:
        """Take lines of the ledger."""
        for line in lines:
            if line.what == PUBLISHED:
                self.published.add(line.key)
            elif line.what == FINISHED:
                self.finished[line.handler].add(line.key)
                self.last_end_of[line.pid] = line.at

    def duplicates(self) -> int:
        """Return how many ends there were beyond each first."""
        return sum(counts.total - sum(1 for _ in counts) for counts in self.finished.values())

    def open(self) -> set[Pair]:
        """Return (key, handler) of what was published and has not ended well."""
        return {
            (key, name)
            for key in self.published
            for name, counts in self.finished.items()
            if not counts[key]
        }

    def missing_in_stream(self) -> list[str]:
        """Return what was published and was never in the stream."""
        return [key for key in self.published if not self.streamed[key]]
