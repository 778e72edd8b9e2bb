"""A broker for publishers' tests: keeps the contract of publish in memory, and fails on demand."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import cast

from lback_relay.broker import Broker
from lback_relay.errors import BrokerUnavailable, NumbersSpent


class RecordingBroker:
    """Appends each envelope once, as the contract of ``Broker.publish`` says.

    Attributes:
        streams: signal to what was appended, in order.
        calls: every call of publish: (signal, first sequence, count, producer id).
        before: called with (call number from 1, signal) before a batch is applied; may raise or
            block.
        after: the same, once the batch is applied: raising means that the reply was lost.
        callers: the threads that called.
        closed: how often it was closed.
        fresh: what each call said of its numbers.
    """

    def __init__(self) -> None:
        self.streams: dict[str, list[bytes]] = defaultdict(list)
        self.calls: list[tuple[str, int, int, str]] = []
        self.options: list[tuple[bool, bool, int | None]] = []
        self.before: Callable[[int, str], None] = lambda call, signal: None
        self.after: Callable[[int, str], None] = lambda call, signal: None
        self.callers: list[threading.Thread] = []
        self.closed = 0
        self.fresh: list[bool] = []
        self._given: dict[tuple[str, str], set[int]] = defaultdict(set)
        self.pid = os.getpid()
        self._accepted: dict[tuple[str, str], int] = {}

    def publish(
        self,
        signal: str,
        encoded: Sequence[bytes],
        *,
        producer_id: str,
        first_sequence: int,
        queue: bool,
        broadcast: bool,
        max_backlog: int | None = None,
        fresh: bool = False,
    ) -> int:
        """Append what lies beyond the producer's last accepted number."""
        assert os.getpid() == self.pid, "a broker was used on the other side of a fork"
        assert encoded
        self.calls.append((signal, first_sequence, len(encoded), producer_id))
        self.callers.append(threading.current_thread())
        numbers = range(first_sequence, first_sequence + len(encoded))
        given = self._given[producer_id, signal]
        assert not (fresh and given.intersection(numbers)), "a number is not fresh"
        given.update(numbers)
        self.fresh.append(fresh)
        number = len(self.calls)
        last = first_sequence + len(encoded) - 1
        try:
            self.before(number, signal)
        except NumbersSpent:
            assert fresh
            self._accepted[producer_id, signal] = last
            raise
        # Of a producer that it has not met, the broker takes any first number.
        accepted = self._accepted.get((producer_id, signal), first_sequence - 1)
        assert first_sequence <= accepted + 1, "a number was left out"
        new = encoded[max(0, accepted - first_sequence + 1) :]
        self.streams[signal].extend(new)
        self.options.append((queue, broadcast, max_backlog))
        self._accepted[producer_id, signal] = max(accepted, last)
        self.after(number, signal)
        return len(new)

    def close(self) -> None:
        """Count it."""
        self.closed += 1


def connecting(broker: RecordingBroker) -> Callable[[], Broker]:
    """Return what a Publisher takes to get this broker."""
    return lambda: cast(Broker, broker)


def silent(_call: int, _signal: str) -> None:
    """Do not answer: for ``before`` and ``after``."""
    raise BrokerUnavailable("The broker at test does not answer.")
