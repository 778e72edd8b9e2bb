"""The line of one process: a broker that comes and goes, refusals, forks, and what others left."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine
from support.databases import database_url, postgres_base
from support.outboxes import commit, engine, expire_claims, rows
from support.recording_broker import RecordingBroker, connecting, silent
from support.waiting import wait_until

from lback_relay import Relay, RelayConfig, outbox_line
from lback_relay.codec import decode
from lback_relay.errors import BacklogFull
from lback_relay.outbox import Outbox

__all__ = ["database_url", "engine", "postgres_base"]

CONFIG = RelayConfig.from_mapping(
    {
        "signals": {"order_paid": {"publish": "outbox"}, "order_sent": {"publish": "outbox"}},
        "flush_timeout_s": 0.3,
    },
    environ={},
)
Made = Callable[..., Relay]


@pytest.fixture
def broker() -> RecordingBroker:
    """A broker that fails on demand."""
    return RecordingBroker()


@pytest.fixture
def make(broker: RecordingBroker) -> Iterator[Made]:
    """Make relays of this process, or of one that others have killed; close them at the end."""
    made: list[Relay] = []

    def relay(**options: Any) -> Relay:
        relay = Relay(CONFIG)
        relay.outbox = Outbox(CONFIG, connect_broker=connecting(broker), **options)
        for sender in relay._senders.values():
            sender._outbox = relay.outbox
        made.append(relay)
        return relay

    yield relay
    broker.before = lambda call, signal: None
    for each in made:
        each.close()


def orders(broker: RecordingBroker, signal: str = "order_paid") -> list[str]:
    """Return the orders that the broker has of a signal."""
    return [decode(encoded).payload["order"] for encoded in broker.streams[signal]]


def test_a_broker_that_comes_back_gets_everything_in_order(
    engine: Engine, broker: RecordingBroker, make: Made
) -> None:
    """What was committed meanwhile is in the table, not in memory."""
    relay = make()
    broker.before = silent
    names = [str(number) for number in range(30)]
    for name in names[:20]:
        commit(relay, engine, name)
    wait_until(lambda: broker.calls, what="the first call")
    assert not relay.flush(0.1)
    assert rows(engine) == 20
    broker.before = lambda call, signal: None
    for name in names[20:]:
        commit(relay, engine, name)
    wait_until(lambda: rows(engine) == 0, what="an empty outbox")
    assert orders(broker) == names


def test_a_lost_reply_doubles_nothing(engine: Engine, broker: RecordingBroker, make: Made) -> None:
    """The broker had it; the row is published again under the same number."""
    relay = make()
    lost = iter([True])

    def after(call: int, signal: str) -> None:
        if next(lost, False):
            silent(call, signal)

    broker.after = after
    commit(relay, engine, "a", "b")
    wait_until(lambda: rows(engine) == 0, what="an empty outbox")
    assert orders(broker) == ["a", "b"]
    assert len(broker.calls) >= 3


def test_a_refused_signal_waits_and_the_others_go_on(
    engine: Engine, broker: RecordingBroker, make: Made
) -> None:
    """In their order; the refused one follows when there is room."""
    relay = make()

    def full(_call: int, signal: str) -> None:
        if signal == "order_paid":
            raise BacklogFull("order_paid is full")

    broker.before = full
    commit(relay, engine, "a", "b")
    wait_until(lambda: broker.calls, what="the first call")
    commit(relay, engine, "x", "y", signal="order_sent")
    commit(relay, engine, "c")
    wait_until(lambda: orders(broker, "order_sent") == ["x", "y"], what="the other signal")
    assert orders(broker) == []
    assert not relay.flush(0)
    broker.before = lambda call, signal: None
    wait_until(lambda: rows(engine) == 0, what="an empty outbox")
    assert orders(broker) == ["a", "b", "c"]


def test_a_refused_signal_is_not_put_off_by_the_others(
    engine: Engine, broker: RecordingBroker, make: Made
) -> None:
    """However many of them there are."""
    relay = make()
    refusals = iter(range(3))

    def full(_call: int, signal: str) -> None:
        if signal == "order_paid" and next(refusals, None) is not None:
            raise BacklogFull("order_paid is full")

    broker.before = full
    commit(relay, engine, "a")
    numbers = itertools.count()

    def traffic() -> bool:
        commit(relay, engine, f"x{next(numbers)}", signal="order_sent")
        return orders(broker) == ["a"]

    wait_until(traffic, what="the refused signal")
    assert relay.flush(30)
    assert rows(engine) == 0


def test_what_others_left_is_swept_when_the_process_begins_to_serve(
    engine: Engine, broker: RecordingBroker, make: Made
) -> None:
    """And again later, without a row of its own."""
    gone = make()
    broker.before = silent
    commit(gone, engine, "first")
    gone.close()
    broker.before = lambda call, signal: None
    expire_claims(engine)
    serving = make(sweep_every_s=0.05)
    serving.watch_outbox(engine)
    serving.watch_outbox(engine)
    wait_until(lambda: orders(broker) == ["first"], what="the sweep")
    broker.before = silent
    commit(gone, engine, "second")
    gone.close()
    broker.before = lambda call, signal: None
    expire_claims(engine)
    wait_until(lambda: orders(broker) == ["first", "second"], what="the next sweep")
    assert len([t for t in threading.enumerate() if t.name == "lback-relay-outbox"]) == 1


def test_more_than_memory_shall_hold_waits_in_the_table(
    engine: Engine, broker: RecordingBroker, make: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is swept, in order."""
    monkeypatch.setattr(outbox_line, "MAX_QUEUED", 2)
    relay = make(sweep_every_s=0.2)
    held = threading.Event()

    def hold(_call: int, _signal: str) -> None:
        held.wait(30)

    broker.before = hold
    for number in range(6):
        commit(relay, engine, str(number))
    held.set()
    wait_until(lambda: rows(engine) == 0, what="an empty outbox")
    assert orders(broker) == [str(number) for number in range(6)]


def test_a_closed_relay_goes_on_with_the_next_commit(
    engine: Engine, broker: RecordingBroker, make: Made
) -> None:
    """The thread and the connection are made anew."""
    relay = make()
    commit(relay, engine, "a")
    relay.close()
    assert orders(broker) == ["a"]
    assert broker.closed
    commit(relay, engine, "b")
    assert relay.flush(30)
    assert orders(broker) == ["a", "b"]


def test_a_process_that_can_start_no_thread_leaves_its_rows(
    engine: Engine, broker: RecordingBroker, make: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit goes through; somebody else sweeps."""

    def no_threads(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    relay = make()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_threads)
        commit(relay, engine, "a")
    assert not relay.flush(0.1)
    assert rows(engine) == 1
    commit(relay, engine, "b")
    assert relay.flush(30)
    assert orders(broker) == ["a", "b"]


def test_a_forked_child_publishes_its_own(
    engine: Engine, make: Made, broker: RecordingBroker
) -> None:
    """With a thread and a claimant of its own; the parent's queue is the parent's."""
    relay = make()
    commit(relay, engine, "parent")
    assert relay.flush(30)
    assert relay.outbox is not None
    engine.dispose()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            broker.pid = os.getpid()
            engine.dispose(close=False)
            commit(relay, engine, "child")
            code = 0 if relay.flush(30) and orders(broker) == ["parent", "child"] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert rows(engine) == 0
    commit(relay, engine, "parent again")
    assert relay.flush(30)
    assert orders(broker) == ["parent", "parent again"]
