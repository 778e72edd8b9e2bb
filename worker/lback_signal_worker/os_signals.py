"""SIGTERM and SIGINT as entries of a queue that the main thread waits on.

A handler of an OS signal runs between any two steps of the main thread, so that it may take no
lock: it puts the number into a SimpleQueue, whose put is made for that, and returns.
"""

from __future__ import annotations

import contextlib
import queue
import signal
from types import FrameType, TracebackType
from typing import Any, Final

WATCHED: Final = (signal.SIGTERM, signal.SIGINT)


class OsSignals:
    """Catches OS signals inside ``with``, and restores what was there before."""

    def __init__(self) -> None:
        self._caught: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> OsSignals:  # noqa: PYI034 - Self came with Python 3.11
        for number in WATCHED:
            self._before[number] = signal.signal(number, self._catch)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def watch(self, number: signal.Signals) -> None:
        """Catch one more, unless this process was told to ignore it, as by nohup."""
        if signal.getsignal(number) is not signal.SIG_IGN:
            self._before[number] = signal.signal(number, self._catch)

    def wait(self, timeout_s: float | None = None) -> str | None:
        """Return the name of the next one; None when none came within ``timeout_s``."""
        with contextlib.suppress(queue.Empty):
            return signal.Signals(self._caught.get(timeout=timeout_s)).name
        return None

    def pending(self) -> bool:
        """Tell whether one was caught that nobody has waited for."""
        return not self._caught.empty()

    def _catch(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._caught.put(number)
