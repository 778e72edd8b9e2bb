"""What every broker promises about broadcasts."""

from __future__ import annotations

import functools
import itertools
import threading
from time import monotonic

import pytest
from support.brokers import SERVERS, TestedBroker
from support.deliveries import GROUP, SIGNAL, bodies, read
from support.waiting import wait_until

from lback_relay.broker import Subscription, connect
from lback_relay.errors import BrokerUnavailable


def _broadcast(
    tested: TestedBroker, *encoded: bytes, signal: str = SIGNAL, first: int = 1, queue: bool = False
) -> int:
    return tested.broker.publish(
        signal,
        encoded,
        producer_id="p",
        first_sequence=first,
        queue=queue,
        broadcast=True,
    )


def _next(subscription: Subscription) -> tuple[str, bytes] | None:
    return subscription.get(30.0)


def test_every_subscriber_hears_every_broadcast(tested: TestedBroker) -> None:
    """Of its signals, in the order of sending, each once."""
    signals = [SIGNAL, "a b:{c}", "größe"]
    first, second = tested.broker.subscribe(signals), tested.broker.subscribe(signals[:1])
    _broadcast(tested, b"not for us", signal="other")
    for signal in reversed(signals):
        assert _broadcast(tested, b"1", b"\x00\xff", signal=signal) == 2
    assert [_next(first) for _ in range(6)] == [
        (signal, body) for signal in reversed(signals) for body in (b"1", b"\x00\xff")
    ]
    assert [_next(second) for _ in range(2)] == [(SIGNAL, b"1"), (SIGNAL, b"\x00\xff")]
    assert first.get(0.05) is second.get(0) is None
    first.close()
    second.close()
    assert tested.client.exists(tested.keys.events(SIGNAL)) == 0


def test_a_broadcast_is_made_once_however_often_it_is_published(tested: TestedBroker) -> None:
    """Its numbers are those of the queue."""
    heard = tested.broker.subscribe([SIGNAL])
    assert _broadcast(tested, b"1", b"2") == 2
    assert _broadcast(tested, b"2", b"3", first=2) == 1
    assert [_next(heard) for _ in range(3)] == [(SIGNAL, b"1"), (SIGNAL, b"2"), (SIGNAL, b"3")]
    assert heard.get(0.05) is None
    heard.close()


def test_a_signal_may_have_both_delivery_modes(tested: TestedBroker) -> None:
    """One call does both."""
    tested.broker.ensure_groups([SIGNAL], GROUP)
    heard = tested.broker.subscribe([SIGNAL])
    assert _broadcast(tested, b"1", queue=True) == 1
    assert _next(heard) == (SIGNAL, b"1")
    assert bodies(read(tested.broker)) == [b"1"]
    heard.close()


def test_namespaces_do_not_hear_each_other(tested: TestedBroker) -> None:
    """Channels ignore the database number, so that the name must keep them apart."""
    other = connect(tested.url, namespace=tested.namespace + "-other")
    heard = other.subscribe([SIGNAL])
    _broadcast(tested, b"1")
    assert heard.get(0.05) is None
    heard.close()
    other.close()


def test_a_wait_ends_in_time_and_at_the_close(tested: TestedBroker) -> None:
    """Also when there is nothing to be heard at all."""
    for signals in ([SIGNAL], []):
        heard = tested.broker.subscribe(signals)
        began = monotonic()
        assert heard.get(0.1) is None
        assert monotonic() - began >= 0.09
        waiting = threading.Thread(target=heard.get, args=(60.0,))
        waiting.start()
        heard.close()
        waiting.join(30.0)
        assert not waiting.is_alive()
        assert heard.get(60.0) is None
        heard.close()


@pytest.mark.parametrize("tested", SERVERS, indirect=True)  # an imitation has no connections
def test_a_subscription_comes_back_after_its_connection_was_killed(tested: TestedBroker) -> None:
    """What was sent meanwhile is not heard; what is sent afterwards is."""
    heard = tested.broker.subscribe([SIGNAL])
    sequence = itertools.count(1)

    def hears(body: bytes) -> tuple[str, bytes] | None:
        _broadcast(tested, body, first=next(sequence))
        try:
            return heard.get(0.05)
        except BrokerUnavailable:
            return None

    for body in (b"1", b"2", b"3"):
        assert tested.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub") == 1
        again = wait_until(functools.partial(hears, body), what="a broadcast")
        assert again == (SIGNAL, body)
        while heard.get(0.05) is not None:
            continue
    heard.close()
