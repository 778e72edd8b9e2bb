"""Faults of the way between: cut, silent, slow, and replies that are lost."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from faults.support.ledger import FINISHED, PUBLISHED, STARTED
from faults.support.names import HANDLER, LEASE_S, SIGNAL
from faults.support.proxy import named, publishing_calls
from faults.support.scene import Scene
from support.waiting import wait_until

from lback_signal_worker import health

pytestmark = [pytest.mark.broker, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.faults_quick
@pytest.mark.row(9, "replies lost after XADD")
@pytest.mark.parametrize("publishing_mode", ["sync", "background"])
def test_a_lost_reply_doubles_no_envelope(scene: Scene, publishing_mode: str) -> None:
    """Every tenth reply to a publish is lost; each envelope is in the stream once, in order."""
    scene.serve(witness=True)
    proxy = scene.proxy()
    relay = scene.relay(url=proxy.url, publishing=publishing_mode)
    scene.send(relay=relay)
    proxy.lose_replies(publishing_calls(), every=10)
    if publishing_mode == "sync":
        keys = scene.send(500, relay=relay)
    else:
        keys = []
        while proxy.cuts < 10:
            keys += scene.send(scene.random.randrange(1, 200), relay=relay)
            time.sleep(0.01)
    assert proxy.cuts >= 10
    proxy.lose_none()
    assert relay.flush(30)
    assert [key for key in scene.shelf.stream_keys() if key in set(keys)] == keys
    scene.worker()
    scene.wait_settled()
    scene.take_account(duplicates=0, stream=True)


@pytest.mark.faults_quick
@pytest.mark.row(10, "replies lost after XREADGROUP")
def test_entries_whose_reply_was_lost_run_without_a_restart(scene: Scene) -> None:
    """They are pending, in nobody's hand; the worker claims them when their lease ends."""
    scene.serve(witness=True)
    proxy = scene.proxy()
    worker = scene.worker(url=proxy.url)
    proxy.lose_replies(named(b"XREADGROUP"), every=4)
    with scene.load(50):
        while proxy.cuts < 6:
            time.sleep(0.05)
        proxy.lose_none()
        healed_at = time.monotonic()
        before = scene.ledger.published()
        recovered_at = scene.wait_finished(before)
        scene.throughput_returns(healed_at)
    scene.wait_settled()
    assert not worker.ended
    scene.take_account(duplicates=0, stream=True)
    assert worker.said("took over")
    scene.recovered(healed_at, recovered_at, within_s=3 * LEASE_S + 5)


HOLE_S = 60.0
BLOCK_S = 5.0
READY_AGE_S = 15.0


@pytest.mark.row(7, "black hole between worker and Redis, 60 s")
def test_a_worker_behind_a_black_hole_heals_alone(scene: Scene) -> None:
    """Its reads are dropped and its readiness fails; a peer takes over; it comes back by itself."""
    scene.serve(witness=True)
    proxy = scene.proxy()
    file = scene.folder / "health"
    cut_off = scene.worker("--health-file", str(file), url=proxy.url, name="cut-off")
    peer = scene.worker(name="peer")
    plan = {HANDLER: {"sleep_s": 0.02}}
    with scene.load(50, plan=plan):
        time.sleep(2.0)
        assert ready(file)
        proxy.black_hole()
        began_at = time.monotonic()
        in_hand = len(scene.shelf.pending(f":{cut_off.pid}:"))
        cut_off.wait_for("the broker fails while", BLOCK_S + 10)
        noticed_at = time.monotonic()
        wait_until(lambda: not ready(file), READY_AGE_S + 10, "the end of its readiness")
        in_hand += len(scene.shelf.pending(f":{cut_off.pid}:"))
        time.sleep(max(0.0, HOLE_S - (time.monotonic() - began_at)))
        # The peer has handled all of it, the lost one's share too.
        scene.wait_finished(scene.ledger.published())
        proxy.heal()
        healed_at = time.monotonic()
        wait_until(lambda: ready(file), 30, "its readiness")

        def works_again() -> list[float]:
            ends = scene.ledger.of(FINISHED)
            return [line.at for line in ends if line.pid == cut_off.pid and line.at > healed_at]

        recovered_at = wait_until(works_again, 30, "its next handler")[0]
        scene.throughput_returns(healed_at)
    scene.wait_settled()
    assert not cut_off.ended
    assert not peer.ended
    assert noticed_at - began_at <= BLOCK_S + 5 + 1
    scene.take_account(duplicates=in_hand, stream=True)
    scene.recovered(healed_at, recovered_at, within_s=3 * LEASE_S + 5)


PUBLISH_TIMEOUT_S = 0.25
SENDS, FIRST = 10_000, 10


def percentile_99(took_s: list[float]) -> float:
    """Return the 99th percentile."""
    return sorted(took_s)[int(len(took_s) * 0.99)]


