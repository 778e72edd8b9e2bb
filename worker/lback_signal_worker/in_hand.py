"""What this worker has in hand, and how much more it may take. Knows no broker.

An entry is *unfinished* from its reading until its last handler has ended, then *unsettled* until
the broker has its settlement. Unfinished ones use up the room of their kind of slots (threads or
event loop); both together are bounded. All is counted by the batch: nothing here runs per entry on
the fast path. Durations are seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from time import monotonic
from typing import Final

from lback_relay.broker.base import Delivery
from lback_signal_worker.prefetch import Prefetch, averaged
from lback_signal_worker.processor import Run

PATIENCE_S: Final = 0.05


class InHand:
    """The entries of one worker. Every method may be called from any thread.

    Args:
        prefetch: the rule of how much to take.
        is_async: signal to whether its first handler runs on the event loop.
    """

    def __init__(self, prefetch: Prefetch, is_async: Mapping[str, bool]) -> None:
        self._prefetch = prefetch
        self._is_async = dict(is_async)
        self._lock = threading.Lock()
        self._runs: set[Run] = set()
        # Without those that have none: with many signals most have none.
        self._unfinished: dict[str, int] = {}
        self._averages: dict[str, float] = {}
        # Signals with nothing in hand that have found no room, and when others give way to them.
        self._hungry: set[str] = set()
        self._patient_until = 0.0
        self._freed = threading.Event()

    def add(self, signal: str, runs: Sequence[Run]) -> None:
        """Take entries of one signal in hand."""
        with self._lock:
            self._runs.update(runs)
            self._unfinished[signal] = self._unfinished.get(signal, 0) + len(runs)

    def finish(self, runs: Iterable[Run]) -> None:
        """Note that no handler of these is left."""
        with self._lock:
            unfinished = self._unfinished
            for run in runs:
                left = unfinished[run.signal] - 1
                if left:
                    unfinished[run.signal] = left
                else:
                    del unfinished[run.signal]
        self._freed.set()

    def release(self, runs: Iterable[Run]) -> None:
        """Forget entries that are settled, given back or lost."""
        with self._lock:
            self._runs.difference_update(runs)
        self._freed.set()

    def wait_for_change(self, timeout_s: float) -> None:
        """Wait until something was finished or released since the last call."""
        self._freed.wait(timeout_s)
        self._freed.clear()

    def wake(self) -> None:
        """End the current wait."""
        self._freed.set()

    def snapshot(self) -> list[Run]:
        """Return all entries in hand."""
        with self._lock:
            return list(self._runs)

    def claimed_again(
        self, deliveries: Sequence[Delivery], now: float
    ) -> set[tuple[str, str, str]]:
        """Return which of these are in hand: their leases ended before a renewal.

        They run on; that they were claimed has renewed them.

        Args:
            deliveries: what was claimed.
            now: when, on the monotonic clock.
        """
        if not deliveries:
            return set()
        claimed = {delivery[:3] for delivery in deliveries}
        own = set()
        for run in self.snapshot():
            if run.delivery is not None and run.delivery[:3] in claimed and not run.lost:
                run.taken_at = now
                own.add(run.delivery[:3])
        return own

    @property
    def count(self) -> int:
        """How many entries are in hand."""
        return len(self._runs)

    @property
    def unfinished(self) -> int:
        """How many of them are not finished."""
        with self._lock:
            return sum(self._unfinished.values())

    def average_s(self, signal: str) -> float | None:
        """Return how long an entry of this signal takes; None when it was never measured."""
        return self._averages.get(signal)

    def measured(self, signal: str, took_s: float) -> None:
        """Note how long an entry took. Threads may overwrite each other; it is an estimate."""
        self._averages[signal] = averaged(self._averages.get(signal), took_s)

    def looked_for(self, signals: Iterable[str]) -> None:
        """Note that these had their turn: entries of theirs were asked for."""
        if not self._hungry.isdisjoint(signals):
            self._hungry.difference_update(signals)
            # With many signals most are hungry, and have nothing: others must get on, too.
            self._patient_until = monotonic() + PATIENCE_S

    def starved(self, signals: Iterable[str]) -> bool:
        """Tell whether one of these has waited for room for too long."""
        return not self._hungry.isdisjoint(signals) and monotonic() >= self._patient_until

    def room(self, signal: str) -> int:
        """Return how many entries of this signal are worth taking now; 0 when none are.

        Signals of one kind of slots share them: each unfinished entry uses up its part of its own
        signal's allowance, and what is left of the whole is left for every signal. One that needs
        more of it than another would wait for as long as the other takes each little at once: if it
        has nothing in hand, the others of its kind give way to it once in ``PATIENCE_S``.
        """
        allowance = self._prefetch.allowance(self._averages.get(signal))
        kind = self._is_async[signal]
        used = 0.0
        with self._lock:
            for other, unfinished in self._unfinished.items():
                if self._is_async[other] is kind:
                    used += unfinished / self._prefetch.allowance(self._averages.get(other))
            own = self._unfinished.get(signal, 0)
            free = self._prefetch.max_entries - len(self._runs)
        room = int((1.0 - used) * allowance + 1e-6)
        crowded_out = not own and room <= free  # by other signals, not by what is unsettled
        worth = self._prefetch.worth(max(0, min(room, free)), allowance, few=crowded_out)
        if crowded_out and not worth:
            if not self._hungry:
                self._patient_until = max(self._patient_until, monotonic() + PATIENCE_S)
            self._hungry.add(signal)
        elif worth and signal not in self._hungry and self.starved(self._hungry):
            return 0 if any(self._is_async[other] is kind for other in self._hungry) else worth
        return worth
