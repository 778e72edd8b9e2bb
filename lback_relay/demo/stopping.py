"""Ending the demo by an OS signal: once, at once, and with everything cleaned up."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """An OS signal asked the demo to end; no ``except Exception`` keeps it from doing so."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as a shell tells it: 130 after Ctrl-C."""
        return 128 + self.number


@contextmanager
def stopped_by_os_signals() -> Iterator[None]:
    """Raise :class:`Stopped` at the first such OS signal, and ignore further ones.

    An impatient second Ctrl-C must not leave half of the processes behind. To be used in the main
    thread; the handlers of before are back afterwards.
    """
    stopped = False

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
