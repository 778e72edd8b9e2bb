"""What every broker promises of envelopes whose numbers nobody has used before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.brokers import SERVERS, TestedBroker, binary_of, raw_client, running_server
from support.deliveries import SIGNAL, publish

from lback_relay.broker import Broker, connect
from lback_relay.broker.keys import Keys
from lback_relay.errors import BacklogFull, BrokerError, BrokerUnavailable, NumbersSpent

EVENTS = Keys("fresh").events(SIGNAL)


@contextmanager
def server_of_its_own(kind: str) -> Iterator[tuple[Broker, Any, str]]:
    """Yield a broker on a server that nobody else uses, a plain client, and its URL."""
    with running_server(binary=binary_of(kind)) as server, raw_client(server.url) as client:
        broker = connect(server.url, namespace="fresh", timeout_s=30.0)
        yield broker, client, server.url
        broker.close()


@pytest.mark.parametrize("count", [1, 3])
def test_it_is_appended_and_its_number_noted(tested: TestedBroker, count: int) -> None:
    """So that the same numbers change nothing if they come once more."""
    batch = [b"%d" % number for number in range(count)]
    assert publish(tested.broker, *batch, fresh=True) == count
    left_s = tested.client.ttl(tested.keys.producer(SIGNAL, "p"))
    assert 6 * 86400 < left_s <= 7 * 86400
    assert publish(tested.broker, *batch) == 0
    assert publish(tested.broker, b"next", first=count + 1, fresh=True) == 1
    assert publish(tested.broker, *batch, b"next", b"last") == 1
    bodies = [fields[b"e"] for _, fields in tested.client.xrange(tested.keys.events(SIGNAL))]
    assert bodies == [*batch, b"next", b"last"]


def test_a_limit_and_a_broadcast_hold_for_it_too(tested: TestedBroker) -> None:
    """As for any other."""

    def publish_limited(number: int) -> int:
        return tested.broker.publish(
            SIGNAL, [b"x"], producer_id="p", first_sequence=number,
            queue=True, broadcast=False, max_backlog=1, fresh=True,
        )  # fmt: skip

    assert publish_limited(1) == 1
    with pytest.raises(BacklogFull):
        publish_limited(2)
    heard = tested.broker.subscribe([SIGNAL])
    tested.broker.publish(
        SIGNAL, [b"heard"], producer_id="q", first_sequence=1,
        queue=False, broadcast=True, fresh=True,
    )  # fmt: skip
    assert heard.get(30.0) == (SIGNAL, b"heard")
    heard.close()
    assert tested.client.xlen(tested.keys.events(SIGNAL)) == 1


def test_where_it_can_not_be_appended_its_number_is_spent(tested: TestedBroker) -> None:
    """The caller is told, for the envelope would be left out under the same number."""
    events = tested.keys.events(SIGNAL)
    tested.client.set(events, "no stream")
    with pytest.raises(NumbersSpent, match="WRONGTYPE"):
        publish(tested.broker, b"1", fresh=True)
    tested.client.delete(events)
    assert publish(tested.broker, b"1") == 0
    assert publish(tested.broker, b"1", producer_id="another") == 1


@pytest.mark.parametrize("kind", SERVERS)
def test_at_maxmemory_nothing_of_it_happens(kind: str) -> None:
    """Its number is as good as before."""
    with server_of_its_own(kind) as (broker, client, _):
        client.config_set("maxmemory", 1)
        with pytest.raises(BrokerError, match="maxmemory") as caught:
            publish(broker, b"1", fresh=True)
        assert not isinstance(caught.value, BrokerUnavailable | NumbersSpent)
        assert client.dbsize() == 0
        client.config_set("maxmemory", 0)
        assert publish(broker, b"1") == 1


@pytest.mark.parametrize("kind", SERVERS)
def test_a_replica_takes_nothing(kind: str) -> None:
    """It counts as away, as for every other call."""
    with server_of_its_own(kind) as (broker, client, _):
        client.replicaof("127.0.0.1", "1")
        with pytest.raises(BrokerUnavailable, match=r"READONLY|read only"):
            publish(broker, b"1", fresh=True)
        client.replicaof("NO", "ONE")
        assert client.dbsize() == 0
        assert publish(broker, b"1") == 1


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("forbidden", ["-multi", "-exec", "-xadd", "-set"])
def test_a_user_that_may_not_all_of_it(kind: str, forbidden: str) -> None:
    """Without MULTI it goes all the same; without XADD it is refused; twice it never comes."""
    with server_of_its_own(kind) as (_, client, url):
        client.execute_command(
            "ACL", "SETUSER", "sender", "on", ">word", "~*", "&*", "+@all", forbidden
        )
        limited = connect(
            url.replace("redis://", "redis://sender:word@"), namespace="fresh", timeout_s=30.0
        )
        if forbidden == "-multi":
            assert publish(limited, b"1", fresh=True) == 1
        else:
            with pytest.raises(BrokerError, match="ACL"):
                publish(limited, b"1", fresh=True)
        assert client.xlen(EVENTS) == (1 if forbidden == "-multi" else 0)
        client.execute_command("ACL", "SETUSER", "sender", "+@all")
        assert publish(limited, b"1") == (0 if forbidden == "-multi" else 1)
        assert client.xlen(EVENTS) == 1
        limited.close()
