"""A broker that does as the test says, and what the worker's parts are given in their own tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, cast

from support.runs import a_delivery

from lback_relay.broker.base import Broker, Delivery, Settlement
from lback_relay.remote import Handler, RemoteDispatcher
from lback_signal_worker.in_hand import InHand
from lback_signal_worker.prefetch import Prefetch
from lback_signal_worker.processor import Run

SIGNAL = "user_registered"


class FakeBroker:
    """Keeps the calls; ``fails`` holds what the next ones raise, by method."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.fails: dict[str, list[Exception]] = {}
        self.claims: list[list[Delivery]] = []
        self.lost: list[Delivery] = []
        self.next_due_s: float | None = None
        self.more: dict[str, int] = {}
        """How many entries there are to read, by signal."""

    def _called(self, name: str, given: Any = None) -> None:
        self.calls.append((name, given))
        failures = self.fails.get(name)
        if failures:
            raise failures.pop(0)

    def of(self, name: str) -> list[Any]:
        """Return what one method was given, call by call."""
        return [given for called, given in list(self.calls) if called == name]

    def settle(self, settlements: Sequence[Settlement], *_: str) -> list[Delivery]:
        self._called("settle", list(settlements))
        return self.lost

    def renew(self, deliveries: Sequence[Delivery], *_: str) -> list[Delivery]:
        self._called("renew", list(deliveries))
        return self.lost

    def give_back(self, deliveries: Sequence[Delivery], *_: str) -> None:
        self._called("give_back", list(deliveries))

    def promote(self, signals: Sequence[str], group: str) -> float | None:
        self._called("promote")
        return self.next_due_s

    def heartbeat(self, *_: Any, ttl_s: float) -> None:
        self._called("heartbeat", ttl_s)

    def trim(self, signals: Sequence[str], group: str, *, group_ttl_s: float) -> int:
        self._called("trim", (group, group_ttl_s))
        return 0

    def reap(self, signals: Sequence[str], group: str, *, idle_s: float) -> int:
        self._called("reap", (group, idle_s))
        return 2

    def ensure_groups(self, *_: Any) -> None:
        self._called("ensure_groups")

    def claim(self, *_: Any, **__: Any) -> list[Delivery]:
        self._called("claim")
        return self.claims.pop(0) if self.claims else []

    def read(self, signals: Sequence[str], *_: Any, count: int, block_s: float) -> list[Delivery]:
        self._called("read", (tuple(signals), count, block_s > 0))
        threading.Event().wait(0.001)
        return self._given(signals, count)

    def ask(self, signals: Sequence[str], *_: Any, count: int) -> Callable[[], list[Delivery]]:
        self._called("ask", (tuple(signals), count))

        def answer() -> list[Delivery]:
            self._called("answer")
            return self._given(signals, count)

        return answer

    def _given(self, signals: Sequence[str], count: int) -> list[Delivery]:
        given = []
        for signal in signals:
            for _ in range(min(count, self.more.get(signal, 0))):
                given.append(a_delivery(signal=signal, entry_id=f"{self.more[signal]}-0"))
                self.more[signal] -= 1
        return given

    def ping(self) -> None:
        self._called("ping")

    def close(self) -> None:
        self._called("close")


def as_broker(broker: FakeBroker) -> Broker:
    """Return it as what the worker's parts take."""
    return cast(Broker, broker)


def half() -> float:
    """Return what stands for a random number."""
    return 0.5


def a_hand(*signals: str, slots: int = 8) -> InHand:
    """Return an empty hand for plain handlers of these signals."""
    return InHand(Prefetch(slots=slots), dict.fromkeys(signals or (SIGNAL,), False))


def a_run(number: int = 1, signal: str = SIGNAL, **fields: Any) -> Run:
    """Return a finished run."""
    delivery = a_delivery(b"bytes", signal=signal, entry_id=f"{number}-0")
    run = Run(signal, b"bytes", (), delivery, monotonic())
    for name, value in fields.items():
        setattr(run, name, value)
    return run


def some_handlers() -> tuple[Handler, ...]:
    """Return a handler that no test here runs."""
    dispatcher = RemoteDispatcher()
    dispatcher.connect(SIGNAL, lambda **_: None, name="never called")
    return dispatcher.handlers(SIGNAL)
