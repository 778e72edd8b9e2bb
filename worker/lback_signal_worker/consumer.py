"""Reading: what to take, when, and how much. One thread; blocks nowhere but in a read.

Each turn: claim, when its timer is due; then read. A signal whose last read came back full is
*hot* and is read by itself, as much as it has room for. The others are read together, a few each;
when no signal is hot, this read blocks. While some are, it does not, and is rarer: a block would
outlast what is in hand of the hot ones. Without room the thread waits for some.

Suspects. An entry that was in hand when two workers died is claimed alone, and runs while nothing
else is in hand here: reading pauses, what is in hand ends, it runs, reading goes on. If it kills
this worker too, nobody else is blamed. After ``max_crashes`` deaths it is a dead letter instead.

What goes wrong: the broker is away (back off, read again; claiming pauses for one lease
afterwards, so that its owners renew first); the answer to a read is lost (the entries are pending,
nobody has them in hand, and they are claimed when their lease ends); anything unforeseen (logged,
and the next turn begins after a pause). The thread ends only by :meth:`stop`.

Durations are seconds on the monotonic clock.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

from lback_relay.broker.base import SUSPECT_DELIVERIES, Broker, Delivery
from lback_relay.errors import BrokerError, BrokerUnavailable
from lback_signal_worker.config import WorkerConfig
from lback_signal_worker.executor import Executor
from lback_signal_worker.health import HealthFile
from lback_signal_worker.in_hand import InHand
from lback_signal_worker.link import READING, Backoff, Link
from lback_signal_worker.processor import Processor, Run

logger = logging.getLogger(__name__)

CLAIM_EVERY_S: Final = 5.0
CLAIM_PER_SIGNAL_S: Final = 2.5
"""With many signals claims are rarer: each costs two commands for every signal."""
PARTIAL_BLOCK_S: Final = 0.05
"""Longest block while some signals have no room: theirs must be noticed soon."""
OTHERS_EVERY_S: Final = 0.01
"""While some signals are hot, the others are looked at so often, or up to PARTIAL_BLOCK_S apart."""
POLL_S: Final = 5.0
"""Without room for a read the broker is pinged this often, for the worker's health."""


