"""Threads that run plain handlers.

A *slot* is one thread. It takes a chunk of runs from the queue and works it off, run by run, each
through its handlers one after the other. The finished ones are reported together at the chunk's
end, or earlier by the watch (:mod:`lback_signal_worker.watch`) when the slot takes long.

Where the broker is read there is one thread more, and one of them all *reads* ("leader and
followers"): so that an entry that comes alone need not wait until another thread has woken up, the
reader runs it itself, after a thread that is free has taken over the reading. With none free it
goes on reading, and the entry waits in the queue: no more handlers run at once than are allowed.

What can go wrong, and what happens then:

- A handler raises anything, SystemExit and KeyboardInterrupt too: it is that attempt's failure.
- A handler exceeds its ``timeout_s``. A thread can't be killed. The watch takes the attempt's
  *token*; whoever has it settles the attempt. The thread is abandoned, another takes its place,
  and when the handler comes back at last its end is ignored. At most ``ABANDONED_PER_SLOT`` threads
  for each slot are replaced; after that slots go missing until a handler comes back.
- The worker ends while handlers run: the threads are daemons and end with the process.

Context variables that a handler sets are gone after it. Durations are seconds.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from inspect import iscoroutine
from time import monotonic
from typing import Any, Final

from lback_relay.remote import Handler
from lback_signal_worker.in_hand import InHand
from lback_signal_worker.processor import Processor, Run

logger = logging.getLogger(__name__)

ABANDONED_PER_SLOT: Final = 4

Chunk = deque[Run]
Read = Callable[[], "Chunk | None"]
"""Reads until something comes that the caller is to run itself; None once reading has ended."""
Report = Callable[[list[Run]], None]
Token = deque[tuple[Run, Handler, float]]
"""Holds (run, handler, deadline) until the attempt has ended or its time is up."""


class Slot:
    """What one slot does at the moment. Written by the slot, read by the watch.

    Attributes:
        ident: of its thread.
        chunk: what it took and has not begun.
        finished: what it finished and has not reported.
        run: what it runs; None when it waits.
        began_at: when that run began, on the monotonic clock.
        token: of the attempt, when its handler has a timeout.
    """

    __slots__ = ("began_at", "chunk", "finished", "ident", "run", "token")

    def __init__(self, ident: int) -> None:
        self.ident = ident
        self.chunk: Chunk = deque()
        self.finished: Chunk = deque()
        self.run: Run | None = None
        self.began_at = 0.0
        self.token: Token = deque()


def take_all(runs: Chunk) -> list[Run]:
    """Take what is in a deque from which others take too."""
    taken = []
    try:
        while True:
            taken.append(runs.popleft())
    except IndexError:
        return taken


class PlainSlots:
    """The threads for plain handlers.

    Args:
        processor: turns the handlers' ends into outcomes.
        count: how many run at once.
        hand: is told how long runs take.
        lease_s: what begins so long after it was taken is lost: it may be another consumer's.
        report: takes runs that are finished or lost.
        pass_on: takes a run whose next handler is async.
        finish_coroutine: waits for the end of a coroutine that a plain handler returned.
    """

    def __init__(
        self,
        processor: Processor,
        count: int,
        *,
        hand: InHand,
        lease_s: float,
        report: Report,
        pass_on: Callable[[Run], None],
        finish_coroutine: Callable[[Coroutine[Any, Any, Any]], Any],
    ) -> None:
        self.chunks: dict[int, Chunk] = {}
        self.slots: list[Slot] = []
        self._processor = processor
        self._count = count
        self._hand = hand
        self._lease_s = lease_s
        self._report = report
        self._pass_on = pass_on
        self._finish_coroutine = finish_coroutine
        self._queue: queue.SimpleQueue[Chunk | Read | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._free = 0  # threads that wait at the queue, less what they will find there
        self._abandoned = 0
        self._missing = 0

    def start(self) -> None:
        """Start the threads."""
        for _ in range(self._count):
            self._start_slot()

    def start_reading(self, read: Read) -> None:
        """Start one thread more, and have one of them read."""
        self._start_slot()
        with self._lock:
            self._free -= 1
            self._queue.put(read)

    def hand_over(self, read: Read, chunk: Chunk) -> bool:
        """Have a thread that is free read on, so that the reader may work off a chunk.

        Returns: whether there was one. If not, nothing has happened.
        """
        with self._lock:
            if self._free <= 0:
                return False
            self._free -= 1
            self.chunks[id(chunk)] = chunk
            self._queue.put(read)
        return True

    def put(self, chunk: Chunk) -> None:
        """Queue a chunk of runs of one signal whose next handler is plain."""
        self.chunks[id(chunk)] = chunk
        with self._lock:
            self._free -= 1
            self._queue.put(chunk)

    def close(self) -> None:
        """Let the threads end that wait for work."""
        for _ in range(len(self.slots)):
            self._queue.put(None)

    @property
    def exhausted(self) -> bool:
        """Whether every slot is missing: all hang in handlers that exceeded their timeouts."""
        return self._missing >= self._count

    def abandon(self, slot: Slot) -> None:
        """Replace the thread of a slot whose handler exceeded its timeout."""
        self.slots.remove(slot)
        self.chunks.pop(id(slot.chunk), None)
        with self._lock:
            self._abandoned += 1
            replaced = self._abandoned <= ABANDONED_PER_SLOT * self._count
        if not (replaced and self._replaced()):
            with self._lock:
                self._missing += 1
            logger.error(
                "%d handlers have exceeded their timeouts and still run; %d of %d slots are "
                "missing until they end. Give what they wait for a timeout of its own.",
                self._abandoned, self._missing, self._count,
            )  # fmt: skip

    def _start_slot(self) -> None:
        threading.Thread(target=self._serve, name="relay-slot", daemon=True).start()

    def _replaced(self) -> bool:
        """Start a thread in the place of one that hangs. Returns whether that was possible."""
        try:
            self._start_slot()
        except RuntimeError as error:  # the system's limit of threads
            logger.error(  # noqa: TRY400 - where it was raised tells nothing
                "no thread can be started in the place of one that hangs: %s", error
            )
            return False
        return True

    def _serve(self) -> None:
        slot = Slot(threading.get_ident())
        self.slots.append(slot)
        while True:
            with self._lock:
                self._free += 1
            job = self._queue.get()
            chunk = job() if callable(job) else job
            if chunk is None:
                return
            if not self._work_off(slot, chunk):
                self._came_back()
                return

    def _came_back(self) -> None:
        """Note that an abandoned thread's handler has ended after all."""
        with self._lock:
            self._abandoned -= 1
            needed = self._missing > 0
            if needed:
                self._missing -= 1
        if needed and not self._replaced():
            with self._lock:
                self._missing += 1

    def _work_off(self, slot: Slot, chunk: Chunk) -> bool:
        """Run a chunk. Returns False when this thread was abandoned meanwhile."""
        slot.chunk = chunk
        finished = slot.finished
        signal = ""
        count = 0
        started_at = now = monotonic()
        while chunk:
            try:
                run = chunk.popleft()
            except IndexError:  # the watch took what was left
                break
            slot.began_at = now
            slot.run = run
            try:
                if run.lost or now - run.taken_at >= self._lease_s:
                    run.lost = True
                    finished.append(run)
                elif not self._run(slot, run):
                    return False
            except Exception:  # a fault of ours must not cost a slot
                logger.exception("a run of %s failed in the worker itself", run.signal)
                run.lost = True
                finished.append(run)
            signal = run.signal
            count += 1
            now = monotonic()
        slot.run = None
        self.chunks.pop(id(chunk), None)
        if count:
            self._hand.measured(signal, (now - started_at) / count)
        done = take_all(finished)
        if done:
            self._report(done)
        return True

    def _run(self, slot: Slot, run: Run) -> bool:
        """Run the handlers that are left. Returns False when this thread was abandoned."""
        processor = self._processor
        if run.envelope is None and not processor.open(run):
            slot.finished.append(run)
            return True
        handlers = run.handlers
        while run.position < len(handlers):
            handler = handlers[run.position]
            if handler.is_async:
                self._pass_on(run)
                return True
            timeout_s = handler.options.timeout_s
            if timeout_s is not None:
                if run.position:
                    slot.began_at = monotonic()  # its time, not that of those before it
                slot.token = token = deque([(run, handler, slot.began_at + timeout_s)])
            error: BaseException | None = None
            try:
                context = copy_context()
                result = context.run(handler.function, **processor.arguments(run, handler))
                if result is not None and iscoroutine(result):
                    self._finish_coroutine(result)
            except BaseException as raised:  # noqa: BLE001 - SystemExit in a handler is its failure
                error = raised
            if timeout_s is not None:
                try:
                    token.pop()
                except IndexError:
                    return False
            if error is not None:
                processor.failed(run, handler, error)
            run.position += 1
        run.envelope = None  # a thousand that wait for settling keep the collector busy
        slot.finished.append(run)
        return True
