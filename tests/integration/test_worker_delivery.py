"""One worker on a real broker: each way in which a handler may end."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextvars import ContextVar
from typing import Any

import pytest
from support.waiting import wait_until
from support.workers import (
    GROUP,
    SIGNAL,
    StartWorker,
    publish,
    publish_bytes,
    remote,
    settled,
    start_worker,
)

from lback_relay.broker import Broker
from lback_relay.errors import Reject, RetryLater
from lback_relay.remote import HandlerContext, RemoteDispatcher

__all__ = ["remote", "start_worker"]

pytestmark = pytest.mark.broker

SOON = {"backoff_base_s": 0.01, "backoff_max_s": 0.01}


class Ledger:
    """Handlers that write down their runs."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, Any]] = []

    def of(self, name: str) -> list[Any]:
        """Return the numbers that one handler was run with."""
        return [number for runner, number in list(self.runs) if runner == name]


def dead(broker: Broker, count: int = 1) -> list[tuple[str, str, int]]:
    """Wait for dead letters and return (handler, reason, attempts) of each."""
    records = wait_until(
        lambda: broker.dead_letters(SIGNAL, GROUP, count=100)[count - 1 :] and True,
        what="the dead letter",
    )
    assert records
    letters = [record.letter for record in broker.dead_letters(SIGNAL, GROUP, count=100)]
    return [(letter.handler, letter.reason, letter.attempts) for letter in letters]


