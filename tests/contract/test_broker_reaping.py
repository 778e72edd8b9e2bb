"""What every broker promises about consumers whose workers are gone."""

from __future__ import annotations

import threading

import pytest
from support.brokers import TestedBroker
from support.deliveries import GROUP, SIGNAL, bodies, claim, publish, read
from support.waiting import wait_until

from lback_relay.broker import Delivery, Settlement
from lback_relay.broker import keeping as keeping_module
from lback_relay.broker.keys import Keys

REDO_TOO = 2
"""Each consumer is one of the signal's stream and one of the redo stream."""


def _make(tested: TestedBroker, *names: str) -> None:
    """Make consumers, as reads of workers that are gone by now have."""
    tested.broker.ensure_groups([SIGNAL], GROUP)
    with tested.client.pipeline(transaction=False) as pipeline:
        for stream in (tested.keys.events(SIGNAL), tested.keys.redo(SIGNAL, GROUP)):
            for name in names:
                pipeline.xgroup_createconsumer(stream, GROUP, name)
        pipeline.execute()


def _names(tested: TestedBroker) -> set[str]:
    return {
        consumer["name"].decode()
        for stream in (tested.keys.events(SIGNAL), tested.keys.redo(SIGNAL, GROUP))
        for consumer in tested.client.xinfo_consumers(stream, GROUP)
    }


def test_silent_consumers_are_removed(tested: TestedBroker) -> None:
    """By the broker's clock; the count is by stream."""
    _make(tested, "host:1:a", "host:2:b")
    assert tested.broker.reap([SIGNAL], GROUP, idle_s=3600) == 0
    assert _names(tested) == {"host:1:a", "host:2:b"}
    assert tested.broker.reap([SIGNAL], GROUP, idle_s=0) == 2 * REDO_TOO
    assert _names(tested) == set()
    assert tested.broker.reap([SIGNAL], GROUP, idle_s=0) == 0


def test_whoever_has_something_pending_or_a_heartbeat_stays(tested: TestedBroker) -> None:
    """Nothing pending is destroyed, whoever was silent for how long."""
    _make(tested, "gone", "alive: größe")
    tested.broker.heartbeat("alive: größe", {}, ttl_s=600)
    publish(tested.broker, b"1", b"2")
    assert bodies(read(tested.broker, "crashed", count=1)) == [b"1"]
    tested.broker.reap([SIGNAL], GROUP, idle_s=0)
    assert _names(tested) == {"crashed", "alive: größe"}
    taken = claim(tested.broker, "heir", min_idle_s=0)
    assert bodies(taken) == [b"1"]
    tested.broker.settle([Settlement(delivery=d) for d in taken], GROUP, "heir")
    tested.broker.reap([SIGNAL], GROUP, idle_s=0)
    assert _names(tested) == {"alive: größe"}
    assert bodies(read(tested.broker, "gone")) == [b"2"], "who was removed reads on"


def test_a_consumer_that_takes_something_meanwhile_stays(
    tested: TestedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is pending is looked at in the step that removes."""
    _make(tested, "late", "gone")
    publish(tested.broker, b"1")
    taken: list[Delivery] = []
    key = Keys.worker

    def read_meanwhile(keys: Keys, worker_id: str) -> str:
        if not taken:
            taken.extend(read(tested.broker, "late"))
        return key(keys, worker_id)

    # Between the look at the consumers and their removal, heartbeats are asked for.
    monkeypatch.setattr(Keys, "worker", read_meanwhile)
    assert tested.broker.reap([SIGNAL], GROUP, idle_s=0) == 2 + 1
    assert bodies(taken) == [b"1"]
    assert "gone" not in _names(tested)
    assert tested.broker.settle([Settlement(delivery=d) for d in taken], GROUP, "late") == []


def test_a_blocked_read_survives_the_removal_of_its_consumer(tested: TestedBroker) -> None:
    """It is made again by what the read gets."""
    _make(tested, "blocked")
    got: list[Delivery] = []

    def block() -> None:
        got.extend(tested.broker.read([SIGNAL], GROUP, "blocked", count=10, block_s=60.0))

    reader = threading.Thread(target=block)
    reader.start()
    if tested.real:
        wait_until(
            lambda: any("xreadgroup" in client["cmd"] and "b" in client["flags"]
                        for client in tested.client.client_list()),
            what="the blocked read",
        )  # fmt: skip
    wait_until(
        lambda: tested.broker.reap([SIGNAL], GROUP, idle_s=0) or not _names(tested),
        what="the removal",
    )
    publish(tested.broker, b"1")
    reader.join(60)
    assert bodies(got) == [b"1"]
    assert tested.broker.settle([Settlement(delivery=d) for d in got], GROUP, "blocked") == []


def test_thousands_are_removed_in_parts(
    tested: TestedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no step takes long; the next call goes on."""
    monkeypatch.setattr(keeping_module, "MAX_REAPED", 700)
    _make(tested, *(f"host:{number}:x" for number in range(1000)))
    assert tested.broker.reap([SIGNAL], GROUP, idle_s=0) == 700 * REDO_TOO
    assert len(_names(tested)) == 300
    assert tested.broker.reap([SIGNAL], GROUP, idle_s=0) == 300 * REDO_TOO
    assert _names(tested) == set()


def test_where_no_group_is_nobody_is_removed(tested: TestedBroker) -> None:
    """No signal, no stream, no group; other signals are looked at all the same."""
    assert tested.broker.reap([], GROUP, idle_s=0) == 0
    _make(tested, "gone")
    assert tested.broker.reap(["never sent", SIGNAL], GROUP, idle_s=0) == REDO_TOO
    assert tested.broker.reap([SIGNAL], "others", idle_s=0) == 0


def test_a_group_that_is_lost_while_it_is_looked_at_is_no_failure(
    tested: TestedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its consumers are gone with it."""
    _make(tested, "gone")
    key = Keys.worker

    def lose_meanwhile(keys: Keys, worker_id: str) -> str:
        tested.client.delete(tested.keys.events(SIGNAL))
        return key(keys, worker_id)

    monkeypatch.setattr(Keys, "worker", lose_meanwhile)
    assert tested.broker.reap([SIGNAL], GROUP, idle_s=0) == 1
