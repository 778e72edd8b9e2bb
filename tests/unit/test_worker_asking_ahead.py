"""Asking for the next entries before the last ones run."""

from __future__ import annotations

import math

import pytest
from support.runs import a_delivery
from support.waiting import wait_until
from support.worker_parts import SIGNAL, FakeBroker
from support.worker_reading import Reading

from lback_relay.errors import BrokerUnavailable
from lback_signal_worker.prefetch import MAX_ENTRIES

THIRD = MAX_ENTRIES // 3


@pytest.fixture
def broker() -> FakeBroker:
    """Return a broker of the test's own."""
    return FakeBroker()


@pytest.fixture(autouse=True)
def handlers_are_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the watch from noticing that they wait for us: of slow ones little is asked for."""
    monkeypatch.setattr("lback_signal_worker.watch.LONG_S", 600.0)


def test_the_next_question_goes_out_before_what_was_taken_runs(broker: FakeBroker) -> None:
    """Once it runs, this thread may have to wait for the interpreter."""
    reading = Reading(broker, SIGNAL)
    consumer = reading.consumer
    consumer._grouped, consumer._claim_at = True, math.inf
    reading.hand.measured(SIGNAL, 0.0)
    broker.more = {SIGNAL: MAX_ENTRIES}
    asked: list[int] = []
    reading.on_submit = lambda: asked.append(len(broker.of("ask")))
    consumer._turn()
    assert asked == [1]
    assert consumer.taking.since is not None
    consumer._turn()
    assert asked == [1, 2]
    assert [count for _, count in broker.of("ask")] == [THIRD, THIRD]
    assert reading.hand.count == 2 * THIRD
    reading.end_without_thread()


@pytest.mark.parametrize("due", ["claim", "others", "stop"])
def test_nothing_is_asked_ahead_when_something_else_is_due(broker: FakeBroker, due: str) -> None:
    """It would have to wait for the answer."""
    reading = Reading(broker, SIGNAL, "other")
    consumer = reading.consumer
    consumer._grouped, consumer._claim_at, consumer._hot = True, math.inf, [SIGNAL]
    consumer._others_at = math.inf
    reading.hand.measured(SIGNAL, 0.0)
    broker.more = {SIGNAL: MAX_ENTRIES}
    consumer._turn()
    assert len(broker.of("ask")) == 1
    if due == "claim":
        consumer._claim_at = 0.0
    elif due == "others":
        consumer._others_at = 0.0
    else:
        consumer.stop()
    consumer._turn()
    assert len(broker.of("ask")) == 1
    assert consumer.taking.since is None
    assert [len(given) for given in broker.of("give_back")] == ([THIRD] if due == "stop" else [])
    reading.end_without_thread()


def test_what_was_taken_runs_when_the_next_question_fails(broker: FakeBroker) -> None:
    """It is in hand, and nobody would run it later."""
    broker.fails["ask"] = [BrokerUnavailable("away")]
    reading = Reading(broker, SIGNAL)
    consumer = reading.consumer
    consumer._grouped, consumer._claim_at = True, math.inf
    reading.hand.measured(SIGNAL, 0.0)
    broker.more = {SIGNAL: MAX_ENTRIES}
    with pytest.raises(BrokerUnavailable):
        consumer._turn()
    assert consumer.taking.since is None
    reading.release.set()
    wait_until(lambda: len(reading.done) == THIRD, what="their ends")
    reading.executor.close()


@pytest.mark.parametrize("closed", [False, True])
def test_what_was_asked_for_when_the_worker_stops_goes_back(
    broker: FakeBroker, *, closed: bool
) -> None:
    """Or it would wait for its lease's end; a connection that stopping has closed does no harm."""
    reading = Reading(broker, SIGNAL, lease_s=3600)
    reading.hand.measured(SIGNAL, 0.0)
    broker.more = {SIGNAL: MAX_ENTRIES}
    reading.on_submit = reading.consumer.stop
    broker.fails["answer"] = [ValueError("read of closed file")] if closed else []
    reading.start()
    assert reading.consumer.ended.wait(60)
    assert [len(given) for given in broker.of("give_back")] == ([] if closed else [THIRD])
    assert reading.hand.count == THIRD
    reading.end_without_thread()


def test_entries_of_all_signals_go_back_though_the_broker_refuses(broker: FakeBroker) -> None:
    """What stayed in hand would be waited for until the drain's time is up."""
    broker.fails["give_back"] = [BrokerUnavailable("away")]
    reading = Reading(broker, "a", "b", "c")
    reading.consumer.stop()
    deliveries = {signal: [a_delivery(signal=signal)] for signal in "abc"}
    with pytest.raises(BrokerUnavailable):
        reading.consumer._take(deliveries, 0.0)
    assert (reading.hand.count, reading.hand.unfinished) == (0, 0)
    assert [len(given) for given in broker.of("give_back")] == [3]
    reading.end_without_thread()
