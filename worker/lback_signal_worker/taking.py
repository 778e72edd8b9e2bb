"""The calls that bring entries, each with the time at which their leases begin.

Leases begin when the broker hands the entries out, which is at some time after the question; the
answer may be long on its way. So they are counted from the question. One thread calls; any may look
at ``since``. Times are of the monotonic clock, durations seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
        self.blocks = block_s > 0
        try:
            with self._call() as asked_at:
                found = self._reading.read(
                    signals, self._config.group, self._consumer, count=count, block_s=block_s
                )
        finally:
            self.blocks = False
        return found, asked_at

    def claim(self, signals: Sequence[str], count: int) -> Taken:
        """See :meth:`lback_relay.broker.base.Broker.claim`; a lease is the config's."""
        with self._call() as asked_at:
            found = self._broker.claim(
                signals,
                self._config.group,
                self._consumer,
                min_idle_s=self._config.lease_s,
                count=count,
            )
        return found, asked_at

    def ask(self, signal: str, count: int) -> Callable[[], Taken]:
        """Ask for entries of one signal; return what waits for them. It is to be called once."""
        self.since = asked_at = monotonic()
        try:
            answer = self._reading.ask((signal,), self._config.group, self._consumer, count=count)
        except BaseException:
            self.since = None
            raise

        def taken() -> Taken:
            with self._call():
                self.since = asked_at
                found = answer()
            return found, asked_at

        return taken

    @contextmanager
    def _call(self) -> Iterator[float]:
        self.since = began_at = monotonic()
        try:
            yield began_at
        finally:
            self.since = None
        self._answered()
