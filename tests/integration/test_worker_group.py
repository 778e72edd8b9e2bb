"""Several workers and groups on a real broker: leases, claims, broadcasts, drains."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.brokers import raw_client
from support.waiting import wait_until
from support.workers import GROUP, SIGNAL, StartWorker, publish, remote, settled, start_worker

from lback_relay.broker import Broker, Delivery, connect
from lback_relay.broker.keys import Keys
from lback_relay.remote import HandlerContext, RemoteDispatcher
from lback_signal_worker.worker import NOTICE_S

__all__ = ["remote", "start_worker"]

pytestmark = pytest.mark.broker


def recording(runs: list[tuple[str, int]], name: str, **options: Any) -> RemoteDispatcher:
    """Return a dispatcher whose handler writes down who ran what."""
    dispatcher = RemoteDispatcher()

    def handler(sender: object, number: int) -> None:
        runs.append((name, number))

    dispatcher.connect(SIGNAL, handler, name="recording", **options)
    return dispatcher


def test_two_workers_share_a_group_and_two_groups_get_all(
    broker: Broker, start_worker: StartWorker
) -> None:
    """Each envelope once per group, whoever takes it."""
    runs: list[tuple[str, int]] = []
    for name, group in (("a1", "a"), ("a2", "a"), ("b1", "b")):
        start_worker(recording(runs, name), group=group)
    publish(broker, [{"number": number} for number in range(500)])
    wait_until(lambda: len(runs) >= 1000, what="both groups")
    wait_until(lambda: settled(broker, "a") and settled(broker, "b"), what="the settlements")
    by_group = Counter((name[0], number) for name, number in runs)
    assert by_group == {(group, number): 1 for group in "ab" for number in range(500)}


def test_slow_work_is_left_to_idle_workers(broker: Broker, start_worker: StartWorker) -> None:
    """A worker takes no more slow entries than it has slots for."""
    release = threading.Event()
    started: Counter[str] = Counter()

    def blocking(name: str) -> RemoteDispatcher:
        dispatcher = RemoteDispatcher()

        def handler(sender: object) -> None:
            started[name] += 1
            release.wait(60)

        dispatcher.connect(SIGNAL, handler, name="blocking")
        return dispatcher

    for name in ("one", "two"):
        start_worker(blocking(name), concurrency=3)
    publish(broker, [{}] * 6)
    wait_until(lambda: started == {"one": 3, "two": 3}, what="three each")
    release.set()
    wait_until(lambda: settled(broker), what="the settlements")


def test_a_handler_may_take_longer_than_the_lease(
    broker: Broker, start_worker: StartWorker
) -> None:
    """It is renewed: one start, although another worker looks for expired entries."""
    started: list[str] = []
    release = threading.Event()
    claims = threading.Semaphore(0)

    def slow(name: str) -> RemoteDispatcher:
        dispatcher = RemoteDispatcher()

        def handler(sender: object) -> None:
            started.append(name)
            release.wait(60)

        dispatcher.connect(SIGNAL, handler, name="slow")
        return dispatcher

    def counting(real: Broker) -> Broker:
        claim = real.claim

        def counted(*arguments: Any, **options: Any) -> Any:
            claims.release()
            return claim(*arguments, **options)

        real.claim = counted  # type: ignore[method-assign]
        return real

    start_worker(slow("one"), lease_s=1)
    publish(broker, [{}])
    wait_until(lambda: started == ["one"], what="the start")
    other = start_worker(slow("two"), lease_s=1)
    counting(other._broker)
    for _ in range(7):  # half a lease apart: three leases and more
        assert claims.acquire(timeout=60)
    assert started == ["one"]
    assert broker.backlog(SIGNAL, GROUP)["pending"] == 1
    release.set()
    wait_until(lambda: settled(broker), what="the settlement")


def test_entries_of_a_worker_that_died_are_taken_over(
    broker: Broker, start_worker: StartWorker
) -> None:
    """Once their lease is over, in the next claim."""
    runs: list[tuple[str, int]] = []
    broker.ensure_groups([SIGNAL], GROUP)
    publish(broker, [{"number": number} for number in range(50)])
    assert len(broker.read([SIGNAL], GROUP, "died", count=100, block_s=0)) == 50
    start_worker(recording(runs, "heir"), lease_s=1)
    wait_until(lambda: len(runs) >= 50, what="the take-over")
    wait_until(lambda: settled(broker), what="the settlements")
    assert Counter(number for _, number in runs) == Counter(range(50))


def test_a_suspect_runs_alone(broker: Broker, start_worker: StartWorker) -> None:
    """What was in hand at two deaths runs while nothing else does; then reading goes on."""
    broker.ensure_groups([SIGNAL], GROUP)
    publish(broker, [{"number": 0}])
    (_,) = broker.read([SIGNAL], GROUP, "died", count=1, block_s=0)
    broker.claim([SIGNAL], GROUP, "died too", min_idle_s=0, count=1)
    publish(broker, [{"number": number} for number in range(1, 40)])
    running: Counter[int] = Counter()
    together: list[set[int]] = []
    dispatcher = RemoteDispatcher()

    async def handler(sender: object, number: int) -> None:
        running[number] += 1
        await asyncio.sleep(0.01)
        together.append({other for other, count in running.items() if count})
        running[number] -= 1

    dispatcher.connect(SIGNAL, handler, name="handler")
    start_worker(dispatcher, lease_s=1)
    wait_until(lambda: len(together) == 40, what="all of them")
    wait_until(lambda: settled(broker), what="the settlements")
    assert {0} in together
    assert [others for others in together if 0 in others] == [{0}]


def test_an_entry_that_keeps_killing_is_a_dead_letter(
    broker: Broker, start_worker: StartWorker
) -> None:
    """After max_crashes deaths it is not run any more."""
    runs: list[tuple[str, int]] = []
    broker.ensure_groups([SIGNAL], GROUP)
    publish(broker, [{"number": 0}])
    broker.read([SIGNAL], GROUP, "died", count=1, block_s=0)
    for name in ("died too", "died as well"):
        broker.claim([SIGNAL], GROUP, name, min_idle_s=0, count=1)
    start_worker(recording(runs, "careful"), lease_s=1)
    wait_until(lambda: broker.dead_letters(SIGNAL, GROUP, count=1), what="the dead letter")
    wait_until(lambda: settled(broker), what="the settlement")
    (record,) = broker.dead_letters(SIGNAL, GROUP, count=10)
    assert (record.letter.handler, record.letter.reason) == ("recording", "crashed")
    assert runs == []


def test_a_broadcast_reaches_every_worker(
    broker: Broker, start_worker: StartWorker, remote: RemoteDispatcher
) -> None:
    """Of one group too; what also goes by queue is handled once by it, not by broadcast."""
    runs: list[tuple[str, int]] = []
    workers = [start_worker(recording(runs, name)) for name in ("one", "two")]
    loud = start_worker(recording(runs, "loud", delivery="broadcast"), group="other")
    for worker in (*workers, loud):
        assert worker._listener.subscribed.wait(60)
    publish(broker, [{"number": 1}], delivery=("broadcast",))
    wait_until(lambda: len(runs) == 3, what="the broadcast everywhere")
    assert sorted(runs) == [("loud", 1), ("one", 1), ("two", 1)]
    publish(broker, [{"number": 2}], delivery=("queue", "broadcast"))
    wait_until(lambda: len(runs) == 5, what="one of the group, and the one for broadcasts")
    wait_until(lambda: settled(broker), what="the settlement")
    assert [name for name, number in runs if number == 2].count("loud") == 1
    assert len(runs) == 5


def test_the_context_says_how_it_came(broker: Broker, start_worker: StartWorker) -> None:
    """A handler of both can tell them apart."""
    seen: list[tuple[str, str, str, int]] = []
    dispatcher = RemoteDispatcher()

    async def handler(sender: object, context: HandlerContext) -> None:
        seen.append((context.delivery, context.group, context.envelope_id, context.attempt))

    dispatcher.connect(SIGNAL, handler)
    worker = start_worker(dispatcher)
    assert worker._listener.subscribed.wait(60)
    (heard,) = publish(broker, [{}], delivery=("broadcast",))
    (queued,) = publish(broker, [{}])
    wait_until(lambda: len(seen) == 2, what="both")
    assert set(seen) == {("broadcast", GROUP, heard, 1), ("queue", GROUP, queued, 1)}


def test_a_drain_gives_back_what_has_not_begun_and_waits_for_the_rest(
    broker: Broker, start_worker: StartWorker
) -> None:
    """Another worker takes the former at once; nothing runs twice; the consumer is gone."""
    release = threading.Event()
    runs: list[tuple[str, int]] = []
    begun: list[int] = []
    dispatcher = RemoteDispatcher()

    def handler(sender: object, number: int) -> None:
        if number >= 1000:
            begun.append(number)
            release.wait(60)
        runs.append(("drained", number))

    dispatcher.connect(SIGNAL, handler, name="recording")
    draining = start_worker(dispatcher, concurrency=2, lease_s=3600, drain_timeout_s=20)
    publish(broker, [{"number": number} for number in range(1000)])
    wait_until(lambda: len(runs) == 1000, what="a fast average, and with it a large prefetch")
    wait_until(lambda: settled(broker), what="the settlements")
    publish(broker, [{"number": number} for number in range(1000, 1100)])
    wait_until(lambda: broker.backlog(SIGNAL, GROUP)["pending"] > 10, what="entries in hand")
    wait_until(lambda: begun, what="one that runs; the second thread may come too late for it")
    clean: list[bool] = []
    drain = threading.Thread(target=lambda: clean.append(draining.drain()))
    drain.start()
    start_worker(recording(runs, "heir"), lease_s=3600)
    wait_until(lambda: len(runs) == 1100 - len(begun), what="what was given back")
    release.set()
    drain.join(60)
    assert clean == [True]
    wait_until(lambda: settled(broker), what="the settlements")
    assert Counter(number for _, number in runs) == Counter(range(1100))
    assert len(begun) <= 2
    heirs = {number for name, number in runs if name == "heir"}
    assert heirs == set(range(1000, 1100)) - set(begun)


def test_a_drain_waits_for_what_was_asked_for(
    redis_url: str, namespace: str, broker: Broker, start_worker: StartWorker
) -> None:
    """Those entries go back with the others, or they would wait for their lease's end."""
    asked, draining = threading.Event(), threading.Event()

    def connecting() -> Broker:
        made = connect(redis_url, namespace=namespace, timeout_s=10.0)
        ask = made.ask

        def asking(*given: Any, count: int) -> Callable[[], list[Delivery]]:
            answer = ask(*given, count=count)

            def late() -> list[Delivery]:
                asked.set()
                assert draining.wait(60)
                threading.Event().wait(4 * NOTICE_S)  # a read that blocks has been cut off then
                return answer()

            return late

        made.ask = asking  # type: ignore[assignment, method-assign]
        return made

    runs: list[tuple[str, int]] = []
    worker = start_worker(recording(runs, "drained"), connecting=connecting, lease_s=3600)
    publish(broker, [{"number": number} for number in range(1000)])
    assert asked.wait(60)
    draining.set()
    assert worker.drain()
    start_worker(recording(runs, "heir"), lease_s=3600)
    wait_until(lambda: len(runs) == 1000, what="what was given back")
    assert Counter(number for _, number in runs) == Counter(range(1000))


