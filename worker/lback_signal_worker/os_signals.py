"""SIGTERM and SIGINT as entries of a queue that the main thread waits on.

A handler of an OS signal runs between any two steps of the main thread, so that it may take no
lock: it puts the number into a SimpleQueue, whose put is made for that, and returns. Before the
worker runs nobody waits, and nothing is in hand: there it raises.
"""

from __future__ import annotations

import contextlib
import queue
import signal
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, Final

WATCHED: Final = (signal.SIGTERM, signal.SIGINT)


class Stopped(KeyboardInterrupt):
    """An OS signal came before the worker ran; a project's code lets it pass as it does Ctrl-C."""


class OsSignals:
    """Catches OS signals inside ``with``, and restores what was there before."""

    def __init__(self) -> None:
        self._caught: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._before: dict[int, Any] = {}
        self._raises = False

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

    @contextlib.contextmanager
    def may_stop(self) -> Iterator[None]:
        """Raise :class:`Stopped` at an OS signal, also at one that came before or was swallowed."""
        try:
            self._raises = True
            self._stop_if_pending()
            yield
        finally:
            self._raises = False
        self._stop_if_pending()

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
        if self._raises:
            raise Stopped

    def _stop_if_pending(self) -> None:
        if self.pending():
            raise Stopped
