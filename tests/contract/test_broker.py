"""What every broker promises about publishing and reading (``lback_relay/broker/base.py``)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from time import monotonic

import pytest
from support.brokers import SERVERS, TestedBroker
from support.deliveries import GROUP, SIGNAL, bodies, publish, read
from support.waiting import wait_until

from lback_relay.broker import Broker, Delivery, connect
from lback_relay.broker.base import EVENTS, REDO
from lback_relay.errors import BacklogFull

ODD_NAMES = ["a b", "{a}", "a:b:c", "50%", "%35", "größe", "日本", "line\nbreak", "*?[x]", "}{"]


def test_a_broker_answers_a_ping_also_after_it_was_closed(tested: TestedBroker) -> None:
    """It connects again."""
    tested.broker.ping()
    tested.broker.close()
    tested.broker.ping()
    assert "password" not in repr(tested.broker)


# publishing ------------------------------------------------------------------------------------


def test_what_was_sent_before_the_first_worker_started_is_read(tested: TestedBroker) -> None:
    """Groups begin at 0, in the order of sending."""
    assert publish(tested.broker, b"1", b"2", b"3") == 3
    tested.broker.ensure_groups([SIGNAL], GROUP)
    deliveries = read(tested.broker)
    assert bodies(deliveries) == [b"1", b"2", b"3"]
    assert {(d.signal, d.source, d.deliveries) for d in deliveries} == {(SIGNAL, EVENTS, 1)}
    assert all(not d.attempts for d in deliveries)
    assert len({d.entry_id for d in deliveries}) == 3


def test_the_same_batch_again_changes_nothing(tested: TestedBroker) -> None:
    """A lost reply must not become a second delivery."""
    assert publish(tested.broker, b"1", b"2") == 2
    assert publish(tested.broker, b"1", b"2") == 0
    assert publish(tested.broker, b"2", first=2) == 0
    assert tested.client.xlen(tested.keys.events(SIGNAL)) == 2


def test_of_an_overlapping_batch_only_the_new_part_is_appended(tested: TestedBroker) -> None:
    """However the batches are cut the second time."""
    publish(tested.broker, b"1", b"2", b"3")
    assert publish(tested.broker, b"2", b"3", b"4", b"5", first=2) == 2
    assert publish(tested.broker, b"6", first=6) == 1
    tested.broker.ensure_groups([SIGNAL], GROUP)
    assert bodies(read(tested.broker)) == [b"1", b"2", b"3", b"4", b"5", b"6"]


def test_producers_and_signals_are_numbered_apart(tested: TestedBroker) -> None:
    """Number 1 of one hides nobody else's number 1."""
    for producer_id, signal in [("p", SIGNAL), ("q", SIGNAL), ("p", "other")]:
        assert publish(tested.broker, b"x", producer_id=producer_id, signal=signal) == 1
    assert tested.client.xlen(tested.keys.events(SIGNAL)) == 2


def test_a_producer_is_forgotten_in_the_end(tested: TestedBroker) -> None:
    """Its number has an expiry of days, renewed by each batch."""
    publish(tested.broker, b"1")
    left_s = tested.client.ttl(tested.keys.producer(SIGNAL, "p"))
    assert 6 * 86400 < left_s <= 7 * 86400


def test_nothing_to_publish_is_no_call(tested: TestedBroker) -> None:
    """No key appears."""
    assert publish(tested.broker) == 0
    assert tested.client.exists(tested.keys.events(SIGNAL)) == 0


