"""Faults of the server: killed, emptied, full."""

from __future__ import annotations

import time

import pytest
import redis
from faults.support.ledger import FINISHED, STARTED
from faults.support.names import GROUP, HANDLER, LEASE_S, SIGNAL
from faults.support.scene import Scene
from support.waiting import wait_until

pytestmark = [pytest.mark.broker, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

KILLS = 8
AOF = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.mark.faults_quick
@pytest.mark.row(5, "kill -9 Redis under load (AOF always)")
def test_a_killed_redis_loses_and_doubles_nothing(scene: Scene) -> None:
    """Senders and workers go on by themselves; each envelope is in the stream once."""
    server = scene.serve(*AOF, witness=True)
    workers = [scene.worker(), scene.worker()]
    in_hand = 0
    with scene.load(200, plan={HANDLER: {"sleep_s": 0.005}}):
        for _ in range(KILLS):
            time.sleep(scene.random.uniform(0.5, 2.0))
            server.kill()
            server.start()
            in_hand += len(scene.shelf.pending())
        restarted_at = time.monotonic()
        before = scene.ledger.published()
        recovered_at = scene.wait_finished(before)
        scene.throughput_returns(restarted_at)
    scene.wait_settled()
    assert not any(worker.ended for worker in workers)
    scene.take_account(duplicates=in_hand, stream=True)
    # The senders' pause of up to a second, and a lease for what a lost reply had handed out.
    scene.recovered(restarted_at, recovered_at, within_s=3 * LEASE_S + 5)


HUNG_S = 10.0


@pytest.mark.row(5, "kill -9 Redis under load (AOF always)")
def test_a_supervisor_replaces_nobody_while_redis_is_away(scene: Scene) -> None:
    """Workers that wait for the broker are not hung, however long; each goes on by itself."""
    server = scene.serve(*AOF, witness=True)
    supervisor = scene.worker("--processes", "2", "--hung-s", f"{HUNG_S:g}")
    wait_until(lambda: len(supervisor.said("started: group")) >= 2, what="two children")
    children = set(supervisor.children())
    with scene.load(100, plan={HANDLER: {"sleep_s": 0.005}}):
        wait_until(lambda: children <= workers_since(scene, 0.0), what="the work of both")
        in_hand = scene.shelf.in_hand()
        server.kill()
        time.sleep(1.5 * HUNG_S)
        server.start()
        back_at = time.monotonic()
        in_hand += scene.shelf.in_hand()
        wait_until(lambda: children <= workers_since(scene, back_at), what="the work of both")
        scene.throughput_returns(back_at)
    scene.wait_settled()
    assert set(supervisor.children()) == children
    assert not supervisor.said("no progress|starting another")
    scene.take_account(duplicates=in_hand, stream=True)


def workers_since(scene: Scene, since: float) -> set[int]:
    """Return the pids of workers whose handlers have ended since then."""
    return {line.pid for line in scene.ledger.of(FINISHED) if line.at > since}


@pytest.mark.faults_quick
@pytest.mark.row(6, "Redis empty, stream or group gone")
@pytest.mark.parametrize("what", ["restart", "stream", "group"])
def test_a_lost_group_is_made_again(scene: Scene, what: str) -> None:
    """Within 5 s, by few calls; what comes afterwards, or meanwhile, is handled."""
    server = scene.serve()
    worker = scene.worker()
    scene.wait_finished(scene.send(50))
    scene.wait_settled()
    events = scene.keys.events(SIGNAL)
    meanwhile: list[str] = []
    if what == "restart":
        server.kill()
        meanwhile = scene.send(50)
        time.sleep(2.0)
        server.start()
    elif what == "stream":
        server.client.delete(events)
    else:
        server.client.xgroup_destroy(events, GROUP)
    gone_at = time.monotonic()
    server.client.config_resetstat()

    def group_is_there() -> bool:
        try:
            groups = server.client.xinfo_groups(events)
        except redis.ResponseError:
            return False
        return GROUP.encode() in [group["name"] for group in groups]

    wait_until(group_is_there, 5.0 if scene.timed else 60.0, "the group")
    made_at = time.monotonic()
    time.sleep(5.0)
    stats = server.client.info("commandstats")
    calls = sum(
        stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]
        for name in ("xreadgroup", "xgroup|create", "xgroup")
    )
    assert calls < 5 * (time.monotonic() - gone_at)
    scene.wait_finished([*meanwhile, *scene.send(50)])
    scene.wait_settled()
    # A group that is made again begins at the stream's beginning: what is there runs once more.
    scene.take_account(duplicates=50 if what == "group" else 0)
    assert len(worker.said("is made again")) <= 5
    assert not worker.ended
    scene.recovered(gone_at, made_at, within_s=5.0)


BALLAST = 32 * 1_048_576


@pytest.mark.faults_quick
@pytest.mark.row(12, "maxmemory reached")
def test_a_full_redis_keeps_what_cannot_be_parked(scene: Scene) -> None:
    """Senders spool what it refuses, workers go on, and all heals when there is room again."""
    server = scene.serve("--maxmemory", "100mb", "--maxmemory-policy", "noeviction", witness=True)
    worker = scene.worker()
    # Another program's data fills the server; what is there already can be handled.
    waits = scene.send(40, plan={HANDLER: {"sleep_s": 0.1}})
    fails = scene.send(8, plan={HANDLER: {"sleep_s": 0.1, "fail": 1}})
    assert scene.relay().flush()
    server.client.set("ballast", bytes(BALLAST))
    server.client.config_set("maxmemory", str(BALLAST))
    refused = scene.send(500)
    scene.wait_finished(waits)
    wait_until(
        lambda: len(scene.ledger.of(STARTED, handler=HANDLER)) == len(waits) + len(fails),
        what="the first attempts",
    )
    wait_until(lambda: scene.relay().counts()["failed"], what="a refusal")
    wait_until(lambda: worker.said("maxmemory"), what="the worker's warning")
    wait_until(lambda: len(scene.shelf.pending()) == len(fails), what="the unparkable entries")
    time.sleep(2 * LEASE_S)
    # Still this worker's, under a lease that is renewed: none of them has run again.
    assert set(scene.shelf.pending(f":{worker.pid}:").values()) == {1}
    assert len(scene.shelf.pending(f":{worker.pid}:")) == len(fails)
    assert len(scene.ledger.of(STARTED)) == len(waits) + len(fails)
    counts = scene.relay().counts()
    assert counts["queued"] + counts["spooled"] == len(refused)
    assert counts["spooled"] > 0
    assert counts["dropped"] == 0
    server.client.delete("ballast")
    healed_at = time.monotonic()
    recovered_at = scene.wait_finished([*refused, *fails])
    scene.wait_settled()
    scene.take_account(duplicates=0, stream=True)
    assert not worker.ended
    scene.recovered(healed_at, recovered_at, within_s=3 * LEASE_S + 5)
