"""Slots, threads and the event loop, without a broker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest
from support.runs import a_delivery
from support.waiting import wait_until

from lback_relay.codec import decode
from lback_relay.envelope import Envelope
from lback_relay.remote import RemoteDispatcher
from lback_signal_worker.executor import Executor
from lback_signal_worker.in_hand import InHand
from lback_signal_worker.prefetch import Prefetch
from lback_signal_worker.processor import Processor, Run

SIGNAL = "user_registered"


class Running:
    """An executor of one slot of each kind."""

    def __init__(self) -> None:
        self.reported: list[Run] = []
        self.held = True
        self.decode: Callable[[bytes], Envelope] = decode
        self._executor: Executor | None = None
        self._processor: Processor | None = None

    def start(self, *handlers: Callable[..., Any], **options: Any) -> Executor:
        """Start with these handlers."""
        dispatcher = RemoteDispatcher()
        for number, handler in enumerate(handlers):
            dispatcher.connect(SIGNAL, handler, name=f"{number}", **options)
        connected = dispatcher.handlers(SIGNAL)
        self._processor = Processor(
            group="g",
            handlers={SIGNAL: connected},
            decode=self._decode,
            random=lambda: 0.5,
        )
        prefetch = Prefetch(slots=1)
        self._executor = Executor(
            self._processor,
            prefetch=prefetch,
            hand=InHand(prefetch, {SIGNAL: connected[0].is_async}),
            holds=lambda run, now: self.held and not run.lost,
            report=self.reported.extend,
        )
        self._executor.start()
        return self._executor

    def _decode(self, encoded: bytes, _signal: str, _mode: str) -> Envelope:
        return self.decode(encoded)

    def submit(self, *numbers: int) -> list[Run]:
        """Submit runs with these numbers as their payload."""
        assert self._processor is not None
        assert self._executor is not None
        runs = [
            self._processor.begin(a_delivery(payload={"number": number}), monotonic())
            for number in numbers
        ]
        self._executor.submit(SIGNAL, runs)
        return runs

    def wait_for(self, count: int) -> None:
        """Wait until so many are reported."""
        wait_until(lambda: len(self.reported) == count, what=f"{count} runs")

    def close(self) -> None:
        """End it."""
        if self._executor is not None:
            self._executor.close()


@pytest.fixture
def running() -> Iterator[Running]:
    """Yield an executor that ends with the test."""
    running = Running()
    yield running
    running.close()


def as_kind(kind: str, function: Callable[[int], None]) -> Callable[..., Any]:
    """Return a handler of one kind."""

    async def awaited(sender: object, number: int) -> None:
        function(number)

    def plain(sender: object, number: int) -> None:
        function(number)

    return awaited if kind == "async" else plain


KINDS = pytest.mark.parametrize("kind", ["plain", "async"])


@KINDS
def test_what_is_lost_before_it_begins_is_not_run(running: Running, kind: str) -> None:
    """It is reported, so that it is forgotten."""
    ran: list[int] = []
    running.start(as_kind(kind, ran.append))
    running.held = False
    (lost,) = running.submit(1)
    running.wait_for(1)
    assert lost.lost
    assert not lost.finished
    running.held = True
    running.submit(2)
    running.wait_for(2)
    assert ran == [2]


@KINDS
def test_a_fault_of_the_worker_itself_costs_no_slot(
    running: Running, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The entry stays pending, and the one slot goes on."""
    ran: list[int] = []
    running.start(as_kind(kind, ran.append))

    def broken(_encoded: bytes) -> Envelope:
        raise ZeroDivisionError

    running.decode = broken
    (run,) = running.submit(1)
    running.wait_for(1)
    assert not run.finished
    running.decode = decode
    running.submit(2)
    running.wait_for(2)
    assert ran == [2]
    assert "failed in the worker itself" in caplog.text


def test_threads_beyond_the_limit_are_missing_until_one_comes_back(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that hangs for ever, again and again, must not fill the process with threads."""
    release = threading.Event()
    ran: list[int] = []

    def hanging(number: int) -> None:
        if number < 5:
            release.wait(60)
        ran.append(number)

    executor = running.start(as_kind("plain", hanging), timeout_s=0.01)
    running.submit(0, 1, 2, 3, 4, 5)
    wait_until(lambda: "1 of 1 slots are missing" in caplog.text, what="the last slot's end")
    assert executor.exhausted
    assert 5 not in ran
    release.set()
    wait_until(lambda: 5 in ran, what="the next run, in a slot that came back")
    running.wait_for(6)
    assert not executor.exhausted


@KINDS
def test_what_has_not_begun_can_be_taken_back(running: Running, kind: str) -> None:
    """But not what is between two of its handlers."""
    started = threading.Event()
    release = threading.Event()
    second: list[int] = []

    def blocking(number: int) -> None:
        started.set()
        release.wait(60)

    other = "plain" if kind == "async" else "async"
    executor = running.start(as_kind(kind, blocking), as_kind(other, second.append))
    runs = running.submit(1, 2, 3)
    assert started.wait(60)
    assert set(executor.take_back()) == set(runs[1:])
    release.set()
    running.wait_for(1)
    assert second == [1]
    assert running.reported == runs[:1]


def test_a_run_that_waits_for_its_second_handler_is_not_taken_back(running: Running) -> None:
    """It would run its first one again elsewhere."""
    passed_on = threading.Event()
    release = threading.Event()
    ran: list[tuple[str, int]] = []

    async def first(sender: object, number: int) -> None:
        ran.append(("first", number))
        if number == 3:
            passed_on.set()

    def second(sender: object, number: int) -> None:
        release.wait(60)
        ran.append(("second", number))

    executor = running.start(first, second)
    running.submit(1, 2, 3)
    assert passed_on.wait(60)
    assert executor.take_back() == []
    release.set()
    running.wait_for(3)
    assert sorted(ran) == [(name, number) for name in ("first", "second") for number in (1, 2, 3)]
