"""A worker whose broker goes and comes again: it goes on by itself, and nothing is lost."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.brokers import NO_SERVER, raw_client, skip_or_fail
from support.waiting import wait_until
from support.workers import (
    GROUP,
    SIGNAL,
    StartWorker,
    publish,
    remote,
    settled,
    start_worker,
    worker_starter,
)

from lback_relay.broker import connect
from lback_relay.broker.embedded import EmbeddedServer, find_server
from lback_relay.remote import HandlerContext, RemoteDispatcher

__all__ = ["remote", "start_worker"]

pytestmark = pytest.mark.broker


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """Yield a server of this test's own, which keeps its data while it is away."""
    binary = find_server() or skip_or_fail(NO_SERVER)
    server = EmbeddedServer(tmp_path / "redis", binary=binary, options=("--appendonly", "yes"))
    server.start()
    yield server
    server.stop()


def test_a_worker_outlives_its_broker(
    server: EmbeddedServer,
    remote: RemoteDispatcher,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Outcomes of the meantime are kept and settled, retries come, broadcasts are heard again."""
    monkeypatch.setattr("lback_signal_worker.link.BACKOFF_MAX_S", 0.2)
    caplog.set_level(logging.INFO)
    release = threading.Event()
    ended: Counter[int] = Counter()
    heard: list[int] = []

    def handler(sender: object, number: int, context: HandlerContext) -> None:
        if number < 4:
            release.wait(60)
        if number == 0 and context.attempt == 1:
            raise OSError("no route")
        ended[number] += 1

    async def hearing(sender: object, number: int) -> None:
        heard.append(number)

    remote.connect(SIGNAL, handler, backoff_base_s=0.01, backoff_max_s=0.01)
    remote.connect("user_updated", hearing, delivery="broadcast")
    with worker_starter(server.url, "outage") as start:
        worker = start(remote, lease_s=3600)
        assert worker._listener.subscribed.wait(60)
        broker = connect(server.url, namespace="outage", timeout_s=10)
        publish(broker, [{"number": number} for number in range(4)])
        wait_until(lambda: broker.backlog(SIGNAL, GROUP)["pending"] == 4, what="four that run")
        broker.close()
        server.stop()
        release.set()
        wait_until(lambda: sum(ended.values()) == 3, what="the handlers' ends")
        wait_until(lambda: "the broker fails while settling" in caplog.text, what="the complaint")
        server.start()
        publish(broker, [{"number": number} for number in range(4, 20)])
        wait_until(lambda: len(ended) == 20, what="the old and the new ones")
        wait_until(lambda: settled(broker), what="the settlements")
        assert ended == Counter(range(20))
        wait_until(lambda: "the broker answers again" in caplog.text, what="the good news")

        def hears() -> bool:
            publish(broker, [{"number": 1}], signal="user_updated", delivery=("broadcast",))
            return bool(heard)

        wait_until(hears, what="a broadcast")
        assert worker.drain()
        broker.close()


def test_a_drain_without_a_broker_ends_in_time(
    server: EmbeddedServer, remote: RemoteDispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    """It says what will run again; the entries are taken over when their lease ends."""
    release = threading.Event()
    started = threading.Event()

    def handler(sender: object) -> None:
        started.set()
        release.wait(60)

    remote.connect(SIGNAL, handler)
    with worker_starter(server.url, "outage") as start:
        worker = start(remote, concurrency=1, drain_timeout_s=0.2)
        broker = connect(server.url, namespace="outage", timeout_s=10)
        publish(broker, [{}])
        assert started.wait(60)
        broker.close()
        server.stop()
        release.set()
        assert worker.drain() is False
    assert "outcomes could not be written" in caplog.text
    assert "could not take itself out of its group" in caplog.text


def test_a_stream_that_was_deleted_is_made_again(
    redis_url: str, namespace: str, start_worker: StartWorker, remote: RemoteDispatcher
) -> None:
    """The worker goes on with what is sent afterwards."""
    handled: list[int] = []

    def handler(sender: object, number: int) -> None:
        handled.append(number)

    remote.connect(SIGNAL, handler)
    start_worker(remote, block_s=0.2)
    broker = connect(redis_url, namespace=namespace, timeout_s=10)
    publish(broker, [{"number": 1}])
    wait_until(lambda: handled == [1], what="the first")
    with raw_client(redis_url) as client:
        client.delete(*client.scan_iter(match=f"{namespace}:*"))
    publish(broker, [{"number": 2}])
    wait_until(lambda: handled == [1, 2], what="the second")
    broker.close()


def test_what_the_broker_has_no_room_for_is_kept_and_written_later(
    redis_url: str, namespace: str, start_worker: StartWorker, remote: RemoteDispatcher
) -> None:
    """At maxmemory acknowledgements go on; a dead letter waits, its entry pending."""
    failed = threading.Event()

    def handler(sender: object, number: int, context: HandlerContext) -> None:
        if number == 0:
            failed.set()
            raise OSError("no route")

    remote.connect(SIGNAL, handler, max_attempts=1)
    broker = connect(redis_url, namespace=namespace, timeout_s=10)
    publish(broker, [{"number": number} for number in range(10)])
    with raw_client(redis_url) as client:
        broker.ensure_groups([SIGNAL], GROUP)
        client.config_set("maxmemory", "1")
        try:
            start_worker(remote)
            assert failed.wait(60)
            wait_until(
                lambda: broker.backlog(SIGNAL, GROUP)["pending"] == 1, what="the acknowledgements"
            )
        finally:
            client.config_set("maxmemory", "0")
    wait_until(lambda: settled(broker), what="the dead letter")
    assert len(broker.dead_letters(SIGNAL, GROUP, count=10)) == 1
    broker.close()


def test_a_broker_that_lets_a_worker_take_nothing_is_as_if_away(
    server: EmbeddedServer, remote: RemoteDispatcher, namespace: str
) -> None:
    """For a supervisor, that is: replacing the worker would not help. It goes on by itself."""
    handled: list[int] = []

    def handler(sender: object, number: int) -> None:
        handled.append(number)

    remote.connect(SIGNAL, handler, name="handler")
    with worker_starter(server.url, namespace) as start, raw_client(server.url) as raw:
        client: Any = raw
        worker = start(remote, block_s=0.2)
        wait_until(lambda: worker.polled_at > 0, what="the first poll")
        assert not worker.away
        client.execute_command("ACL", "SETUSER", "default", "-xreadgroup")
        wait_until(lambda: worker.away, what="the refusal")
        client.execute_command("ACL", "SETUSER", "default", "+xreadgroup")
        broker = connect(server.url, namespace=namespace, timeout_s=10.0)
        publish(broker, [{"number": 1}])
        wait_until(lambda: handled == [1], what="the work that goes on")
        broker.close()