def test_a_drain_that_times_out_says_so_and_keeps_the_entry_pending(
    broker: Broker, start_worker: StartWorker
) -> None:
    """Another worker takes it once the lease is over."""
    release = threading.Event()
    started = threading.Event()
    dispatcher = RemoteDispatcher()

    def handler(sender: object) -> None:
        started.set()
        release.wait(60)

    dispatcher.connect(SIGNAL, handler)
    worker = start_worker(dispatcher, drain_timeout_s=0.1)
    publish(broker, [{}])
    assert started.wait(60)
    assert worker.drain() is False
    assert broker.backlog(SIGNAL, GROUP)["pending"] == 1
    release.set()


def test_a_second_os_signal_cuts_the_drain_short(broker: Broker, start_worker: StartWorker) -> None:
    """The worker asks again and again whether it is to end at once."""
    release = threading.Event()
    started = threading.Event()
    dispatcher = RemoteDispatcher()

    def handler(sender: object) -> None:
        started.set()
        release.wait(60)

    dispatcher.connect(SIGNAL, handler)
    worker = start_worker(dispatcher, drain_timeout_s=3600, stop_grace_s=3601)
    publish(broker, [{}])
    assert started.wait(60)
    assert worker.drain(interrupted=lambda: True) is False
    release.set()


