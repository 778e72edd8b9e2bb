"""Runs in, finished runs out: threads for plain handlers, an event loop for async ones.

The executor cuts what was read into chunks (:meth:`Prefetch.chunk`), gives each to the kind of
slots that its first handler needs, and passes a run on when the next handler is of the other kind.
A chunk is a deque that others may take from, so that what has not begun can be given to idle slots
or back to the broker at any time. Knows no broker.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from lback_signal_worker.async_slots import AsyncSlots
from lback_signal_worker.in_hand import InHand
from lback_signal_worker.prefetch import Prefetch
from lback_signal_worker.processor import Processor, Run
from lback_signal_worker.slots import Chunk, PlainSlots, Read, Report, take_all
from lback_signal_worker.watch import Watch


class Executor:
    """Runs handlers.

    Args:
        processor: turns the handlers' ends into outcomes.
        prefetch: its ``slots`` is how many handlers of each kind run at once.
        hand: knows how long runs of a signal take.
        lease_s: what begins so long after it was taken is lost: it may be another consumer's.
        report: takes runs that are finished or lost.
    """

    def __init__(
        self,
        processor: Processor,
        *,
        prefetch: Prefetch,
        hand: InHand,
        lease_s: float,
        report: Report,
    ) -> None:
        self._prefetch = prefetch
        self._hand = hand
        self._report = report
        self._async = AsyncSlots(
            processor,
            prefetch.slots,
            hand=hand,
            lease_s=lease_s,
            report=report,
            pass_on=self._pass_on,
        )
        self._plain = PlainSlots(
            processor,
            prefetch.slots,
            hand=hand,
            lease_s=lease_s,
            report=report,
            pass_on=self._pass_on,
            finish_coroutine=self._async.finish_coroutine,
        )
        self._watch = Watch(
            processor,
            self._plain,
            self._async,
            hand=hand,
            report=report,
            resubmit=self._resubmit,
        )

    def start(self) -> None:
        """Start the threads."""
        self._plain.start()
        threading.Thread(target=self._watch.run, name="relay-watch", daemon=True).start()

    def start_reading(self, read: Read) -> None:
        """Have one of the threads for plain handlers read, and call :meth:`run_alone`."""
        self._plain.start_reading(read)

    def run_alone(self, run: Run, read: Read) -> Chunk | None:
        """Run what has come alone, at once in the thread that reads, where that is possible.

        Args:
            run: has not begun.
            read: goes on reading.

        Returns: what that thread is to leave reading with, for another one reads on; None: the run
            is submitted, and the thread goes on reading.
        """
        chunk: Chunk = deque([run])
        plain = run.handlers and not run.handlers[0].is_async
        if plain and self._plain.hand_over(read, chunk):
            self._watch.wake()
            return chunk
        self.submit(run.signal, [run])
        return None

    def submit(self, signal: str, runs: Sequence[Run]) -> None:
        """Run what was taken of one signal."""
        plain = []
        on_loop = []
        done = []
        for run in runs:
            if not run.handlers:
                done.append(run)
            elif run.handlers[0].is_async:
                on_loop.append(run)
            else:
                plain.append(run)
        average_s = self._hand.average_s(signal)
        for some, slots in ((plain, self._plain), (on_loop, self._async)):
            if some:
                size = self._prefetch.chunk(average_s, len(some))
                for start in range(0, len(some), size):
                    slots.put(deque(some[start : start + size]))
                self._watch.wake()
        if done:
            self._report(done)

    def take_back(self) -> list[Run]:
        """Return every run that has not begun; they will not run here."""
        unstarted = []
        for slots in (self._plain, self._async):
            for chunk in list(slots.chunks.values()):
                for run in take_all(chunk):
                    if run.position:
                        self._pass_on(run)
                    else:
                        unstarted.append(run)
        return unstarted

    @property
    def exhausted(self) -> bool:
        """Whether no thread is left that could run a plain handler."""
        return self._plain.exhausted

    def close(self) -> None:
        """End the threads and the loop. Nothing runs any more."""
        self._watch.stop()
        self._plain.close()
        self._async.close()

    def _pass_on(self, run: Run) -> None:
        """Queue a run for its next handler."""
        chunk: Chunk = deque([run])
        if run.handlers[run.position].is_async:
            self._async.put(chunk)
        else:
            self._plain.put(chunk)
        self._watch.wake()

    def _resubmit(self, runs: list[Run]) -> None:
        for run in runs:
            self._pass_on(run)