def test_a_full_stream_refuses_the_whole_batch(tested: TestedBroker) -> None:
    """The error names the signal and the remedy; once there is room the batch goes in."""

    def publish_limited(*encoded: bytes, first: int) -> int:
        return tested.broker.publish(
            SIGNAL,
            encoded,
            producer_id="p",
            first_sequence=first,
            queue=True,
            broadcast=False,
            max_backlog=2,
        )

    assert publish_limited(b"1", b"2", b"3", first=1) == 3
    with pytest.raises(BacklogFull, match=f"'{SIGNAL}'.*max_backlog of 2.*more workers"):
        publish_limited(b"4", b"5", first=4)
    assert publish_limited(b"2", b"3", first=2) == 0, "what is in already is no matter of room"
    tested.client.xtrim(tested.keys.events(SIGNAL), maxlen=1, approximate=False)
    assert publish_limited(b"4", b"5", first=4) == 2
    assert tested.client.xlen(tested.keys.events(SIGNAL)) == 3


def test_concurrent_producers_lose_and_double_nothing(tested: TestedBroker) -> None:
    """Every method may be called from any thread."""

    def publish_all(producer: int) -> None:
        for first in range(1, 41, 4):
            batch = [f"{producer}-{first + index}".encode() for index in range(4)]
            publish(tested.broker, *batch, producer_id=f"p{producer}", first=first)

    threads = [threading.Thread(target=publish_all, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tested.broker.ensure_groups([SIGNAL], GROUP)
    got = bodies(read(tested.broker, count=1000))
    assert sorted(got, key=str) == sorted(
        (f"{producer}-{number}".encode() for producer in range(4) for number in range(1, 41)),
        key=str,
    )


# reading ---------------------------------------------------------------------------------------


def test_each_group_gets_every_envelope(tested: TestedBroker) -> None:
    """Once."""
    publish(tested.broker, b"1", b"2")
    for group in ("mailers", "indexers"):
        tested.broker.ensure_groups([SIGNAL], group)
        assert bodies(read(tested.broker, group=group)) == [b"1", b"2"]
        assert read(tested.broker, group=group) == []


def test_consumers_of_a_group_share_its_envelopes(tested: TestedBroker) -> None:
    """Each is handed to one of them."""
    tested.broker.ensure_groups([SIGNAL], GROUP)
    publish(tested.broker, *(b"%d" % number for number in range(10)))
    first = bodies(read(tested.broker, "a", count=4))
    second = bodies(read(tested.broker, "b", count=100))
    assert len(first) == 4
    assert first + second == [b"%d" % number for number in range(10)]


def test_ensuring_groups_again_changes_nothing(tested: TestedBroker) -> None:
    """What was delivered is not delivered again."""
    tested.broker.ensure_groups([SIGNAL], GROUP)
    publish(tested.broker, b"1")
    assert len(read(tested.broker)) == 1
    tested.broker.ensure_groups([SIGNAL, "other"], GROUP)
    assert read(tested.broker, signals=[SIGNAL, "other"]) == []


def test_one_read_takes_from_all_signals(tested: TestedBroker) -> None:
    """Up to the count from each."""
    signals = ["s1", "s2", "s3"]
    tested.broker.ensure_groups(signals, GROUP)
    for signal in signals:
        publish(tested.broker, b"1", b"2", b"3", signal=signal)
    got = read(tested.broker, signals=signals, count=2)
    assert [(d.signal, d.encoded) for d in got] == [
        (signal, body) for signal in signals for body in (b"1", b"2")
    ]


def test_a_read_waits_for_what_is_sent_meanwhile(tested: TestedBroker) -> None:
    """And returns as soon as it is there."""
    tested.broker.ensure_groups([SIGNAL], GROUP)
    got: list[Delivery] = []
    reader = threading.Thread(
        target=lambda: got.extend(tested.broker.read([SIGNAL], GROUP, "a", count=10, block_s=60.0))
    )
    reader.start()
    other = connect(tested.url, namespace=tested.namespace)
    publish(other, b"1")
    other.close()
    reader.join(30.0)
    assert bodies(got) == [b"1"]


def test_a_read_returns_empty_when_nothing_comes(tested: TestedBroker) -> None:
    """Not before its time."""
    tested.broker.ensure_groups([SIGNAL], GROUP)
    began = monotonic()
    assert tested.broker.read([SIGNAL], GROUP, "a", count=10, block_s=0.1) == []
    assert monotonic() - began >= 0.09


def _lose_stream(tested: TestedBroker) -> None:
    tested.client.delete(tested.keys.events(SIGNAL), tested.keys.redo(SIGNAL, GROUP))


def _lose_group(tested: TestedBroker) -> None:
    tested.client.xgroup_destroy(tested.keys.events(SIGNAL), GROUP)


@pytest.mark.parametrize("lose", [_lose_stream, _lose_group])
def test_a_lost_stream_or_group_is_made_again(
    tested: TestedBroker, caplog: pytest.LogCaptureFixture, lose: object
) -> None:
    """At 0, so that nothing that is still there is missed; said once a second."""
    assert callable(lose)
    tested.broker.ensure_groups([SIGNAL], GROUP)
    publish(tested.broker, b"1")
    lose(tested)
    with caplog.at_level(logging.WARNING, "lback_relay.broker"):
        assert read(tested.broker) == []
        publish(tested.broker, b"2", first=2)
        assert bodies(read(tested.broker))[-1:] == [b"2"]
        lose(tested)
        assert read(tested.broker) == []
    assert len(caplog.records) == 1
    assert GROUP in caplog.text


@pytest.mark.parametrize("tested", SERVERS, indirect=True)  # an imitation does not block
def test_losing_the_stream_ends_a_read_that_waits_for_it(tested: TestedBroker) -> None:
    """The next one finds what came meanwhile."""
    tested.broker.ensure_groups([SIGNAL], GROUP)
    results: list[Sequence[Delivery]] = []
    reader = threading.Thread(
        target=lambda: results.append(
            tested.broker.read([SIGNAL], GROUP, "a", count=10, block_s=60.0)
        )
    )
    reader.start()
    wait_until(
        lambda: any(client["cmd"].startswith("xread") for client in tested.client.client_list()),
        what="a blocked reader",
    )
    _lose_stream(tested)
    publish(tested.broker, b"1")
    reader.join(30.0)
    assert not reader.is_alive()
    assert [body for got in results for body in bodies(got)] + bodies(read(tested.broker)) == [b"1"]


def test_entries_that_others_wrote_are_handed_out_as_they_came(tested: TestedBroker) -> None:
    """So that the worker puts them aside, and its loop goes on."""
    tested.broker.ensure_groups([SIGNAL], GROUP)
    events, redo = tested.keys.events(SIGNAL), tested.keys.redo(SIGNAL, GROUP)
    tested.client.xadd(events, {"x": "foreign"})
    tested.client.xadd(events, {"x": "1", "y": "2"})
    tested.client.xadd(redo, {"r": "no record"})
    tested.client.xadd(redo, {"x": "foreign"})
    got = read(tested.broker)
    assert [(d.source, d.encoded) for d in got] == [
        (REDO, b"no record"),
        (REDO, b"foreign"),
        (EVENTS, b"foreign"),
        (EVENTS, b"x 1 y 2"),
    ]
    assert [not d.attempts for d in got] == [True] * 4


def test_any_name_will_do_for_signals_groups_and_consumers(tested: TestedBroker) -> None:
    """And none collides with another."""
    broker: Broker = connect(tested.url, namespace=tested.namespace + "{:ö} *")
    for group in ODD_NAMES:
        broker.ensure_groups(ODD_NAMES, group)
    for name in ODD_NAMES:
        publish(broker, name.encode(), signal=name, producer_id=name)
    for group in ODD_NAMES:
        got = read(broker, group, signals=ODD_NAMES, group=group)
        assert [d.signal.encode() for d in got] == bodies(got)
        assert [d.signal for d in got] == ODD_NAMES
        assert broker.renew(got, group, group) == []
        assert broker.backlog(group, group)["pending"] == 1
    broker.heartbeat(ODD_NAMES[2], {"größe": "1"}, ttl_s=60)
    assert broker.workers() == {ODD_NAMES[2]: {"größe": "1"}}
    assert tested.broker.workers() == {}, "another namespace's"
    broker.close()
