"""Log at most one line a second of each kind, and count what was held back.

A broker that is away fails thousands of sends; one line a second says so as well, and leaves the
log readable.
"""

from __future__ import annotations

import logging
import time


class Throttle:
    """One kind of log lines. No clock: time is an argument.

    Two threads that ask in the same instant may both get through; that does no harm.
    """

    __slots__ = ("_held_back", "_interval_s", "_open_at")

    def __init__(self, interval_s: float = 1.0) -> None:
        self._interval_s = interval_s
        self._open_at = float("-inf")
        self._held_back = 0

    def admit(self, now_s: float) -> int | None:
        """Ask to write a line.

        Args:
            now_s: a monotonic clock's seconds.

        Returns: how many lines were held back since the last one; None to hold this one back, too.
        """
        if now_s < self._open_at:
            self._held_back += 1
            return None
        self._open_at = now_s + self._interval_s
        held_back, self._held_back = self._held_back, 0
        return held_back


class ThrottledLog:
    """A logger that keeps each kind of line, told by its text, to one a second."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._throttles: dict[str, Throttle] = {}

    def say(
        self,
        level: int,
        text: str,
        *args: object,
        signal: str | None = None,
        error: Exception | None = None,
    ) -> None:
        """Log a line, unless one of its kind was logged within the last second.

        Args:
            level: of ``logging``.
            text: constant; its arguments follow.
            *args: the text's arguments.
            signal: the name of the signal that it is about.
            error: logged with its traceback.
        """
        held_back = self._throttles.setdefault(text, Throttle()).admit(time.monotonic())
        if held_back is not None:
            extra = {"relay_signal": signal, "relay_lines_held_back": held_back}
            self._log.log(level, text, *args, extra=extra, exc_info=error)
