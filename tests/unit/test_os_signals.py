"""OS signals of a worker: waited for while it runs, and heeded at once before that."""

from __future__ import annotations

import signal
from contextlib import suppress

import pytest

from lback_signal_worker.os_signals import OsSignals, Stopped


def test_an_os_signal_is_waited_for() -> None:
    """By its name, each once; what was there before is back afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    with OsSignals() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.pending()
        assert stop.wait(0) == "SIGTERM"
        assert stop.wait(0) is None
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_start_is_left_at_the_first_os_signal() -> None:
    """Whatever ``except Exception`` stands in its way; afterwards they are waited for again."""
    with OsSignals() as stop:
        with pytest.raises(Stopped), stop.may_stop(), suppress(Exception):
            signal.raise_signal(signal.SIGINT)
        assert stop.wait(0) == "SIGINT"
        signal.raise_signal(signal.SIGINT)
        assert stop.pending()


def test_one_that_came_before_or_was_swallowed_counts_too() -> None:
    """A module that catches everything only puts the end off."""
    with OsSignals() as stop:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped), stop.may_stop():
            raise AssertionError("it was begun")
        stop.wait(0)
        with pytest.raises(Stopped), stop.may_stop(), suppress(BaseException):
            signal.raise_signal(signal.SIGTERM)