class Consumer:
    """Reads for one worker.

    Args:
        reading: the broker of blocking reads; closing it ends one.
        broker: of all other calls.
        config: the worker's.
        consumer: the worker's name in its group.
        signals: the signals whose queue deliveries it takes.
        processor: begins the runs.
        executor: runs them.
        hand: knows how much room there is.
        link: the way to the broker.
        health: is touched after each successful poll.
        report: takes runs that end without a handler.
        random: for the waits.

    Attributes:
        alone: set while nothing else may begin here, because a suspect runs.
        taking_since: when the call began, of those that bring entries, which is under way; None:
            none is. A slow line may need long for one.
    """

    def __init__(
        self,
        reading: Broker,
        broker: Broker,
        config: WorkerConfig,
        consumer: str,
        signals: Sequence[str],
        *,
        processor: Processor,
        executor: Executor,
        hand: InHand,
        link: Link,
        health: HealthFile,
        report: Callable[[list[Run]], None],
        random: Callable[[], float],
    ) -> None:
        self.alone = threading.Event()
        self.taking_since: float | None = None
        self._reading = reading
        self._broker = broker
        self._config = config
        self._consumer = consumer
        self._signals = tuple(signals)
        self._processor = processor
        self._executor = executor
        self._hand = hand
        self._link = link
        self._health = health
        self._report = report
        self._backoff = Backoff(random)
        self._stopped = threading.Event()
        self._hot: list[str] = []
        self._others_at = 0.0
        self._others_every_s = OTHERS_EVERY_S
        self._claim_every_s = min(
            config.lease_s / 2, max(CLAIM_EVERY_S, CLAIM_PER_SIGNAL_S * len(signals))
        )
        self._claim_at = monotonic()
        # Signals whose claim is due and has not found room yet; nothing is read of them meanwhile.
        self._unclaimed: set[str] = set()
        self._polled_at = 0.0
        self._grouped = False

    def run(self) -> None:
        """Read until :meth:`stop`."""
        while not self._stopped.is_set():
            try:
                self._turn()
            except BrokerError as error:  # noqa: PERF203 - the loop goes on
                if self._stopped.is_set():
                    return  # stopping closed the connection
                self._link.failed(READING, error)
                self._claim_at = monotonic() + self._config.lease_s
                self._unclaimed.clear()
                with contextlib.suppress(BrokerError):
                    self._reading.close()
                self._stopped.wait(self._backoff.next_s())
            except Exception:
                if self._stopped.is_set():
                    return  # as above; a client closed in mid-read may say so in any way
                logger.exception("reading failed; going on")
                self._stopped.wait(self._backoff.next_s())
            else:
                self._backoff.reset()

    def stop(self) -> None:
        """End :meth:`run` once its read has ended; closing `reading` ends that at once."""
        self._stopped.set()
        self._hand.wake()

    def _turn(self) -> None:
        if not self._grouped:
            self._make_groups()
        if monotonic() >= self._claim_at:
            self._claim_at = monotonic() + self._claim_every_s
            self._unclaimed.update(self._signals)
        if self._unclaimed:
            self._claim()
        hot, self._hot = self._hot, []
        waits = []
        for signal in hot:
            room = self._room(signal)
            if not room:
                waits.append(signal)
                continue
            self._read((signal,), room, block_s=0)
        idle = hot == waits
        others = [signal for signal in self._signals if signal not in hot and self._room(signal)]
        if others and not hot:
            self._read_together(others, idle=True)
        elif others and monotonic() >= self._others_at:
            self._read_others(others)
        elif idle:
            self._wait(min(self._claim_at, self._others_at) if others else self._claim_at)
        self._hot = waits + self._hot  # who waits is next, or one hot signal would starve another

    def _read_others(self, signals: list[str]) -> None:
        """Look at signals that are not hot, without blocking: the hot ones soon have room again.

        More and more rarely while nothing comes.
        """
        known = len(self._hot)
        self._read_together(signals, idle=False)
        found = len(self._hot) > known
        self._others_every_s = (
            OTHERS_EVERY_S if found else min(2 * self._others_every_s, PARTIAL_BLOCK_S)
        )
        self._others_at = monotonic() + self._others_every_s

    def _room(self, signal: str) -> int:
        """Return how many new entries of a signal may be read now."""
        return 0 if signal in self._unclaimed else self._hand.room(signal)

    def _make_groups(self) -> None:
        """Make the group where it is not there yet."""
        try:
            self._broker.ensure_groups(self._signals, self._config.group)
        except BrokerUnavailable:
            raise
        except BrokerError as error:
            # At its maxmemory the broker refuses to make what is there already, but a worker that
            # reads and acknowledges is what helps then. Reading makes a group that is missing.
            self._link.failed("making its group", error)
        self._grouped = True

    def _read_together(self, signals: list[str], *, idle: bool) -> None:
        """Read a few entries of each of these signals; block when nothing else is to be done."""
        room = min(self._hand.room(signal) for signal in signals)
        if len(signals) > room and not idle:
            # Each in its turn: one entry of every signal would be more than there is room for.
            cut = max(1, room)
            self._signals = (*self._signals[cut:], *self._signals[:cut])
            signals = signals[:cut]
        block_s = 0.0
        if idle:
            limit_s = min(self._config.block_s, self._config.lease_s / 6)
            if len(signals) < len(self._signals):
                limit_s = min(limit_s, PARTIAL_BLOCK_S)
            block_s = max(0.001, min(limit_s, self._claim_at - monotonic()))
        self._read(signals, max(1, room // len(signals)), block_s=block_s)

    def _read(self, signals: Sequence[str], count: int, *, block_s: float) -> None:
        self.taking_since = asked_at = monotonic()
        try:
            deliveries = self._reading.read(
                signals, self._config.group, self._consumer, count=count, block_s=block_s
            )
        finally:
            self.taking_since = None
        self._polled()
        if not deliveries:
            return
        by_signal: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            by_signal.setdefault(delivery.signal, []).append(delivery)
        for signal, some in by_signal.items():
            self._take(signal, some, asked_at)
            if len(some) >= count:
                self._hot.append(signal)

    def _take(self, signal: str, deliveries: Sequence[Delivery], asked_at: float) -> None:
        """Take entries in hand and have them run.

        Their leases begin when the server hands them out, which is at some time after the question;
        the answer may have been long on its way.
        """
        begin = self._processor.begin
        runs = [begin(delivery, asked_at) for delivery in deliveries]
        self._hand.add(signal, runs)
        if self._stopped.is_set():
            self._give_back(runs)
        else:
            self._executor.submit(signal, runs)

    def _give_back(self, runs: Sequence[Run]) -> None:
        """Return entries that have not begun."""
        self._hand.finish(runs)
        self._hand.release(runs)
        deliveries = [run.delivery for run in runs if run.delivery is not None]
        self._broker.give_back(deliveries, self._config.group, self._consumer)

    def _claim(self) -> None:
        """Take over what belongs to nobody any more, as much as there is room for.

        A signal without room keeps its claim, and gets the next room before anything is read: a
        busy worker would otherwise never take over what another one has left.
        """
        while not self._stopped.is_set():
            rooms = {
                signal: self._hand.room(signal)
                for signal in self._signals
                if signal in self._unclaimed
            }
            signals = [signal for signal, room in rooms.items() if room]
            if not signals:
                return
            count = min(rooms[signal] for signal in signals)
            self.taking_since = asked_at = monotonic()
            try:
                deliveries = self._broker.claim(
                    signals,
                    self._config.group,
                    self._consumer,
                    min_idle_s=self._config.lease_s,
                    count=count,
                )
            finally:
                self.taking_since = None
            self._polled()
            innocent: dict[str, list[Delivery]] = {}
            own = self._own(deliveries, asked_at)
            for delivery in deliveries:
                if delivery[:3] in own:
                    continue
                if delivery.deliveries >= SUSPECT_DELIVERIES:
                    if not self._meet_suspect(delivery, asked_at):
                        # Claimed at once it would come back here, and keep this worker from
                        # reading for another lease; others have their chance first.
                        self._unclaimed.clear()
                        self._claim_at = monotonic() + self._config.lease_s
                        return
                else:
                    innocent.setdefault(delivery.signal, []).append(delivery)
            for signal, some in innocent.items():
                self._take(signal, some, asked_at)
            if deliveries:
                logger.info(
                    "took over %d entries that were left behind", len(deliveries) - len(own)
                )
            else:
                self._unclaimed.difference_update(signals)

    def _own(self, deliveries: Sequence[Delivery], now: float) -> set[tuple[str, str, str]]:
        """Return which of these this worker has in hand: their leases ended before a renewal.

        They run on; that they were claimed has renewed them.
        """
        if not deliveries:
            return set()
        claimed = {delivery[:3] for delivery in deliveries}
        own = set()
        for run in self._hand.snapshot():
            if run.delivery is not None and run.delivery[:3] in claimed and not run.lost:
                run.taken_at = now
                own.add(run.delivery[:3])
        return own

    def _meet_suspect(self, delivery: Delivery, asked_at: float) -> bool:
        """Run an entry by itself, or make a dead letter of it when it has killed too often.

        By itself: what was handled before it is settled, and what comes after it begins when it
        is settled, or whoever kills the process would have it handed out once more.

        Returns False when it was given back: what runs here takes too long, or the worker stops.
        """
        run = self._processor.begin(delivery, asked_at)
        self._hand.add(delivery.signal, [run])
        deaths = delivery.deliveries - 1
        if deaths >= self._config.max_crashes:
            self._processor.crashed(run, deaths)
            self._report([run])
            return True
        self.alone.set()
        try:
            patience_at = monotonic() + self._config.lease_s
            while self._hand.count > 1 and monotonic() < patience_at:
                if self._stopped.is_set():
                    break
                self._wait(patience_at)
            if self._hand.count > 1 or self._stopped.is_set():
                self._give_back([run])
                return False
            logger.warning(
                "an entry of %s was in hand when %d workers died; it runs alone now",
                delivery.signal, deaths, extra={"relay_signal": delivery.signal},
            )  # fmt: skip
            self._executor.submit(delivery.signal, [run])
            while self._hand.unfinished and not self._stopped.is_set():
                self._wait(monotonic() + POLL_S)
            patience_at = monotonic() + self._config.lease_s
            while self._hand.count and monotonic() < patience_at and not self._stopped.is_set():
                self._wait(patience_at)
            return True
        finally:
            self.alone.clear()

    def _wait(self, until: float) -> None:
        """Wait until something ends in hand; show meanwhile that the broker is there."""
        if monotonic() - self._polled_at >= POLL_S and not self._executor.exhausted:
            try:
                self._broker.ping()
                self._polled()
            except BrokerError as error:
                self._link.failed("waiting for handlers", error)
        self._hand.wait_for_change(max(0.001, min(until - monotonic(), POLL_S)))

    def _polled(self) -> None:
        self._polled_at = monotonic()
        self._link.worked()
        self._health.touch(self._polled_at)
