"""What a command that takes its time does meanwhile: say how far it is, and stop when asked.

Durations are seconds on the monotonic clock.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, TextIO

QUIET_S: Final = 1.0
"""What is done by then says nothing."""
_TERMINAL_EVERY_S: Final = 0.2
_LOG_EVERY_S: Final = 10.0


class Progress:
    """One line at a terminal, which is written anew; elsewhere a line now and then.

    Args:
        stream: where to say it; None means stderr.
        clock: returns the time.
    """

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._terminal = self._stream.isatty()
        self._next_at = clock() + (QUIET_S if self._terminal else _LOG_EVERY_S)
        self._shown = False

    def say(self, line: str) -> None:
        """Say how far it is, unless that was said just now."""
        now = self._clock()
        if now < self._next_at:
            return
        self._next_at = now + (_TERMINAL_EVERY_S if self._terminal else _LOG_EVERY_S)
        self._stream.write(f"\r{line}\x1b[K" if self._terminal else f"{line}\n")
        self._stream.flush()
        self._shown = True

    def clear(self) -> None:
        """Make room for what is said next."""
        if self._shown and self._terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown = False


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Yield what tells whether Ctrl-C or SIGTERM asks to stop; the second one does not ask.

    For the main thread alone, as all OS signals.
    """
    asked = False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
