"""What every broker promises about retries' time, trimming, leaving, and looking."""

from __future__ import annotations

import pytest
from support.brokers import SERVERS, TestedBroker, binary_of, raw_client, running_server
from support.deliveries import GROUP, SIGNAL, bodies, claim, publish, read
from support.waiting import wait_until

from lback_relay.broker import DeadLetter, Retry, Settlement, connect
from lback_relay.errors import BrokerError


def _settle(tested: TestedBroker, *, group: str = GROUP, consumer: str = "a") -> None:
    """Read all there is and acknowledge it."""
    got = read(tested.broker, consumer, group=group, count=1000)
    tested.broker.settle([Settlement(delivery=d) for d in got], group, consumer)


def _left(tested: TestedBroker) -> list[bytes]:
    return [fields[b"e"] for _, fields in tested.client.xrange(tested.keys.events(SIGNAL))]


# promoting -------------------------------------------------------------------------------------


def test_retries_are_promoted_when_the_brokers_clock_says_so(tested: TestedBroker) -> None:
    """The earliest first; the answer tells how long the next one has."""
    tested.broker.ensure_groups([SIGNAL], GROUP)
    assert tested.broker.promote([SIGNAL], GROUP) is None
    publish(tested.broker, b"1", b"2", b"3")
    for taken, delay_s in zip(read(tested.broker), (0.2, 0.0, 7200.0), strict=True):
        retry = Retry(attempts={"h": 1}, delay_s=delay_s)
        tested.broker.settle([Settlement(delivery=taken, retries=[retry])], GROUP, "a")
    promoted: list[bytes | None] = []

    def both_came() -> bool:
        next_s = tested.broker.promote([SIGNAL], GROUP)
        assert next_s is not None
        promoted.extend(bodies(read(tested.broker)))
        return len(promoted) == 2

    wait_until(both_came, what="two retries")
    assert promoted == [b"2", b"1"]
    next_s = tested.broker.promote([SIGNAL, "other"], GROUP)
    assert next_s is not None
    assert 7000 < next_s <= 7200
    assert tested.broker.promote(["other"], GROUP) is None
    assert tested.broker.promote([], GROUP) is None


def test_more_due_retries_than_one_call_moves_are_due_at_once(tested: TestedBroker) -> None:
    """The answer is 0 until all are moved."""
    tested.broker.ensure_groups([SIGNAL], GROUP)
    publish(tested.broker, *(b"x",) * 600)
    retry = Retry(attempts={"h": 1}, delay_s=0)
    tested.broker.settle(
        [Settlement(delivery=d, retries=[retry]) for d in read(tested.broker, count=1000)],
        GROUP,
        "a",
    )
    assert wait_until(lambda: tested.broker.promote([SIGNAL], GROUP) == 0, what="the first part")
    assert tested.broker.promote([SIGNAL], GROUP) is None
    assert len(read(tested.broker, count=1000)) == 600


@pytest.mark.parametrize("kind", SERVERS)
def test_at_maxmemory_retries_stay_scheduled_and_batches_stay_out(
    kind: str, namespace: str
) -> None:
    """A batch goes in as a whole or not at all, and a broadcast is not made twice."""
    with running_server(binary=binary_of(kind)) as server:
        broker = connect(server.url, namespace=namespace, timeout_s=30.0)
        client = raw_client(server.url)
        broker.ensure_groups([SIGNAL], GROUP)
        publish(broker, b"1")
        taken = read(broker)
        retry = Retry(attempts={"h": 1}, delay_s=0)
        broker.settle([Settlement(delivery=taken[0], retries=[retry])], GROUP, "a")
        heard = broker.subscribe([SIGNAL])
        client.config_set("maxmemory", 1)
        with pytest.raises(BrokerError, match=r"maxmemory"):
            broker.promote([SIGNAL], GROUP)
        for queue in (True, False):
            with pytest.raises(BrokerError, match=r"maxmemory; |maxmemory and"):
                broker.publish(
                    SIGNAL,
                    [b"2", b"3"],
                    producer_id="p",
                    first_sequence=2,
                    queue=queue,
                    broadcast=True,
                )
        assert heard.get(0.1) is None
        client.config_set("maxmemory", 0)
        assert publish(broker, b"2", b"3", first=2) == 2
        assert broker.promote([SIGNAL], GROUP) is None
        assert bodies(read(broker)) == [b"1", b"2", b"3"]
        heard.close()
        broker.close()
        client.close()


# trimming --------------------------------------------------------------------------------------


def test_trimming_drops_what_every_group_has_settled(tested: TestedBroker) -> None:
    """And nothing that one has not read, or has pending."""
    publish(tested.broker, b"1", b"2", b"3")
    assert tested.broker.trim([SIGNAL]) == 0, "no group yet: all is kept for the first"
    for group in ("fast", "slow"):
        tested.broker.ensure_groups([SIGNAL], group)
    _settle(tested, group="fast")
    assert tested.broker.trim([SIGNAL]) == 0, "the slow group has read nothing"
    first, second, third = read(tested.broker, "a", group="slow")
    tested.broker.settle([Settlement(delivery=first), Settlement(delivery=third)], "slow", "a")
    assert tested.broker.trim([SIGNAL]) == 1
    assert _left(tested) == [b"2", b"3"]
    tested.broker.settle([Settlement(delivery=second)], "slow", "a")
    assert tested.broker.trim([SIGNAL, "never sent"]) == 2
    assert _left(tested) == []
    publish(tested.broker, b"4", first=4)
    assert bodies(read(tested.broker, group="slow")) == [b"4"]


