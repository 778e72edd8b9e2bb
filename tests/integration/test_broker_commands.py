"""How many commands a thousand envelopes cost the broker: counts, which no slow machine changes.

Each is a round trip, or a part of one; one for each envelope would be a thousand.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import redis
from support.brokers import raw_client, running_server
from support.waiting import wait_until
from support.workers import GROUP, SIGNAL, publish, settled, worker_starter

from lback_relay.broker import Broker, Settlement, connect
from lback_relay.config import RelayConfig, SignalConfig
from lback_relay.relay import Relay
from lback_relay.remote import RemoteDispatcher
from lback_signal_worker.in_hand import InHand

pytestmark = pytest.mark.broker

NAMESPACE = "counted"
COUNT = 1000
CONSUMER = "a"

Counted = Callable[[], Counter[str]]


@pytest.fixture
def url() -> Iterator[str]:
    """Yield the URL of a server that nobody else uses, because it counts for all."""
    with running_server() as server:
        yield server.url


@pytest.fixture
def broker(url: str) -> Iterator[Broker]:
    """Yield a broker on that server, with a group."""
    broker = connect(url, namespace=NAMESPACE, timeout_s=30.0, client_name="test")
    broker.ensure_groups([SIGNAL], GROUP)
    yield broker
    broker.close()


@pytest.fixture
def counted(url: str) -> Iterator[Counted]:
    """Yield a function that returns how often each command ran since its last call."""
    with raw_client(url) as client:
        before: Counter[str] = Counter()

        def count() -> Counter[str]:
            nonlocal before
            now = _calls(client)
            since, before = now - before, now
            return since

        yield count


def _calls(client: redis.Redis) -> Counter[str]:
    stats = client.info("commandstats")
    return Counter(
        {name.removeprefix("cmdstat_"): figures["calls"] for name, figures in stats.items()}
    )


def _scripts(counts: Counter[str]) -> int:
    return counts["evalsha"] + counts["eval"]


def test_a_batch_is_published_by_one_script(broker: Broker, counted: Counted) -> None:
    """What else runs for each envelope is XADD, within the script."""
    publish(broker, [{"item": 0}])  # the script is loaded now
    counted()
    publish(broker, [{"item": number} for number in range(COUNT)])
    counts = counted()
    assert _scripts(counts) == 1
    assert counts["xadd"] == COUNT
    assert counts["get"] == counts["set"] == 1


def test_a_fresh_envelope_alone_needs_no_script(url: str, counted: Counted) -> None:
    """One transaction of two commands."""
    relay = Relay(RelayConfig(signals={SIGNAL: SignalConfig(name=SIGNAL)}, url=url))
    relay.relay(SIGNAL, None, {"item": 0})
    assert relay.flush(30.0)
    counted()
    relay.relay(SIGNAL, None, {"item": 1})
    assert relay.flush(30.0)
    counts = counted()
    relay.close()
    assert counts["multi"] == counts["exec"] == counts["xadd"] == counts["set"] == 1
    assert _scripts(counts) == counts["get"] == 0


def test_a_thousand_entries_are_taken_and_settled_by_two_commands(
    broker: Broker, counted: Counted
) -> None:
    """One read, one acknowledgement; renewing all leases meanwhile is one script."""
    publish(broker, [{"item": number} for number in range(COUNT)])
    counted()
    taken = broker.read([SIGNAL], GROUP, CONSUMER, count=COUNT, block_s=0)
    assert len(taken) == COUNT
    assert counted()["xreadgroup"] == 1
    broker.renew(taken[:1], GROUP, CONSUMER)  # the script is loaded now
    counted()
    assert broker.renew(taken, GROUP, CONSUMER) == []
    assert _scripts(counted()) == 1
    assert (
        broker.settle([Settlement(delivery=delivery) for delivery in taken], GROUP, CONSUMER) == []
    )
    counts = counted()
    assert counts["xack"] == 1
    assert _scripts(counts) == 0


def test_looking_for_expired_leases_costs_two_commands_a_signal(
    broker: Broker, counted: Counted
) -> None:
    """When nothing has expired: one for new entries' stream, one for due retries'."""
    publish(broker, [{"item": number} for number in range(COUNT)])
    broker.read([SIGNAL], GROUP, CONSUMER, count=COUNT, block_s=0)
    counted()
    assert broker.claim([SIGNAL], GROUP, CONSUMER, min_idle_s=60, count=COUNT) == []
    counts = counted()
    assert counts["xpending"] == 2
    assert _scripts(counts) == 0


def test_what_is_queued_while_the_line_is_held_goes_in_few_batches(
    url: str, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand sends in the background are a handful of scripts, however they were sent."""
    all_sent = threading.Event()
    relay = Relay(
        RelayConfig(
            signals={SIGNAL: SignalConfig(name=SIGNAL)},
            url=url,
            namespace=NAMESPACE,
            spool_dir="off",
        )
    )
    connect_now = relay.publisher._connect

    def connect_later() -> Broker:
        all_sent.wait(30)
        return connect_now()

    monkeypatch.setattr(relay.publisher, "_connect", connect_later)
    for number in range(COUNT):
        assert relay.relay(SIGNAL, "sender", {"item": number})
    counted()
    all_sent.set()
    assert relay.flush(30)
    counts = counted()
    relay.close()
    assert counts["xadd"] == COUNT
    # What the thread had taken when it first connected, the rest in batches of 512, and the calls
    # that load the script.
    assert _scripts(counts) <= 6


def test_a_worker_takes_many_of_short_handlers_with_each_read(
    url: str, broker: Broker, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four thousand entries are a few dozen reads and acknowledgements, not thousands."""
    handled: set[object] = set()

    def handler(sender: object, item: int, **_payload: object) -> None:
        handled.add(item)

    # As if the handler always took as long as it does on a machine that has nothing else to do.
    measured = InHand.measured
    monkeypatch.setattr(InHand, "measured", lambda hand, signal, _: measured(hand, signal, 1e-5))
    remote = RemoteDispatcher()
    remote.connect(SIGNAL, handler)
    publish(broker, [{"item": number} for number in range(4 * COUNT)])
    counted()
    with worker_starter(url, NAMESPACE) as start_worker:
        start_worker(remote)
        wait_until(lambda: len(handled) == 4 * COUNT, timeout_s=60)
        assert counted()["xreadgroup"] < COUNT / 10
        wait_until(lambda: settled(broker), timeout_s=60)
