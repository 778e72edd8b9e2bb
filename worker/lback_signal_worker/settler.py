"""Settling what is finished, in batches, from a thread of its own: reading never waits for it.

Whatever has been reported while one call was under way is the next batch. States of a finished
run: reported → no longer in the way of new ones → settled and forgotten. What goes wrong:

- The broker is away: the batch is kept, its leases are renewed, and it is sent again until the
  broker has it. Settling twice does nothing.
- The line is slow: retries and dead letters carry envelopes, and a call that takes longer than its
  timeout has failed. They go out in parts, and each part is forgotten once it is settled. After a
  failure the parts are smaller, apart from mere acknowledgements, and what has failed goes last.
- The broker refuses a retry or a dead letter (at maxmemory): the rest is settled, the refused ones
  are kept and tried again. They stay pending all the while.
- A settlement can't be written at all (a fault of ours): it is dropped, so that the entry stays
  pending and is claimed when its lease ends.
- The entry belongs to another consumer now: the broker leaves it alone, but for an
  acknowledgement: what has been handled need not be handled again.

Durations are seconds.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from time import monotonic
from typing import Final

from lback_relay.broker.base import Broker
from lback_relay.errors import BrokerError, BrokerUnavailable, SettlementRefused
from lback_signal_worker.in_hand import InHand
from lback_signal_worker.link import Backoff, Link
from lback_signal_worker.processor import Run

logger = logging.getLogger(__name__)

MAX_BATCH: Final = 1000
PART_BYTES: Final = 256 * 1024
"""About so much of retries and dead letters goes out by one call, which has a timeout."""
LEAST_PART_BYTES: Final = 16 * 1024


class Settler:
    """Settles the finished runs of one worker.

    Args:
        broker: of this thread's calls.
        group: the worker's group.
        consumer: the worker's name in it.
        hand: forgets what is settled.
        link: the way to the broker.
        retry_in: is told in how many seconds a retry will be due.
        random: for the waits.

    Attributes:
        handled: envelopes settled, and broadcasts finished.
        failed: those of them with a failed handler.
    """

    def __init__(
        self,
        broker: Broker,
        group: str,
        consumer: str,
        *,
        hand: InHand,
        link: Link,
        retry_in: Callable[[float], None],
        random: Callable[[], float],
    ) -> None:
        self.handled = 0
        self.failed = 0
        self._broker = broker
        self._group = group
        self._consumer = consumer
        self._hand = hand
        self._link = link
        self._retry_in = retry_in
        self._backoff = Backoff(random)
        self._part_bytes = PART_BYTES
        self._reported: queue.SimpleQueue[list[Run] | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._give_up_at = float("inf")
        self.report: Callable[[list[Run]], None] = self._reported.put
        """Takes runs that are finished or lost; callable from any thread."""

    def run(self) -> None:
        """Settle until :meth:`close`, and then what is left."""
        waiting: list[Run] = []
        wait_s: float | None = None
        while True:
            waiting += self._gather(wait_s)
            waiting, wait_s = self._settle(waiting)
            if self._closed.is_set() and self._reported.empty():
                if waiting and monotonic() < self._give_up_at:
                    wait_s = min(wait_s or 0.0, 0.1)
                else:
                    return

    def close(self, timeout_s: float) -> None:
        """Let :meth:`run` end once all is settled, or after ``timeout_s`` at the latest."""
        self._give_up_at = monotonic() + timeout_s
        self._closed.set()
        self._reported.put(None)

    def _gather(self, wait_s: float | None) -> list[Run]:
        """Take what was reported; its room is free from now on."""
        runs: list[Run] = []
        try:
            more = self._reported.get(timeout=wait_s)
            while True:
                runs += more or ()
                if len(runs) >= MAX_BATCH:
                    break
                more = self._reported.get_nowait()
        except queue.Empty:
            pass
        if not runs:
            return []
        self._hand.finish(runs)
        kept = []
        gone = []
        for run in runs:
            if run.position < len(run.handlers):
                gone.append(run)  # lost before it began
            elif run.delivery is None:
                gone.append(run)
                self.handled += 1
            else:
                kept.append(run)
        if gone:
            self._hand.release(gone)
        return kept

    def _settle(self, runs: list[Run]) -> tuple[list[Run], float | None]:
        """Settle what goes out in one turn.

        Returns: what is left, and in how many seconds it is the next turn's; None when none is.
        """
        if not runs:
            return [], None
        parts, left = self._cut(runs)
        kept: list[Run] = []
        while parts:
            part = parts.pop(0)
            try:
                kept += self._settle_part(part)
            except BrokerUnavailable as error:
                self._link.failed("settling", error)
                self._part_bytes = max(LEAST_PART_BYTES, self._part_bytes // 2)
                kept += (run for unsent in (part, *parts) for run in unsent)
                break
            except Exception as error:  # noqa: BLE001 - one outcome must not hold up the others
                if len(part) > 1:
                    parts[:0] = ([run] for run in part)
                else:
                    self._drop(part, error)
        if kept:  # behind the others, for it may be what can't get through
            return left + kept, self._backoff.next_s()
        self._backoff.reset()
        if left:
            return left, 0.0
        self._part_bytes = PART_BYTES
        return [], None

    def _cut(self, runs: list[Run]) -> tuple[list[list[Run]], list[Run]]:
        """Return the parts that go out now, a call each, and what does not."""
        large = [run for run in runs if run.retries or run.dead_letters]
        if not large:
            return [runs], []
        fitting, size = 0, 0
        for run in large:
            size += _bytes_of(run)
            if fitting and size > self._part_bytes:
                break
            fitting += 1
        now, left = large[:fitting], large[fitting:]
        small = [run for run in runs if not (run.retries or run.dead_letters)]
        if not small:
            return [now], left
        if self._part_bytes < PART_BYTES:  # what can't get through must not hold up these
            return [small, now], left
        return [small + now], left

    def _settle_part(self, runs: list[Run]) -> list[Run]:
        """Settle some by one call. Returns what the broker refuses for now.

        Raises:
            BrokerUnavailable: whether they were settled is unknown.
        """
        refused: list[Run] = []
        try:
            left_alone = self._broker.settle(
                [run.settlement() for run in runs], self._group, self._consumer
            )
        except BrokerUnavailable:
            raise
        except SettlementRefused as error:
            self._link.failed("settling", error)
            unsettled = {settlement.delivery[:3] for settlement in error.unsettled}
            refused = [run for run in runs if run.delivery and run.delivery[:3] in unsettled]
            runs = [run for run in runs if run.delivery and run.delivery[:3] not in unsettled]
            left_alone = list(error.left_alone)
        except BrokerError as error:
            self._link.failed("settling", error)
            return runs
        else:
            self._link.worked()
        self._settled(runs)
        if left_alone:
            logger.warning(
                "%d outcomes change nothing: their entries belong to another worker now",
                len(left_alone),
            )
        return refused

    def _drop(self, runs: list[Run], error: Exception) -> None:
        """Forget an outcome that can't be written."""
        logger.error(
            "an outcome of %s can't be written; its entry stays pending",
            runs[0].signal, exc_info=error,
        )  # fmt: skip
        self._hand.release(runs)

    def _settled(self, runs: list[Run]) -> None:
        self._hand.release(runs)
        self.handled += len(runs)
        failed = [run for run in runs if run.retries or run.dead_letters]
        self.failed += len(failed)
        delays = [retry.delay_s for run in failed for retry in run.retries or ()]
        if delays:
            self._retry_in(min(delays))


def _bytes_of(run: Run) -> int:
    """Return about how much settling an entry sends: its envelope for each retry and letter."""
    letters = run.dead_letters or ()
    copies = len(run.retries or ()) + len(letters)
    texts = sum(len(letter.error) + len(letter.traceback) for letter in letters)
    return copies * len(run.encoded or b"") + texts
