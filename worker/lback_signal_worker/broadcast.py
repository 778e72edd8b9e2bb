"""Hearing broadcasts: a subscription in a thread of its own, handed over with a bound.

A broadcast comes at most once: what is sent while this worker is not connected, or while it stops,
is not heard. When handlers are slower than broadcasts come, this thread waits, the broker's buffer
fills, and the broker ends the connection; the subscription reconnects. While a suspect runs alone
(:mod:`lback_signal_worker.consumer`), broadcasts wait too. Durations are seconds.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

from lback_relay.broker.base import Broker, Subscription
from lback_relay.errors import BrokerError
from lback_signal_worker.executor import Executor
from lback_signal_worker.health import HealthFile
from lback_signal_worker.in_hand import InHand
from lback_signal_worker.link import LISTENING, Backoff, Link
from lback_signal_worker.prefetch import MAX_ENTRIES
from lback_signal_worker.processor import Processor

logger = logging.getLogger(__name__)

GET_S: Final = 1.0
ROOM_S: Final = 0.02


class Listener:
    """Hears the broadcasts of one worker.

    Args:
        broker: of this thread.
        signals: the signals that have a handler which may take a broadcast.
        processor: begins the runs.
        executor: runs them.
        hand: counts them.
        link: the way to the broker.
        alone: set while nothing may begin.
        health: is touched while the subscription is there; None where reading tells more.
        random: for the waits.
    """

    def __init__(
        self,
        broker: Broker,
        signals: Sequence[str],
        *,
        processor: Processor,
        executor: Executor,
        hand: InHand,
        link: Link,
        alone: threading.Event,
        health: HealthFile | None,
        random: Callable[[], float],
    ) -> None:
        self._broker = broker
        self.signals = tuple(signals)
        self._processor = processor
        self._executor = executor
        self._hand = hand
        self._link = link
        self._alone = alone
        self._health = health
        self._backoff = Backoff(random)
        self._stopped = threading.Event()
        self._subscription: Subscription | None = None
        self.subscribed = threading.Event()
        """Set once broadcasts are heard."""

    def run(self) -> None:
        """Listen until :meth:`stop`."""
        while not self._stopped.is_set():
            try:
                self._turn()
            except BrokerError as error:  # noqa: PERF203 - the loop goes on
                if not self._stopped.is_set():
                    self._link.failed(LISTENING, error)
                self._stopped.wait(self._backoff.next_s())
            except Exception:
                if not self._stopped.is_set():
                    logger.exception("listening for broadcasts failed; going on")
                self._stopped.wait(self._backoff.next_s())
        if self._subscription is not None:
            self._subscription.close()

    def stop(self) -> None:
        """End :meth:`run` within a second."""
        self._stopped.set()

    def _turn(self) -> None:
        if self._subscription is None:
            self._subscription = self._broker.subscribe(self.signals)
            self._link.worked()
            self.subscribed.set()
        heard = self._subscription.get(GET_S)
        self._backoff.reset()
        if self._health is not None:
            self._health.touch(monotonic())
        if heard is None:
            return
        while self._hand.count >= MAX_ENTRIES or self._alone.is_set():
            if self._stopped.wait(ROOM_S):
                break
        if self._stopped.is_set():
            return
        signal, encoded = heard
        run = self._processor.begin_broadcast(signal, encoded)
        self._hand.add(signal, [run])
        self._executor.submit(signal, [run])
