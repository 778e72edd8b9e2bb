"""The calls that bring entries, each with the time at which their leases begin.

Leases begin when the broker hands the entries out, which is at some time after the question; the
answer may be long on its way. So they are counted from the question. One thread calls; any may look
at ``since``. Times are of the monotonic clock, durations seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic

from lback_relay.broker.base import Broker, Delivery
from lback_signal_worker.config import WorkerConfig

Taken = tuple[list[Delivery], float]
"""What came, and when it was asked for."""


class Taking:
    """Takes entries for one consumer of a group.

    Args:
        reading: the broker of reads; closing it ends one that blocks.
        broker: of claims.
        config: the worker's.
        consumer: the worker's name in its group.
        answered: is called after each call that has succeeded.

    Attributes:
        since: when the call began that is under way; None: none is. A slow line may need long.
        blocks: whether it waits for entries to be sent, however long that takes.
    """

    def __init__(
        self,
        reading: Broker,
        broker: Broker,
        config: WorkerConfig,
        consumer: str,
        *,
        answered: Callable[[], None],
    ) -> None:
        self.since: float | None = None
        self.blocks = False
        self._reading = reading
        self._broker = broker
        self._config = config
        self._consumer = consumer
        self._answered = answered

    def read(self, signals: Sequence[str], count: int, *, block_s: float) -> Taken:
        """See :meth:`lback_relay.broker.base.Broker.read`."""
        group, consumer = self._config.group, self._consumer
        self.blocks = block_s > 0
        try:
            return self._taken(
                lambda: self._reading.read(signals, group, consumer, count=count, block_s=block_s),
                monotonic(),
            )
        finally:
            self.blocks = False

    def claim(self, signals: Sequence[str], count: int) -> Taken:
        """See :meth:`lback_relay.broker.base.Broker.claim`; a lease is the config's."""
        group, consumer, lease_s = self._config.group, self._consumer, self._config.lease_s
        return self._taken(
            lambda: self._broker.claim(signals, group, consumer, min_idle_s=lease_s, count=count),
            monotonic(),
        )

    def ask(self, signal: str, count: int) -> Callable[[], Taken]:
        """Ask for entries of one signal; return what waits for them. It is to be called once."""
        self.since = asked_at = monotonic()
        try:
            answer = self._reading.ask((signal,), self._config.group, self._consumer, count=count)
        except BaseException:
            self.since = None
            raise
        return lambda: self._taken(answer, asked_at)

    def _taken(self, call: Callable[[], list[Delivery]], asked_at: float) -> Taken:
        self.since = asked_at
        try:
            found = call()
        finally:
            self.since = None
        self._answered()
        return found, asked_at
