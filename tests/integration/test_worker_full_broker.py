"""A broker at its maxmemory, which only the worker's trimming can help."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from support.brokers import raw_client, running_server
from support.waiting import wait_until
from support.workers import GROUP, SIGNAL, publish, worker_starter

from lback_relay.broker import Broker, connect
from lback_relay.broker.keys import Keys
from lback_relay.errors import BrokerError
from lback_relay.remote import RemoteDispatcher

pytestmark = pytest.mark.broker

BATCH = 500


@pytest.fixture
def url() -> Iterator[str]:
    """Yield the URL of a server that takes about six megabytes."""
    with running_server() as server:
        with raw_client(server.url) as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", client.info("memory")["used_memory"] + 5_000_000)
        yield server.url


def fill(broker: Broker, client: Any) -> None:
    """Publish until the broker refuses, and fill it to the brim."""
    with contextlib.suppress(BrokerError):
        for batch in range(200):
            publish(
                broker, [{"number": n, "batch": batch, "text": "x" * 300} for n in range(BATCH)]
            )
    with contextlib.suppress(redis.exceptions.OutOfMemoryError):
        for number in range(100_000):
            client.set(f"filling:{number}", "x")
    with pytest.raises(BrokerError):
        publish(broker, [{"number": 0, "batch": 0}])


@pytest.mark.parametrize("fails", [False, True], ids=["all handled", "some to be retried"])
def test_a_worker_makes_room_in_a_full_broker(
    url: str, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its heartbeat and its retries are refused, what is handled goes all the same."""
    monkeypatch.setattr("lback_signal_worker.keeper.TRIM_EVERY_S", 0.2)
    dispatcher = RemoteDispatcher()

    @dispatcher.receiver(SIGNAL, max_attempts=2, backoff_base_s=0.1, backoff_max_s=0.1)
    def handle(sender: object, number: int, batch: int, **_: Any) -> None:
        # Not the first ones: what comes before a pending entry can be trimmed, and no more.
        if fails and number == 0 and batch >= 5:
            raise OSError

    broker = connect(url, namespace="lback", timeout_s=10.0)
    client: Any = raw_client(url)
    try:
        broker.ensure_groups([SIGNAL], GROUP)
        fill(broker, client)
        stream = Keys("lback").events(SIGNAL)
        before = client.xlen(stream)
        with worker_starter(url, "lback") as start:
            start(dispatcher)
            wait_until(lambda: client.xlen(stream) < before / 2, timeout_s=60, what="room")
            wait_until(
                lambda: broker.backlog(SIGNAL, GROUP)["pending"] == 0, timeout_s=60, what="all"
            )
        publish(broker, [{"number": 1, "batch": 0}])
    finally:
        client.close()
        broker.close()
