"""The ledger of one row: what was published, started and finished, kept outside of Redis.

One file of lines, each appended by a single write, so that many processes share it and a killed one
leaves whole lines. Instants are seconds of the machine's monotonic clock, which all its processes
share; knows neither broker nor relay.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

PUBLISHED: Final = "published"
STARTED: Final = "started"
FINISHED: Final = "finished"


class Line(NamedTuple):
    """One line.

    Attributes:
        what: :data:`PUBLISHED`, :data:`STARTED` or :data:`FINISHED`.
        key: names the envelope; the sender chose it.
        handler: which handler; "" for what was published.
        attempt: of that handler; 0 for what was published.
        pid: the process that wrote the line.
        at: when.
    """

    what: str
    key: str
    handler: str
    attempt: int
    pid: int
    at: float


class Ledger:
    """Appends lines, and reads what all processes have appended.

    Args:
        path: the file, made when it is not there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._read_to = 0
        self._lines: list[Line] = []

    def note(self, what: str, key: str, handler: str = "", attempt: int = 0) -> None:
        """Append one line."""
        line = [what, key, handler, attempt, os.getpid(), time.monotonic()]
        os.write(self._file, json.dumps(line).encode() + b"\n")

    def lines(self) -> list[Line]:
        """Return all lines so far."""
        self._lines += self.fresh()
        return self._lines

    def fresh(self) -> list[Line]:
        """Return the lines since the last look, and keep none of them."""
        size = os.fstat(self._file).st_size
        if size <= self._read_to:
            return []
        block = os.pread(self._file, size - self._read_to, self._read_to)
        whole = block[: block.rfind(b"\n") + 1]
        self._read_to += len(whole)
        return [Line(*json.loads(text)) for text in whole.splitlines()]

    def of(self, what: str, *, key: str | None = None, handler: str | None = None) -> list[Line]:
        """Return the lines of one kind, for one envelope or handler if given."""
        return [
            line
            for line in self.lines()
            if line.what == what
            and (key is None or line.key == key)
            and (handler is None or line.handler == handler)
        ]

    def published(self) -> list[str]:
        """Return the keys that were published, in order."""
        return [line.key for line in self.of(PUBLISHED)]

    def finished(self) -> Counter[tuple[str, str]]:
        """Return (key, handler) to how often it was finished."""
        return Counter((line.key, line.handler) for line in self.of(FINISHED))

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
