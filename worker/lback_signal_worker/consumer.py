"""Reading: what to take, when, and how much. One thread at a time; blocks nowhere but in a read.

Each turn: claim, when its timer is due; then read. A signal whose last read came back full is
*hot* and is read by itself. The others are read together, a few each; when no signal is hot, this
read blocks. While some are, it does not, and is rarer: a block would outlast what is in hand of the
hot ones. Without room the thread waits for some.

Alone. An entry that comes alone is run by the thread that has read it, while another one reads on:
waking that other one is what the entry would have waited for.

Asking ahead. Once handlers run, this thread gets the interpreter when they let go of it, which
quick ones do when there is nothing left to run. So the next question goes out before what the last
one brought is run, and its answer is there when the slots are done. At most one question is under
way; nothing else is read or claimed meanwhile.

Suspects. An entry that was in hand when two workers died is claimed alone, and runs while nothing
else is in hand here: reading pauses, what is in hand ends, it runs, reading goes on. If it kills
this worker too, nobody else is blamed. After ``max_crashes`` deaths it is a dead letter instead.

What goes wrong: the broker is away (back off, read again; claiming pauses for one lease
afterwards, so that its owners renew first); the answer to a read is lost (the entries are pending,
nobody has them in hand, and they are claimed when their lease ends); the next question can't be
asked (what the last one brought runs all the same); the worker stops while one is under way (its
answer is given back); anything unforeseen (logged, and the next turn begins after a pause).

Durations are seconds on the monotonic clock.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic, sleep
from typing import Final

from lback_relay.broker.base import SUSPECT_DELIVERIES, Broker, Delivery
from lback_relay.errors import BrokerError, BrokerUnavailable
from lback_signal_worker.config import WorkerConfig
from lback_signal_worker.executor import Executor
from lback_signal_worker.health import HealthFile
from lback_signal_worker.in_hand import InHand
from lback_signal_worker.link import READING, Backoff, Link
from lback_signal_worker.processor import Processor, Run
from lback_signal_worker.slots import Chunk
from lback_signal_worker.taking import Taken, Taking

logger = logging.getLogger(__name__)

PARTIAL_BLOCK_S: Final = 0.05
"""Longest block while some signals have no room: theirs must be noticed soon."""
OTHERS_EVERY_S: Final = 0.01
"""While some signals are hot, the others are looked at so often, or up to PARTIAL_BLOCK_S apart."""
POLL_S: Final = 5.0
"""Without room for a read the broker is pinged this often, for the worker's health."""
HAND_OVER_S: Final = 20e-6
"""After few entries this thread lets go of the interpreter: a slot waits for it."""


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
        ended: set once nothing is read any more.
        taking: the calls that bring entries.
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
        self.ended = threading.Event()
        self._reading = reading
        self._broker = broker
        self._config = config
        self._consumer = consumer
        self.taking = Taking(reading, broker, config, consumer, answered=self._polled)
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
        # Of what, how many were asked for, and what waits for the answer.
        self._asked: tuple[str, int, Callable[[], Taken]] | None = None
        self._came_alone: Run | None = None
        self._others_at = 0.0
        self._others_every_s = OTHERS_EVERY_S
        self._claim_every_s = config.claim_every_s(len(signals))
        self._claim_at = monotonic()
        # Signals whose claim is due and has not found room yet; nothing is read of them meanwhile.
        self._unclaimed: set[str] = set()
        self._polled_at = 0.0
        self._grouped = False

    def read(self) -> Chunk | None:
        """Read until :meth:`stop`, or until an entry comes that the caller is to run itself.

        Returns: that entry, while another thread reads on; None once reading has ended.
        """
        own = None
        try:
            while own is None and not self._stopped.is_set():
                self._try_turn()
                if self._came_alone is not None:
                    run, self._came_alone = self._came_alone, None
                    own = self._executor.run_alone(run, self.read)
                    if own is None:
                        sleep(HAND_OVER_S)
            return own
        finally:
            if own is None:
                # What was asked for goes back, or it would wait for its lease's end. Stopping may
                # have closed the connection meanwhile, and a client may say that in any way.
                with contextlib.suppress(Exception):
                    self._take_answer()
                self.ended.set()

    def _try_turn(self) -> None:
        try:
            self._turn()
        except Exception as error:
            if self._stopped.is_set():
                return  # stopping closed the connection; a client may say that in any way
            if isinstance(error, BrokerError):
                self._link.failed(READING, error)
                self._claim_at = monotonic() + self._config.lease_s
                self._unclaimed.clear()
                with contextlib.suppress(BrokerError):
                    self._reading.close()
            else:
                logger.exception("reading failed; going on")
            self._stopped.wait(self._backoff.next_s())
        else:
            self._backoff.reset()

    def stop(self) -> None:
        """End the reading once its call has ended; closing `reading` ends that at once."""
        self._stopped.set()
        self._hand.wake()

    def _turn(self) -> None:
        if self._asked is not None:
            self._take_answer()
            return
        if not self._grouped:
            self._make_groups()
        if monotonic() >= self._claim_at:
            self._claim_at = monotonic() + self._claim_every_s
            self._unclaimed.update(self._signals)
        if self._unclaimed:
            self._claim()
        others = [
            signal for signal in self._signals if signal not in self._hot and self._room(signal)
        ]
        if others and not self._hot:
            self._read_together(others, idle=True)
        elif others and (monotonic() >= self._others_at or self._hand.starved(others)):
            self._read_others(others)
        elif not self._ask():
            self._wait(min(self._claim_at, self._others_at) if others else self._claim_at)

    def _read_others(self, signals: list[str]) -> None:
        """Look at signals that are not hot, without blocking; more rarely while nothing comes."""
        found = self._read_together(signals, idle=False)
        self._others_every_s = (
            OTHERS_EVERY_S if found else min(2 * self._others_every_s, PARTIAL_BLOCK_S)
        )
        self._others_at = monotonic() + self._others_every_s

    def _ask(self) -> bool:
        """Ask for more of a hot signal. Returns False when there is room for none."""
        for signal in self._hot:
            room = self._room(signal)
            if room:
                # Its place is behind those that found no room, or one would starve another.
                self._hot.remove(signal)
                self._asked = signal, room, self.taking.ask(signal, room)
                return True
        return False

    def _ask_ahead(self) -> None:
        """Ask before what was taken runs, unless something else is to be done first."""
        now = monotonic()
        others_due = len(self._hot) < len(self._signals) and now >= self._others_at
        if not (self._stopped.is_set() or self._unclaimed or now >= self._claim_at or others_due):
            self._ask()

    def _take_answer(self) -> None:
        """Take what was asked for."""
        if self._asked is not None:
            (signal, count, answer), self._asked = self._asked, None
            self._received([signal], answer(), count)

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

    def _read_together(self, signals: list[str], *, idle: bool) -> bool:
        """Read a few entries of each of these signals; block when nothing else is to be done.

        Returns: whether there are more of one.
        """
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
        count = max(1, room // len(signals))
        return self._received(signals, self.taking.read(signals, count, block_s=block_s), count)

    def _received(self, signals: Sequence[str], taken: Taken, count: int) -> bool:
        """Take what a read of these has brought. Returns whether there are more of one."""
        self._hand.looked_for(signals)
        deliveries, asked_at = taken
        if len(deliveries) == 1 < count and not (self._hot or self._stopped.is_set()):
            self._came_alone = run = self._processor.begin(deliveries[0], asked_at)
            self._hand.add(run.signal, [run])
            return False
        by_signal: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            by_signal.setdefault(delivery.signal, []).append(delivery)
        more = [signal for signal, some in by_signal.items() if len(some) >= count]
        self._hot += more
        self._take(by_signal, asked_at)
        if by_signal and not more:
            sleep(HAND_OVER_S)
        return bool(more)

    def _take(self, deliveries: Mapping[str, Sequence[Delivery]], asked_at: float) -> None:
        """Take entries in hand, by signal, and have them run."""
        begin = self._processor.begin
        runs = {
            signal: [begin(delivery, asked_at) for delivery in some]
            for signal, some in deliveries.items()
        }
        for signal, some in runs.items():
            self._hand.add(signal, some)
        try:
            if runs:
                self._ask_ahead()
        finally:  # whether or not it could be asked
            if self._stopped.is_set():
                self._give_back([run for some in runs.values() for run in some])
            else:
                for signal, some in runs.items():
                    self._executor.submit(signal, some)

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
            deliveries, asked_at = self.taking.claim(signals, count)
            self._hand.looked_for(signals)
            innocent: dict[str, list[Delivery]] = {}
            own = self._hand.claimed_again(deliveries, asked_at)
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
            self._take(innocent, asked_at)
            if deliveries:
                logger.info(
                    "took over %d entries that were left behind", len(deliveries) - len(own)
                )
            else:
                self._unclaimed.difference_update(signals)

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