def test_what_was_sent_before_the_worker_started_is_handled_once(
    broker: Broker, start_worker: StartWorker, remote: RemoteDispatcher
) -> None:
    """By both handlers, plain and async, with sender and payload, and then it is settled."""
    ledger = Ledger()

    def plain(sender: object, number: int) -> None:
        ledger.runs.append(("plain", (sender, number)))

    async def awaited(sender: object, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        ledger.runs.append(("awaited", (sender, kwargs["number"])))

    remote.connect(SIGNAL, plain)
    remote.connect(SIGNAL, awaited)
    publish(broker, [{"number": number} for number in range(300)])
    start_worker(remote)
    wait_until(lambda: len(ledger.runs) >= 600, what="both handlers of 300 envelopes")
    wait_until(lambda: settled(broker), what="the settlements")
    expected = Counter(("UserManager", number) for number in range(300))
    assert Counter(ledger.of("plain")) == Counter(ledger.of("awaited")) == expected


def test_only_the_handler_that_failed_runs_again(
    broker: Broker, start_worker: StartWorker, remote: RemoteDispatcher
) -> None:
    """Three handlers, the second fails twice: starts 1, 3, 1."""
    ledger = Ledger()
    attempts: list[int] = []

    def before(sender: object, **kwargs: Any) -> None:
        ledger.runs.append(("before", kwargs["number"]))

    def failing(sender: object, context: HandlerContext, **kwargs: Any) -> None:
        attempts.append(context.attempt)
        if context.attempt < 3:
            raise OSError("no route")

    async def after(sender: object, **kwargs: Any) -> None:
        ledger.runs.append(("after", kwargs["number"]))

    remote.connect(SIGNAL, before)
    remote.connect(SIGNAL, failing, **SOON)
    remote.connect(SIGNAL, after)
    start_worker(remote)
    publish(broker, [{"number": 1}])
    wait_until(lambda: len(attempts) >= 3, what="the third attempt")
    wait_until(lambda: settled(broker), what="the settlement")
    assert attempts == [1, 2, 3]
    assert Counter(ledger.runs) == Counter([("before", 1), ("after", 1)])
    assert broker.dead_letters(SIGNAL, GROUP, count=10) == []


def test_a_handler_that_always_fails_ends_as_a_dead_letter(
    broker: Broker, start_worker: StartWorker, remote: RemoteDispatcher
) -> None:
    """After exactly max_attempts; its neighbour is unharmed."""
    ledger = Ledger()

    def broken(sender: object, **kwargs: Any) -> None:
        ledger.runs.append(("broken", 1))
        raise KeyboardInterrupt

    async def fine(sender: object, **kwargs: Any) -> None:
        ledger.runs.append(("fine", 1))

    remote.connect(SIGNAL, broken, max_attempts=3, name="broken", **SOON)
    remote.connect(SIGNAL, fine)
    start_worker(remote)
    publish(broker, [{}])
    assert dead(broker) == [("broken", "attempts", 3)]
    wait_until(lambda: settled(broker), what="the settlement")
    assert Counter(ledger.runs) == {("broken", 1): 3, ("fine", 1): 1}
    (record,) = broker.dead_letters(SIGNAL, GROUP, count=10)
    assert "raise KeyboardInterrupt" in record.letter.traceback


def test_a_handler_may_ask_for_later_or_refuse(
    broker: Broker, start_worker: StartWorker, remote: RemoteDispatcher
) -> None:
    """RetryLater and Reject, from plain and async handlers."""
    attempts: list[int] = []

    async def later(sender: object, context: HandlerContext, **kwargs: Any) -> None:
        attempts.append(context.attempt)
        if context.attempt == 1:
            raise RetryLater(0.05)

    def refusing(sender: object, **kwargs: Any) -> None:
        raise Reject("unknown customer")

    remote.connect(SIGNAL, later, backoff_base_s=600, backoff_max_s=600)
    remote.connect(SIGNAL, refusing, name="refusing")
    start_worker(remote)
    publish(broker, [{}])
    assert dead(broker) == [("refusing", "rejected", 1)]
    wait_until(lambda: attempts == [1, 2], what="the second attempt")


def test_a_hanging_handler_is_timed_out_and_its_thread_replaced(
    broker: Broker, start_worker: StartWorker, remote: RemoteDispatcher
) -> None:
    """The one slot goes on with the next envelope; the late end changes nothing."""
    release = threading.Event()
    ended: list[int] = []

    def hanging(sender: object, number: int) -> None:
        if number == 0:
            release.wait(60)
        ended.append(number)

    remote.connect(SIGNAL, hanging, timeout_s=0.1, max_attempts=1, name="hanging")
    start_worker(remote, concurrency=1)
    publish(broker, [{"number": number} for number in range(20)])
    assert dead(broker) == [("hanging", "timeout", 1)]
    wait_until(lambda: len(ended) == 19, what="the others")
    release.set()
    wait_until(lambda: len(ended) == 20, what="the late end")
    wait_until(lambda: settled(broker), what="the settlements")
    (record,) = broker.dead_letters(SIGNAL, GROUP, count=10)
    assert "release.wait(60)" in record.letter.traceback
    assert record.letter.error.startswith("AttemptTimeout: took longer than timeout_s (0.1 s)")


def test_a_handler_that_times_out_makes_way_for_the_next_one(
    broker: Broker, start_worker: StartWorker, remote: RemoteDispatcher
) -> None:
    """Handlers of one envelope end each for itself, also by time."""
    release = threading.Event()
    ended: list[str] = []

    def hanging(sender: object) -> None:
        release.wait(60)

    def next_one(sender: object) -> None:
        ended.append("next")

    remote.connect(SIGNAL, hanging, timeout_s=0.05, max_attempts=1)
    remote.connect(SIGNAL, next_one)
    start_worker(remote, concurrency=2)
    publish(broker, [{}])
    wait_until(lambda: ended == ["next"], what="the next handler")
    release.set()
    assert len(dead(broker)) == 1


def test_an_async_handler_is_cancelled_when_its_time_is_up(
    broker: Broker, start_worker: StartWorker, remote: RemoteDispatcher
) -> None:
    """Also one that does not take the hint: its slot goes on without it."""
    cancelled: list[str] = []
    others: list[int] = []

    async def hanging(sender: object, how: str) -> None:
        if how == "deaf":
            while not cancelled or len(others) < 5:
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:  # noqa: PERF203 - that is what is tried
                    cancelled.append(how)
        elif how == "polite":
            try:
                await asyncio.sleep(60)
            finally:
                cancelled.append(how)
        else:
            others.append(1)

    remote.connect(SIGNAL, hanging, timeout_s=0.1, max_attempts=1, name="hanging")
    start_worker(remote, concurrency=1)
    publish(broker, [{"how": how} for how in ("polite", "deaf", *"abcde")])
    assert dead(broker, 2) == [("hanging", "timeout", 1)] * 2
    wait_until(lambda: len(others) == 5, what="the others")
    assert set(cancelled) == {"polite", "deaf"}


def test_bytes_that_are_no_envelope_are_kept_aside(
    broker: Broker, start_worker: StartWorker, remote: RemoteDispatcher
) -> None:
    """No handler is called, and the worker goes on."""
    handled: list[int] = []

    def handler(sender: object, number: int) -> None:
        handled.append(number)

    remote.connect(SIGNAL, handler)
    start_worker(remote)
    publish_bytes(broker, [b"\xff\x00junk"])
    publish(broker, [{"number": 5}])
    assert dead(broker) == [("", "malformed", 0)]
    wait_until(lambda: handled == [5], what="the good one")
    assert broker.dead_letters(SIGNAL, GROUP, count=1)[0].encoded == b"\xff\x00junk"


def test_context_variables_stay_inside_a_run(
    broker: Broker, start_worker: StartWorker, remote: RemoteDispatcher
) -> None:
    """What one run sets the next does not see."""
    variable: ContextVar[int] = ContextVar("variable", default=0)
    seen: list[int] = []

    def plain(sender: object) -> None:
        seen.append(variable.get())
        variable.set(1)

    async def awaited(sender: object) -> None:
        seen.append(variable.get())
        variable.set(2)

    remote.connect(SIGNAL, plain)
    remote.connect(SIGNAL, awaited)
    start_worker(remote, concurrency=1)
    publish(broker, [{}] * 10)
    wait_until(lambda: len(seen) == 20, what="all runs")
    assert set(seen) == {0}


def test_a_plain_handler_that_returns_a_coroutine_is_awaited(
    broker: Broker, start_worker: StartWorker, remote: RemoteDispatcher
) -> None:
    """A decorator may hide that it is async; its failure counts as well."""
    awaited: list[str] = []

    async def inner() -> None:
        await asyncio.sleep(0)
        awaited.append("inner")
        raise Reject("after all")

    def decorated(sender: object) -> Any:
        return inner()

    remote.connect(SIGNAL, decorated, name="decorated")
    start_worker(remote)
    publish(broker, [{}])
    assert dead(broker) == [("decorated", "rejected", 1)]
    assert awaited == ["inner"]


def test_system_exit_in_an_async_handler_does_not_end_the_loop(
    broker: Broker, start_worker: StartWorker, remote: RemoteDispatcher
) -> None:
    """It is a failure of that attempt."""
    handled: list[int] = []

    async def exiting(sender: object, number: int) -> None:
        if number == 0:
            raise SystemExit(3)
        handled.append(number)

    remote.connect(SIGNAL, exiting, max_attempts=1, name="exiting")
    start_worker(remote, concurrency=1)
    publish(broker, [{"number": 0}, {"number": 1}, {"unexpected": 2}])
    assert dead(broker, 2) == [("exiting", "attempts", 1), ("exiting", "rejected", 1)]
    wait_until(lambda: handled == [1], what="the next one")


def test_a_slow_run_does_not_hold_up_what_was_taken_with_it(
    broker: Broker, start_worker: StartWorker, remote: RemoteDispatcher
) -> None:
    """Fast runs are taken in chunks; when one turns out slow, the rest goes to other slots."""
    release = threading.Event()
    handled: list[int] = []

    def handler(sender: object, number: int) -> None:
        if number == 501:
            release.wait(60)
        handled.append(number)

    remote.connect(SIGNAL, handler)
    start_worker(remote, concurrency=2)
    publish(broker, [{"number": number} for number in range(1000)])
    wait_until(lambda: len(handled) == 999, what="all others")
    wait_until(
        lambda: broker.backlog(SIGNAL, GROUP)["pending"] == 1, what="their settlements meanwhile"
    )
    release.set()
    wait_until(lambda: settled(broker), what="the settlement")
