"""How the demo shows its progress."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from lback_relay.demo.report import PlainReport, TerminalReport, reporting


def test_plain_progress_is_a_few_lines_and_always_the_last() -> None:
    """A thousand steps do not fill a log."""
    stream = io.StringIO()
    report = PlainReport(stream)
    for done in range(1, 1001):
        report.advance("Registered", done, 1000)
    report.advance("Registered", 1000, 1000)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5
    assert lines[-1] == "Registered: 1000 of 1000"


def test_plain_progress_of_a_few_steps_shows_each() -> None:
    """One line per step, none for a repetition."""
    stream = io.StringIO()
    report = PlainReport(stream)
    for done in (0, 1, 1, 2):
        report.advance("Mails", done, 2)
    assert stream.getvalue().splitlines() == ["Mails: 1 of 2", "Mails: 2 of 2"]


def test_the_plain_table_is_lines_of_text() -> None:
    """Values to the right."""
    stream = io.StringIO()
    PlainReport(stream).table([("mails", "20"), ("lost", "0")])
    assert stream.getvalue().splitlines() == ["", "mails  20", "lost    0"]


def test_a_terminal_gets_bars_and_a_table() -> None:
    """Square brackets in a text are no markup."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80)
    with Progress(console=console) as progress:
        report = TerminalReport(console, progress)
        report.say("Starting [redis]")
        report.advance("Mails", 1, 2)
        report.advance("Mails", 2, 2)
        report.table([("lost", "0")])
    shown = stream.getvalue()
    assert "Starting [redis]" in shown
    assert "Mails" in shown
    assert "lost" in shown


def test_with_json_the_progress_goes_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Standard output is left to the JSON object."""
    with reporting(as_json=True) as report:
        report.say("Starting")
    with reporting(as_json=False) as report:
        report.say("Going on")
    captured = capsys.readouterr()
    assert captured.err == "Starting\n"
    assert captured.out == "Going on\n"
