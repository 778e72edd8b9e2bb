"""One event loop, in one thread, that runs async handlers.

As many slots as the worker's concurrency, each a coroutine that works off chunks as a thread does
(:mod:`lback_signal_worker.slots`). Every attempt is an asyncio task of its own: context variables
stay inside, ``asyncio.timeout`` and task groups work, and it can be cancelled.

What can go wrong: a handler that exceeds its ``timeout_s`` is cancelled, and has
``CANCEL_GRACE_S`` to end; then its slot goes on without it. A handler that blocks the loop (a
plain ``time.sleep``) stops every other async handler of this worker, and its own timeout is noticed
only afterwards; leases and reading go on. Durations are seconds.
"""

from __future__ import annotations

import asyncio
import io
import logging
import threading
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, Final

from lback_relay.remote import Handler
from lback_signal_worker.in_hand import InHand
from lback_signal_worker.processor import AttemptTimeout, Processor, Run
from lback_signal_worker.slots import Chunk, Report, Slot, take_all

logger = logging.getLogger(__name__)

CANCEL_GRACE_S: Final = 1.0
CLOSE_S: Final = 1.0


class AsyncSlots:
    """The event loop and its slots. The loop starts when it is first needed.

    Args: as :class:`~lback_signal_worker.slots.PlainSlots`; ``pass_on`` takes a run whose next
        handler is plain.
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
    ) -> None:
        self.chunks: dict[int, Chunk] = {}
        self.slots: list[Slot] = []
        self._processor = processor
        self._count = count
        self._hand = hand
        self._lease_s = lease_s
        self._report = report
        self._pass_on = pass_on
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._queue: asyncio.Queue[Chunk] = asyncio.Queue()
        self._kept: set[asyncio.Task[Any]] = set()  # the loop itself keeps weak references only

    def put(self, chunk: Chunk) -> None:
        """Queue a chunk of runs of one signal whose next handler is async."""
        self.chunks[id(chunk)] = chunk
        self._running_loop().call_soon_threadsafe(self._queue.put_nowait, chunk)

    def finish_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine on the loop, and wait in this thread for its end.

        Raises: what it raises.
        """
        guarded = _guarded(coroutine)
        error = asyncio.run_coroutine_threadsafe(guarded, self._running_loop()).result()
        if error is not None:
            raise error

    def close(self) -> None:
        """Cancel what waits and end the loop."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(2 * CLOSE_S)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        loop = self._loop
        if loop is not None:
            return loop
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._serve_loop, args=(self._loop,), name="relay-loop", daemon=True
                )
                self._thread.start()
            return self._loop

    def _serve_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        for _ in range(self._count):
            slot = Slot(threading.get_ident())
            self.slots.append(slot)
            self._kept.add(loop.create_task(self._serve(slot)))
        try:
            while self._loop is loop:
                try:
                    loop.run_forever()
                except BaseException:  # noqa: PERF203 - SystemExit of a task that a handler began
                    logger.exception("a task of a handler has raised; the event loop goes on")
        finally:
            left = asyncio.all_tasks(loop)
            for attempt in left:
                attempt.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left, timeout=CLOSE_S))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    async def _serve(self, slot: Slot) -> None:
        while True:
            try:
                chunk = await self._queue.get()
            except asyncio.CancelledError:
                if self._loop is None:  # it is closed
                    raise
                continue  # a handler has cancelled all tasks that it found
            await self._work_off(slot, chunk)

    async def _work_off(self, slot: Slot, chunk: Chunk) -> None:
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
                else:
                    await self._run(slot, run)
            except BaseException:  # a fault of ours, or a handler that cancels every task it finds
                if self._loop is None:
                    raise
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

    async def _run(self, slot: Slot, run: Run) -> None:
        """Run the handlers that are left, up to one that is plain."""
        processor = self._processor
        if run.envelope is None and not processor.open(run):
            slot.finished.append(run)
            return
        handlers = run.handlers
        while run.position < len(handlers):
            handler = handlers[run.position]
            if not handler.is_async:
                self._pass_on(run)
                return
            stack: str | None = None
            try:
                coroutine = handler.function(**processor.arguments(run, handler))
            except BaseException as raised:  # noqa: BLE001 - it can't take the payload
                error: BaseException | None = raised
            else:
                attempt = asyncio.get_running_loop().create_task(_guarded(coroutine))
                if handler.options.timeout_s is None:
                    error = await attempt
                else:
                    error, stack = await self._bounded(attempt, handler, handler.options.timeout_s)
            if error is not None:
                processor.failed(run, handler, error, stack=stack)
            run.position += 1
        run.envelope = None  # a thousand that wait for settling keep the collector busy
        slot.finished.append(run)

    async def _bounded(
        self, attempt: asyncio.Task[BaseException | None], handler: Handler, timeout_s: float
    ) -> tuple[BaseException | None, str | None]:
        """Wait for an attempt, and cancel it when its time is up."""
        await asyncio.wait({attempt}, timeout=timeout_s)
        if attempt.done():
            return attempt.result(), None
        written = io.StringIO()
        attempt.print_stack(file=written)
        attempt.cancel()
        await asyncio.wait({attempt}, timeout=CANCEL_GRACE_S)
        if not attempt.done():
            logger.error("the handler %s goes on although it was cancelled", handler.name)
            self._kept.add(attempt)
            attempt.add_done_callback(self._kept.discard)
        return AttemptTimeout(f"took longer than timeout_s ({timeout_s:g} s)"), written.getvalue()


async def _guarded(coroutine: Coroutine[Any, Any, Any]) -> BaseException | None:
    """Return what a handler raises: SystemExit in a task would end the loop."""
    try:
        await coroutine
    except BaseException as error:  # noqa: BLE001 - as above
        return error
    return None
