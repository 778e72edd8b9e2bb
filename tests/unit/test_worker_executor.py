"""Slots, threads and the event loop, without a broker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from support.executors import LEASE_S, SIGNAL, Running
from support.waiting import wait_until

from lback_relay.codec import decode
from lback_relay.envelope import Envelope
from lback_relay.remote import RemoteDispatcher
from lback_signal_worker.slots import PlainSlots


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
    late, claimed = running.begin(1, 2)
    late.taken_at -= LEASE_S  # its lease was over before it began
    claimed.lost = True  # another worker has it now
    running.executor.submit(SIGNAL, [late, claimed])
    running.wait_for(2)
    assert late.lost
    assert not late.finished
    assert not claimed.finished
    running.submit(3)
    running.wait_for(3)
    assert ran == [3]


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


def test_a_handlers_time_begins_with_itself(running: Running) -> None:
    """Not with one before it that may take as long as it likes."""
    release = threading.Event()
    ran: list[str] = []
    dispatcher = RemoteDispatcher()

    def first(sender: object, number: int) -> None:
        release.wait(60)

    def second(sender: object, number: int) -> None:
        ran.append("second")
        threading.Event().wait(0.2)  # several looks of the watch

    dispatcher.connect(SIGNAL, first, name="first")
    dispatcher.connect(SIGNAL, second, name="second", timeout_s=30)
    running.serve(dispatcher)
    (run,) = running.submit(1)
    wait_until(lambda: running.slot.run is run, what="the first handler")
    running.slot.began_at -= 3600  # as if it had taken an hour
    release.set()
    running.wait_for(1)
    assert ran == ["second"]
    assert not run.dead_letters
    assert not run.retries


def test_where_no_thread_can_be_started_the_slot_is_missing(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """Until its handler comes back; what it had in hand is settled and goes on all the same."""
    release = threading.Event()
    ran: list[int] = []

    def hanging(number: int) -> None:
        if number == 0:
            release.wait(60)
        ran.append(number)

    executor = running.start(as_kind("plain", hanging), timeout_s=0.05, max_attempts=1)
    refused = mock.patch.object(PlainSlots, "_start_slot", side_effect=RuntimeError("no more"))
    with refused:
        runs = running.submit(0, 1)
        running.wait_for(1)
        wait_until(lambda: executor.exhausted, what="the missing slot")
    assert [letter.reason for letter in runs[0].dead_letters or ()] == ["timeout"]
    assert "no thread can be started in the place of one that hangs" in caplog.text
    release.set()
    running.wait_for(2)
    assert ran == [0, 1]
    assert not executor.exhausted


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
