"""Renewing the leases of what is in hand, from a thread that no handler can block.

Each tick, a third of a lease apart, renews every entry that is at least that old; younger ones
have two thirds left at the next tick. What the broker says is another consumer's now is *lost*: it
is not started any more, and if it runs already, its end changes nothing, because settling asks for
the owner too. The same is said of what this worker has given back meanwhile, which is in hand no
more, and no loss. When this process was stopped or cut off for a lease, the slots count entries as
lost from then on, before the next renewal has told which of them are. Durations are seconds on the
monotonic clock.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic

from lback_relay.broker.base import Broker
from lback_relay.errors import BrokerError
from lback_signal_worker.config import WorkerConfig
from lback_signal_worker.in_hand import InHand
from lback_signal_worker.link import Backoff, Link

logger = logging.getLogger(__name__)


class Leases:
    """The leases of one worker."""

    def __init__(
        self,
        broker: Broker,
        config: WorkerConfig,
        consumer: str,
        *,
        hand: InHand,
        link: Link,
        random: Callable[[], float],
    ) -> None:
        self._broker = broker
        self._config = config
        self._consumer = consumer
        self._hand = hand
        self._link = link
        self._backoff = Backoff(random)
        self._stopped = threading.Event()

    def run(self) -> None:
        """Renew until :meth:`stop`."""
        wait_s = self._config.renew_every_s
        while not self._stopped.wait(wait_s):
            try:
                self.renew(monotonic())
            except BrokerError as error:  # noqa: PERF203 - the loop goes on
                self._link.failed("renewing leases", error)
                wait_s = min(self._backoff.next_s(), self._config.renew_every_s)
            except Exception:
                logger.exception("renewing leases failed; trying again")
            else:
                self._backoff.reset()
                wait_s = self._config.renew_every_s

    def renew(self, now: float) -> None:
        """Renew what needs it, and mark what is lost.

        Args:
            now: the time on the monotonic clock.

        Raises:
            BrokerError: nothing is known then; try again soon.
        """
        old_s = self._config.renew_every_s
        runs = {
            (run.delivery.signal, run.delivery.source, run.delivery.entry_id): run
            for run in self._hand.snapshot()
            if run.delivery is not None and not run.lost and now - run.taken_at >= old_s
        }
        if runs:
            deliveries = [run.delivery for run in runs.values() if run.delivery is not None]
            lost = self._broker.renew(deliveries, self._config.group, self._consumer)
            self._link.worked()
            for run in runs.values():
                run.taken_at = now
            taken = 0
            in_hand = set(self._hand.snapshot()) if lost else set()
            for delivery in lost:
                run = runs[delivery.signal, delivery.source, delivery.entry_id]
                run.lost = True
                # A finished one may just have been settled; the settler says it if it was not.
                taken += not run.finished and run in in_hand
            if taken:
                logger.warning(
                    "%d entries belong to another worker now: the lease of %g s was over before "
                    "it was renewed", taken, self._config.lease_s,
                )  # fmt: skip

    def stop(self) -> None:
        """End :meth:`run`."""
        self._stopped.set()