def plain_commits(folder: Path, count: int) -> list[float]:
    """Return how long SQLite takes for one row and its fsync: no spool can be quicker."""
    took_s = []
    with closing(sqlite3.connect(folder / "plain.sqlite3", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE rows (encoded BLOB)")
        for _ in range(count):
            began_at = time.monotonic()
            connection.execute("INSERT INTO rows VALUES (?)", (bytes(300),))
            took_s.append(time.monotonic() - began_at)
    return took_s


@pytest.mark.row(8, "black hole between publisher and Redis")
@pytest.mark.parametrize("fault", ["black hole", "no server"])
@pytest.mark.parametrize("publishing", ["sync", "background"])
def test_a_sender_without_its_broker_is_not_held_up(
    scene: Scene, fault: str, publishing: str
) -> None:
    """``send`` keeps its deadline; what was sent is spooled, and arrives in order."""
    scene.serve("--appendonly", "yes", "--appendfsync", "always", witness=True)
    proxy = scene.proxy()
    relay = scene.relay(url=proxy.url, publishing=publishing)
    keys = scene.send(100, relay=relay)
    assert relay.flush(30)
    if fault == "black hole":
        proxy.black_hole()
    else:
        scene.server.kill()
    took_s: list[float] = []
    for number in range(SENDS):
        began_at = time.monotonic()
        assert relay.relay(SIGNAL, "sender", {"item": f"held-{number}"})
        took_s.append(time.monotonic() - began_at)
        scene.ledger.note(PUBLISHED, f"held-{number}")
        keys.append(f"held-{number}")
    wait_until(lambda: relay.counts()["queued"] == 0, what="all in the spool")
    assert relay.counts()["spooled"] == SENDS
    assert relay.counts()["dropped"] == 0
    # The first ones find out; each keeps within its deadline.
    first, later = sorted(took_s[:FIRST]), sorted(took_s[FIRST:])
    p99_s, disk_s = percentile_99(later), percentile_99(plain_commits(scene.folder, 1000))
    scene.figures.notes.append(
        f"{fault}, {publishing}: first {FIRST} sends within {first[-1] * 1000:.0f} ms, "
        f"p99 of the other {len(later)} {p99_s * 1000:.2f} ms, longest {later[-1] * 1000:.0f} ms; "
        f"p99 of a plain commit on this disk {disk_s * 1000:.2f} ms"
    )
    assert not scene.timed or first[-1] <= PUBLISH_TIMEOUT_S
    assert not scene.timed or p99_s <= 0.002
    if fault == "black hole":
        proxy.heal()
    else:
        scene.server.start()
    healed_at = time.monotonic()
    keys += scene.send(100, relay=relay)
    assert relay.flush(60)
    flushed_at = time.monotonic()
    assert scene.shelf.stream_keys() == keys
    scene.worker()
    scene.wait_settled()
    scene.take_account(duplicates=0, stream=True)
    scene.recovered(healed_at, flushed_at, within_s=3 * LEASE_S + 5)


@pytest.mark.row(11, "latency 50 ± 50 ms; 1 KB/s")
@pytest.mark.parametrize("way", ["latency", "1 KB/s"])
def test_a_slow_way_costs_time_and_nothing_else(scene: Scene, way: str) -> None:
    """No lease expires, nothing is lost, and nothing runs twice."""
    scene.serve(witness=True)
    proxy = scene.proxy()
    workers = [scene.worker(url=proxy.url), scene.worker(url=proxy.url)]
    relay = scene.relay(url=proxy.url)
    plan = {HANDLER: {"sleep_s": 1.5 * LEASE_S}}
    if way == "latency":
        # Large batches of quick ones, and all slots taken by slow ones meanwhile.
        proxy.slow_down(delay_s=0.05, jitter_s=0.05)
        keys = scene.send(16, plan=plan, relay=relay)
        with scene.load(200, relay=relay):
            time.sleep(10.0)
    else:
        # So that they know how long a handler takes, and read no more than four at once: a batch
        # whose transfer takes longer than the lease is another worker's before it has arrived.
        scene.wait_finished(scene.send(8, plan={HANDLER: {"sleep_s": 0.2}}, relay=relay))
        proxy.slow_down(bytes_per_s=1000)
        keys = scene.send(16, plan=plan, relay=relay)
    scene.wait_finished([*keys, *scene.ledger.published()], 120)
    scene.wait_settled(120)
    proxy.slow_down()
    starts = [(line.key, line.attempt) for line in scene.ledger.of(STARTED)]
    assert len(set(starts)) == len(starts)
    for worker in workers:
        assert not worker.said("took over|belong to another worker|change nothing")
    scene.take_account(duplicates=0, stream=True)


def ready(file: Path) -> bool:
    """Tell whether the worker's readiness probe succeeds."""
    return health.main([str(file), "--max-age", f"{READY_AGE_S:g}"]) == 0
