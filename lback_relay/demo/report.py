"""Showing the demo's progress and its table: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from lback_relay.demo.figures import plain_table

# A file or a CI log does not need a line for each of a thousand users.
MAX_LINES_PER_STEP: Final = 5


class PlainReport:
    """Lines of text."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last: dict[str, int] = {}

    def say(self, text: str) -> None:
        """Write one line."""
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def advance(self, what: str, done: int, total: int) -> None:
        """Write a line now and then, and at the end."""
        step = max(1, -(-total // MAX_LINES_PER_STEP))
        if done // step > self._last.get(what, 0) // step or (
            done >= total > self._last.get(what, 0)
        ):
            self.say(f"{what}: {done} of {total}")
            self._last[what] = done

    def table(self, rows: Sequence[tuple[str, str]]) -> None:
        """Write (what, value) rows below each other."""
        for line in ("", *plain_table(rows)):
            self.say(line)


class TerminalReport:
    """Bars that move, and a table with a frame."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._console = console
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def say(self, text: str) -> None:
        """Write one line above the bars."""
        self._console.print(text, markup=False, highlight=False)

    def advance(self, what: str, done: int, total: int) -> None:
        """Move the bar of this name."""
        if what not in self._bars:
            self._bars[what] = self._progress.add_task(what, total=total)
        self._progress.update(self._bars[what], completed=done)

    def table(self, rows: Sequence[tuple[str, str]]) -> None:
        """Draw (what, value) rows."""
        self._progress.stop()
        table = Table(show_header=False)
        table.add_column()
        table.add_column(justify="right")
        for what, value in rows:
            table.add_row(what, value)
        self._console.print(table)


@contextmanager
def reporting(*, as_json: bool) -> Iterator[PlainReport | TerminalReport]:
    """Give what shows the progress: on standard error where the JSON object has the output."""
    stream = sys.stderr if as_json else sys.stdout
    if not stream.isatty():
        yield PlainReport(stream)
        return
    console = Console(file=stream)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console) as progress:
        yield TerminalReport(console, progress)
