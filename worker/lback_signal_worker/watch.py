"""Looking after slots that take long, from a thread of its own.

While anything runs, each tick looks at every slot. One that has been on the same run for longer
than ``LONG_S`` gives up what it has not begun to the other slots, and what it has finished is
reported. A plain handler beyond its ``timeout_s`` is timed out here; async ones time out on their
own loop. While nothing runs, this thread sleeps. Durations are seconds on the monotonic clock.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable
from time import monotonic
from typing import Final

from lback_signal_worker.async_slots import AsyncSlots
from lback_signal_worker.in_hand import InHand
from lback_signal_worker.processor import AttemptTimeout, Processor, Run
from lback_signal_worker.slots import Chunk, PlainSlots, Report, Slot, take_all

logger = logging.getLogger(__name__)

TICK_S: Final = 0.05
LONG_S: Final = 0.05


class Watch:
    """Watches the slots of one worker.

    Args:
        processor: makes the outcome of a timeout.
        plain: the threads.
        on_loop: the slots of the event loop.
        hand: is told that a run takes longer than those before.
        report: takes runs that are finished.
        resubmit: takes runs that another slot may begin.
    """

    def __init__(
        self,
        processor: Processor,
        plain: PlainSlots,
        on_loop: AsyncSlots,
        *,
        hand: InHand,
        report: Report,
        resubmit: Callable[[list[Run]], None],
    ) -> None:
        self._processor = processor
        self._plain = plain
        self._on_loop = on_loop
        self._hand = hand
        self._report = report
        self._resubmit = resubmit
        self._busy = threading.Event()
        self._stopped = False

    def run(self) -> None:
        """Watch until :meth:`stop`."""
        while True:
            self._busy.wait()
            if self._stopped:
                return
            self._busy.clear()
            pause = threading.Event()
            while self._something_runs() and not self._stopped:
                pause.wait(TICK_S)
                try:
                    self.look(monotonic())
                except Exception:
                    logger.exception("watching the slots failed; going on")

    def wake(self) -> None:
        """Say that something runs; it is in its slots' chunks already."""
        if not self._busy.is_set():  # setting it again takes a lock
            self._busy.set()

    def stop(self) -> None:
        """End :meth:`run`."""
        self._stopped = True
        self._busy.set()

    def look(self, now: float) -> None:
        """Look at every slot once.

        Args:
            now: the time on the monotonic clock.
        """
        for slot in list(self._plain.slots):
            self._relieve(slot, now)
            self._time_out(slot, now)
        for slot in list(self._on_loop.slots):
            self._relieve(slot, now)

    def _something_runs(self) -> bool:
        return bool(self._plain.chunks or self._on_loop.chunks)

    def _relieve(self, slot: Slot, now: float) -> None:
        """Free what lies before and behind a run that takes long."""
        run = slot.run
        if run is None or now - slot.began_at < LONG_S:
            return
        average_s = self._hand.average_s(run.signal)
        if average_s is None or now - slot.began_at > average_s:
            self._hand.measured(run.signal, now - slot.began_at)
        waiting = take_all(slot.chunk)
        if waiting:
            self._resubmit(waiting)
        finished = take_all(slot.finished)
        if finished:
            self._report(finished)

    def _time_out(self, slot: Slot, now: float) -> None:
        token = slot.token
        try:
            if now < token[0][2]:
                return
            run, handler, _ = token.pop()
        except IndexError:  # it ended by itself
            return
        stack = _stack_of(slot.ident)
        timeout_s = handler.options.timeout_s
        error = AttemptTimeout(
            f"took longer than timeout_s ({timeout_s:g} s); the thread goes on until the handler "
            "returns"
        )
        left: Chunk = slot.chunk
        self._plain.abandon(slot)
        self._processor.failed(run, handler, error, stack=stack)
        run.position += 1
        finished = take_all(slot.finished)
        if run.finished:
            finished.append(run)
        else:
            self._resubmit([run])
        if finished:
            self._report(finished)
        waiting = take_all(left)
        if waiting:
            self._resubmit(waiting)


def _stack_of(ident: int) -> str:
    """Return where a thread is."""
    frame = sys._current_frames().get(ident)  # noqa: SLF001 - documented, for debuggers
    return "".join(traceback.format_stack(frame)) if frame is not None else ""
