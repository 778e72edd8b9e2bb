"""Dead letters counted, and the newest of them listed. Keeps no envelope, and knows no broker."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NamedTuple

from lback_relay.broker.base import DeadLetterRecord
from lback_relay.cli.text import ABSENT, age, shortened, table
from lback_relay.printable import printable
from lback_relay.redaction import redact_text

_MIN_ERROR_WIDTH = 30


class Kind(NamedTuple):
    """What letters are counted by."""

    signal: str
    group: str
    handler: str
    reason: str


@dataclass(slots=True)
class Count:
    """How many letters of one kind there are, and when the first and the last died (ms)."""

    letters: int
    oldest_ms: int
    newest_ms: int


class Row(NamedTuple):
    """One letter in the list; sorts by when it died."""

    dead_at_ms: int
    sequence: int
    entry_id: str
    signal: str
    group: str
    handler: str
    reason: str
    attempts: int
    error: str


class Tally:
    """Counts letters, and keeps the newest.

    Args:
        limit: how many to keep.

    Attributes:
        letters: how many there are.
        counts: how many there are of each kind.
    """

    def __init__(self, limit: int = 0) -> None:
        self.letters = 0
        self.counts: dict[Kind, Count] = {}
        self._limit = limit
        self._newest: list[Row] = []

    def add(self, record: DeadLetterRecord) -> None:
        """Count one letter."""
        letter, died_ms = record.letter, record.dead_at_ms
        self.letters += 1
        kind = Kind(record.signal, record.group, letter.handler, letter.reason)
        count = self.counts.setdefault(kind, Count(0, died_ms, died_ms))
        count.letters += 1
        count.oldest_ms = min(count.oldest_ms, died_ms)
        count.newest_ms = max(count.newest_ms, died_ms)
        sequence = int(record.entry_id.partition("-")[2])
        row = Row(died_ms, sequence, record.entry_id, *kind, letter.attempts, letter.error)
        if len(self._newest) < self._limit:
            heapq.heappush(self._newest, row)
        elif self._newest and row > self._newest[0]:
            heapq.heapreplace(self._newest, row)

    @property
    def newest(self) -> list[Row]:
        """The newest letters, the newest first; their errors as they may be shown."""
        newest = sorted(self._newest, reverse=True)
        return [row._replace(error=redact_text(row.error)) for row in newest]

    def count_lines(self, now_ms: int) -> list[str]:
        """Return the table of counts."""
        header = ("signal", "group", "handler", "reason", "letters", "oldest", "newest")
        rows = [
            (
                *(printable(part) or ABSENT for part in kind),
                f"{count.letters:,}",
                age((now_ms - count.oldest_ms) / 1000),
                age((now_ms - count.newest_ms) / 1000),
            )
            for kind, count in sorted(self.counts.items())
        ]
        return table(header, rows, right=("letters", "oldest", "newest"))

    def newest_lines(self, now_ms: int, width: int) -> list[str]:
        """Return the table of the newest letters.

        Args:
            now_ms: when "now" is.
            width: what the lines should fit into, in characters; errors are cut for it.
        """
        header = ("id", "age", "signal", "group", "handler", "reason", "attempts")
        newest = self.newest
        rows = [
            (
                row.entry_id,
                age((now_ms - row.dead_at_ms) / 1000),
                printable(row.signal),
                printable(row.group),
                printable(row.handler) or ABSENT,
                printable(row.reason) or ABSENT,
                str(row.attempts),
            )
            for row in newest
        ]
        lines = table(header, rows, right=("age", "attempts"))
        room = max(_MIN_ERROR_WIDTH, width - max(map(len, lines)) - 2)
        errors = ["error"]
        for row in newest:
            # One line of it will do here.
            first, *more = row.error.splitlines() or [""]
            errors.append(shortened(printable(first) + (" …" if more else ""), room))
        longest = max(map(len, lines))
        return [
            f"{line.ljust(longest)}  {error}".rstrip()
            for line, error in zip(lines, errors, strict=True)
        ]

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "letters": self.letters,
            "counts": [
                {
                    **kind._asdict(),
                    "letters": count.letters,
                    "oldest": instant(count.oldest_ms),
                    "newest": instant(count.newest_ms),
                }
                for kind, count in sorted(self.counts.items())
            ],
            "newest": [
                {
                    "id": row.entry_id,
                    "signal": row.signal,
                    "group": row.group,
                    "handler": row.handler,
                    "reason": row.reason,
                    "attempts": row.attempts,
                    "error": row.error,
                    "dead_at": instant(row.dead_at_ms),
                }
                for row in self.newest
            ],
        }


def instant(ms: int) -> str:
    """Return an instant in ISO 8601, in UTC; one that no calendar holds as its ms."""
    try:
        at = datetime.fromtimestamp(ms / 1000, timezone.utc)
    except (OverflowError, ValueError, OSError):
        return f"{ms} ms"
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