def test_trimming_keeps_what_a_group_that_went_back_has_before_it(tested: TestedBroker) -> None:
    """Its position counts, also when it lies before its oldest pending entry."""
    tested.broker.ensure_groups([SIGNAL], GROUP)
    publish(tested.broker, b"1", b"2", b"3")
    read(tested.broker, count=3)
    got = claim(tested.broker)
    tested.broker.settle([Settlement(delivery=d) for d in got[:2]], GROUP, "b")
    tested.client.xgroup_setid(tested.keys.events(SIGNAL), GROUP, got[0].entry_id)
    assert tested.broker.trim([SIGNAL]) == 1
    assert _left(tested) == [b"2", b"3"]


# leaving ---------------------------------------------------------------------------------------


def _consumers(tested: TestedBroker) -> set[bytes]:
    return {
        consumer["name"]
        for stream in (tested.keys.events(SIGNAL), tested.keys.redo(SIGNAL, GROUP))
        for consumer in tested.client.xinfo_consumers(stream, GROUP)
    }


def test_a_consumer_leaves_once_nothing_of_its_own_is_pending(tested: TestedBroker) -> None:
    """Removing it earlier would destroy what is pending."""
    tested.broker.ensure_groups([SIGNAL], GROUP)
    publish(tested.broker, b"1")
    taken = read(tested.broker)
    read(tested.broker, "b")
    assert tested.broker.leave([SIGNAL], GROUP, "a") is False
    assert tested.broker.leave([SIGNAL], GROUP, "b") is True
    assert b"a" in _consumers(tested)
    tested.broker.give_back(taken, GROUP, "a")
    assert bodies(claim(tested.broker, "c", min_idle_s=60.0)) == [b"1"]
    assert tested.broker.leave([SIGNAL], GROUP, "a") is True
    assert _consumers(tested) <= {b"c"}


def test_leaving_what_is_not_there_is_done_at_once(tested: TestedBroker) -> None:
    """No stream, no group, no consumer."""
    assert tested.broker.leave([SIGNAL], GROUP, "a") is True
    tested.broker.ensure_groups([SIGNAL], GROUP)
    assert tested.broker.leave([SIGNAL], GROUP, "a") is True
    assert tested.broker.leave([SIGNAL], "others", "a") is True


# looking ---------------------------------------------------------------------------------------


def test_the_figures_of_live_workers_are_shown_until_they_expire(tested: TestedBroker) -> None:
    """The last ones of each."""
    assert tested.broker.workers() == {}
    tested.broker.heartbeat("host:1:a", {"handled": "1"}, ttl_s=600)
    tested.broker.heartbeat("host:1:a", {"handled": "2", "group": "größe"}, ttl_s=600)
    tested.broker.heartbeat("host:2:b", {}, ttl_s=600)
    assert tested.broker.workers() == {
        "host:1:a": {"handled": "2", "group": "größe"},
        "host:2:b": {},
    }
    tested.broker.heartbeat("host:2:b", {}, ttl_s=0.05)
    wait_until(lambda: set(tested.broker.workers()) == {"host:1:a"}, what="expiry")


def test_a_heartbeat_that_others_wrote_has_no_figures(tested: TestedBroker) -> None:
    """It does not hide the others."""
    tested.client.set(tested.keys.worker("x"), b"\xc1")
    assert tested.broker.workers() == {"x": {}}


def test_the_backlog_is_counted_by_what_becomes_of_it(tested: TestedBroker) -> None:
    """From waiting through pending to retrying and dead."""

    def figures(group: str = GROUP) -> list[int]:
        backlog = tested.broker.backlog(SIGNAL, group)
        assert list(backlog) == ["waiting", "pending", "retrying", "dead"]
        return list(backlog.values())

    assert figures() == [0, 0, 0, 0]
    publish(tested.broker, *(b"%d" % number for number in range(1200)))
    assert figures() == [1200, 0, 0, 0], "the group will begin at the beginning"
    tested.broker.ensure_groups([SIGNAL], GROUP)
    assert figures() == [1200, 0, 0, 0]
    got = read(tested.broker, count=1100)
    assert figures() == [100, 1100, 0, 0]
    tested.broker.settle([Settlement(delivery=d) for d in got[:1000]], GROUP, "a")
    tested.broker.trim([SIGNAL])
    tested.client.xdel(tested.keys.events(SIGNAL), got[1000].entry_id)
    assert figures() == [100, 100, 0, 0]
    letter = DeadLetter(handler="h", reason="rejected", error="no")
    retry = Retry(attempts={"h": 1}, delay_s=0)
    tested.broker.settle(
        [
            Settlement(delivery=got[1001], retries=[retry, retry]),
            Settlement(delivery=got[1002], dead_letters=[letter]),
        ],
        GROUP,
        "a",
    )
    assert figures() == [100, 98, 2, 1]
    wait_until(lambda: tested.broker.promote([SIGNAL], GROUP) is None, what="two retries")
    assert figures() == [100, 98, 2, 1]
    read(tested.broker, count=1)
    assert figures() == [99, 100, 1, 1]
    assert figures("others") == [tested.client.xlen(tested.keys.events(SIGNAL)), 0, 0, 0]