def test_the_heartbeat_tells_what_the_worker_does(
    broker: Broker, start_worker: StartWorker
) -> None:
    """Who it is, and its figures."""
    worker = start_worker(recording([], "one"))
    wait_until(lambda: worker.consumer_name in broker.workers(), what="the heartbeat")
    figures = broker.workers()[worker.consumer_name]
    assert figures["group"] == GROUP
    assert set(figures) == {"host", "pid", "group", "handled", "failed", "in_hand", "unverified"}


def test_settled_entries_are_trimmed_in_time(
    broker: Broker,
    redis_url: str,
    namespace: str,
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stream does not grow with what was handled."""
    monkeypatch.setattr("lback_signal_worker.keeper.TRIM_EVERY_S", 0.05)
    runs: list[tuple[str, int]] = []
    start_worker(recording(runs, "one"))
    publish(broker, [{"number": number} for number in range(300)])
    wait_until(lambda: len(runs) == 300, what="all of them")
    with raw_client(redis_url) as client:
        stream = Keys(namespace).events(SIGNAL)
        wait_until(lambda: client.xlen(stream) == 0, what="the trimming")


def test_a_worker_of_broadcasts_alone_is_healthy_too(
    broker: Broker, start_worker: StartWorker, tmp_path: Path
) -> None:
    """It reads nothing; that its subscription is there is what keeps the file young."""
    file = tmp_path / "health"
    worker = start_worker(recording([], "one", delivery="broadcast"), health_file=str(file))
    wait_until(file.exists, what="the first word")
    assert worker.polled_at > 0
