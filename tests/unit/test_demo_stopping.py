"""The demo ends by an OS signal where it may, and nowhere else."""

from __future__ import annotations

import os
import signal

import pytest

from lback_relay.demo.stopping import OsSignals, Stopped


def send(number: signal.Signals = signal.SIGINT) -> None:
    """Send this process an OS signal; its handler has run when this returns."""
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_os_signal_ends_the_demo_with_the_code_of_a_shell(number: signal.Signals) -> None:
    """130 after Ctrl-C, 143 after SIGTERM; the handlers of before are back."""
    before = signal.getsignal(number)
    with OsSignals() as os_signals, pytest.raises(Stopped) as stopped, os_signals.may_stop():
        send(number)
    assert stopped.value.exit_code == 128 + number
    assert signal.getsignal(number) is before


def test_a_second_os_signal_does_not_disturb_the_cleaning_up() -> None:
    """The impatient press Ctrl-C twice."""
    cleaned = []

    def work() -> None:
        try:
            send()
        finally:
            send()
            cleaned.append("all")

    with OsSignals() as os_signals, pytest.raises(Stopped), os_signals.may_stop():
        work()
    assert cleaned == ["all"]


def test_what_comes_while_servers_start_takes_effect_afterwards() -> None:
    """Nothing half-started is left behind, and the wish is not forgotten."""
    with OsSignals() as os_signals:
        send(signal.SIGTERM)
        with pytest.raises(Stopped) as stopped, os_signals.may_stop():
            pytest.fail("it went on")
    assert stopped.value.number == signal.SIGTERM


def test_what_comes_while_the_folder_goes_changes_nothing() -> None:
    """The removal ends, and so does the demo anyway."""
    with OsSignals() as os_signals:
        with os_signals.may_stop():
            pass
        send()


def test_a_held_part_comes_to_its_end_first() -> None:
    """Between the start of a process and the note that it runs nothing may come."""
    noted: list[str] = []

    def work() -> None:
        with os_signals.held():
            send()
            noted.append("child")
        noted.append("it went on")

    with OsSignals() as os_signals, pytest.raises(Stopped), os_signals.may_stop():
        work()
    assert noted == ["child"]


def test_holding_outside_of_what_may_stop_raises_nothing() -> None:
    """It was held anyway."""
    with OsSignals() as os_signals, os_signals.held():
        send()


def test_what_was_ignored_stays_ignored() -> None:
    """Under nohup the end of the terminal does not end the demo."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with OsSignals() as os_signals, os_signals.may_stop():
            send(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
