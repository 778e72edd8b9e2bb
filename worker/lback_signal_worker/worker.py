"""One worker: its parts, wired, its threads, and its drain.

| thread | does | ends when |
|---|---|---|
| broadcasts (``broadcast.py``) | hears broadcasts | the drain begins |
| slots, loop, watch (``executor.py``) | run handlers | everything has ended |
| one of the slots (``consumer.py``) | takes entries | the drain begins |
| settling (``settler.py``) | writes outcomes | all outcomes are written |
| leases (``leases.py``) | renews | after settling |
| keeper (``keeper.py``) | due retries, heartbeat, trimming, reaping | the drain begins |

The drain: stop reading; give back at once what has not begun; wait for what runs, up to
``drain_timeout_s``; settle; leave the group. What still runs then stays pending, its lease ends,
and another worker takes it. Durations are seconds.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from random import SystemRandom
from time import monotonic
from typing import Final

from lback_relay.broker.base import Broker
from lback_relay.errors import BrokerError
from lback_relay.remote import RemoteDispatcher
from lback_signal_worker.broadcast import Listener
from lback_signal_worker.config import WorkerConfig
from lback_signal_worker.consumer import Consumer
from lback_signal_worker.executor import Executor
from lback_signal_worker.health import HealthFile
from lback_signal_worker.in_hand import InHand
from lback_signal_worker.keeper import Keeper
from lback_signal_worker.leases import Leases
from lback_signal_worker.link import LISTENING, READING, Link
from lback_signal_worker.prefetch import Prefetch
from lback_signal_worker.processor import Processor, Run
from lback_signal_worker.settler import Settler
from lback_signal_worker.verification import Verification

logger = logging.getLogger(__name__)

NOTICE_S: Final = 0.1
"""A read that blocks and has not ended by then is cut off."""
ANSWER_S: Final = 1.0
"""Long enough for the answer of a read that does not block: its entries are given back then."""
STOP_READING_S: Final = 2.0
SETTLE_S: Final = 2.0
"""At least this long is left for settling, whatever the drain has taken."""
POLL_S: Final = 0.02


class Worker:
    """Runs the handlers of a dispatcher for one group. Start it once, drain it once.

    Args:
        config: its config.
        dispatcher: the handlers; those that are connected when the worker is made.
        connect: returns a new broker; called three times, because a blocking read and a
            subscription each need to be cut off without the others.
        verification: says whose envelopes run; None takes them as they come.
    """

    def __init__(
        self,
        config: WorkerConfig,
        dispatcher: RemoteDispatcher,
        connect: Callable[[], Broker],
        *,
        verification: Verification | None = None,
    ) -> None:
        random = SystemRandom().random
        handlers = {signal: dispatcher.handlers(signal) for signal in dispatcher.signals()}
        self.consumer_name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"
        self._config = config
        self._broker = connect()
        self._reading = connect()
        self._listening = connect()
        self._health = HealthFile(config.health_file)
        self._link = link = Link()
        prefetch = Prefetch(slots=config.concurrency)
        self._verification = Verification(None) if verification is None else verification
        processor = Processor(
            group=config.group,
            handlers=handlers,
            decode=self._verification.decode,
            random=random,
        )
        self.signals = tuple(processor.queued)
        heard = [
            signal
            for signal, some in handlers.items()
            if any(handler.takes_broadcast() for handler in some)
        ]
        self._hand = InHand(
            prefetch, {signal: some[0].is_async for signal, some in handlers.items()}
        )
        self._leases = Leases(
            self._broker, config, self.consumer_name, hand=self._hand, link=link, random=random
        )
        self._keeper = Keeper(
            self._broker,
            self.signals,
            config,
            self.consumer_name,
            figures=self.figures,
            link=link,
            random=random,
        )
        self._settler = Settler(
            self._broker,
            config.group,
            self.consumer_name,
            hand=self._hand,
            link=link,
            retry_in=self._keeper.retry_in,
            random=random,
        )
        self._executor = Executor(
            processor,
            prefetch=prefetch,
            hand=self._hand,
            lease_s=config.lease_s,
            report=self._settler.report,
        )
        self._consumer = Consumer(
            self._reading,
            self._broker,
            config,
            self.consumer_name,
            self.signals,
            processor=processor,
            executor=self._executor,
            hand=self._hand,
            link=link,
            health=self._health,
            report=self._settler.report,
            random=random,
        )
        self._listener = Listener(
            self._listening,
            heard,
            processor=processor,
            executor=self._executor,
            hand=self._hand,
            link=link,
            alone=self._consumer.alone,
            health=None if self.signals else self._health,
            random=random,
        )
        self._threads: dict[str, threading.Thread] = {}
        self._drained: bool | None = None

    def start(self) -> None:
        """Start all threads and return."""
        self._executor.start()
        parts: dict[str, Callable[[], None]] = {
            "settling": self._settler.run,
            "leases": self._leases.run,
            "keeper": self._keeper.run,
        }
        if self._listener.signals:
            parts["broadcasts"] = self._listener.run
        for name, run in parts.items():
            thread = threading.Thread(target=run, name=f"relay-{name}", daemon=True)
            self._threads[name] = thread
            thread.start()
        if self.signals:
            self._executor.start_reading(self._consumer.read)

    @property
    def polled_at(self) -> float:
        """When the broker was last reached by reading, or by listening where nothing is read."""
        return self._health.touched_at

    @property
    def taking_since(self) -> float | None:
        """When the call began that brings entries now; None: none is under way."""
        return self._consumer.taking.since

    @property
    def away(self) -> bool:
        """Whether the broker does not answer, or lets this worker take nothing."""
        taking = READING if self.signals else LISTENING
        return self._link.away or self._link.refuses(taking)

    def figures(self) -> Mapping[str, str]:
        """Return what the heartbeat says of this worker."""
        return {
            "host": socket.gethostname(),
            "pid": str(os.getpid()),
            "group": self._config.group,
            "handled": str(self._settler.handled),
            "failed": str(self._settler.failed),
            "unverified": str(self._verification.rejected),
            "in_hand": str(self._hand.count),
        }

    def drain(self, interrupted: Callable[[], bool] = lambda: False) -> bool:
        """Finish what runs and take nothing new. Again, it only tells how that ended.

        Args:
            interrupted: asked again and again; True ends the waiting at once.

        Returns: whether everything has ended and is settled. If not, the process should end
            without waiting for its threads.
        """
        if self._drained is None:
            self._drained = self._drain(interrupted)
        return self._drained

    def _drain(self, interrupted: Callable[[], bool]) -> bool:
        give_up_at = monotonic() + self._config.drain_timeout_s
        self._stop_reading()
        self._give_back(self._executor.take_back())
        while self._hand.unfinished and monotonic() < give_up_at and not interrupted():
            threading.Event().wait(POLL_S)
        running = self._hand.unfinished
        settle_s = max(SETTLE_S, give_up_at - monotonic())
        self._settler.close(0.0 if interrupted() else settle_s)
        self._join("settling", settle_s, interrupted)
        self._leases.stop()
        clean = not running and not self._hand.count
        if running:
            logger.error(
                "the drain timed out with %d entries still running; they stay pending, and "
                "another worker takes them when their lease of %g s ends",
                running, self._config.lease_s,
            )  # fmt: skip
        elif not clean:
            logger.error(
                "%d outcomes could not be written; their entries run again", self._hand.count
            )
        if not interrupted():
            self._leave()
        if clean:
            self._executor.close()
        for broker in (self._broker, self._reading, self._listening):
            broker.close()
        self._health.remove()
        return clean

    def _stop_reading(self) -> None:
        self._consumer.stop()
        self._listener.stop()
        self._keeper.stop()
        if not self.signals:
            return
        ended, taking = self._consumer.ended, self._consumer.taking
        until = monotonic() + ANSWER_S
        # A question that is under way has its answer soon, which is given back; a block has not.
        while not ended.wait(POLL_S) and not taking.blocks and monotonic() < until:
            pass
        if not ended.wait(NOTICE_S):
            self._reading.close()
            ended.wait(STOP_READING_S)

    def _give_back(self, runs: list[Run]) -> None:
        """Return what has not begun; unstarted broadcasts are dropped."""
        if not runs:
            return
        self._hand.finish(runs)
        self._hand.release(runs)
        deliveries = [run.delivery for run in runs if run.delivery is not None]
        dropped = len(runs) - len(deliveries)
        if dropped:
            logger.warning("%d broadcasts were not begun and are dropped", dropped)
        try:
            self._broker.give_back(deliveries, self._config.group, self.consumer_name)
        except BrokerError as error:
            logger.warning(
                "%d entries could not be given back; another worker takes them when their lease "
                "of %g s ends: %s", len(deliveries), self._config.lease_s, error,
            )  # fmt: skip
        else:
            logger.info("gave back %d entries that had not begun", len(deliveries))

    def _leave(self) -> None:
        try:
            self._broker.leave(self.signals, self._config.group, self.consumer_name)
        except BrokerError as error:
            logger.warning("the worker could not take itself out of its group: %s", error)

    def _join(
        self, name: str, timeout_s: float, interrupted: Callable[[], bool] = lambda: False
    ) -> None:
        thread = self._threads.get(name)
        until = monotonic() + timeout_s
        while thread is not None and thread.is_alive() and monotonic() < until:
            thread.join(min(POLL_S, timeout_s))
            if interrupted():
                return
