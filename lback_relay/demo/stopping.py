"""Ending the demo by an OS signal: once, and with everything cleaned up."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final

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


class OsSignals:
    """Holds Ctrl-C, SIGTERM and SIGHUP back inside ``with``, but where it says otherwise.

    What makes and removes folders and servers is not cut short: an OS signal that comes meanwhile
    takes effect at the next :meth:`may_stop`. To be used in the main thread; the handlers of
    before are back afterwards.
    """

    def __init__(self) -> None:
        self._first: int | None = None
        self._raises = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> OsSignals:  # noqa: PYI034 - Self came with Python 3.11
        for number in STOPPING:
            # What nohup or a background shell made this process ignore stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def may_stop(self) -> Iterator[None]:
        """Raise :class:`Stopped` at the first OS signal, also one that came before; once only.

        An impatient second Ctrl-C must not leave half of the processes behind.
        """
        if self._first is not None:
            raise Stopped(self._first)
        self._raises = True
        try:
            yield
        finally:
            self._raises = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let a part of :meth:`may_stop` come to its end; Stopped is raised after it, if at all."""
        raises, self._raises = self._raises, False
        try:
            yield
        finally:
            self._raises = raises
        if raises and self._first is not None:
            raise Stopped(self._first)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self._first is None:
            self._first = number
            if self._raises:
                raise Stopped(number)
