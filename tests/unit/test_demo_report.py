"""How the demo shows its progress, and how OS signals end it."""

from __future__ import annotations

import io
import os
import signal

import pytest
from rich.console import Console
from rich.progress import Progress

from lback_relay.demo.report import PlainReport, TerminalReport, reporting
from lback_relay.demo.stopping import Stopped, stopped_by_os_signals


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_os_signal_ends_the_demo_with_the_code_of_a_shell(number: signal.Signals) -> None:
    """130 after Ctrl-C, 143 after SIGTERM; the handlers of before are back."""
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped, stopped_by_os_signals():
        os.kill(os.getpid(), number)
    assert stopped.value.exit_code == 128 + number
    assert signal.getsignal(number) is before


def test_a_second_os_signal_does_not_disturb_the_cleaning_up() -> None:
    """The impatient press Ctrl-C twice."""
    cleaned = []

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            cleaned.append("all")

    with pytest.raises(Stopped), stopped_by_os_signals():
        work()
    assert cleaned == ["all"]
