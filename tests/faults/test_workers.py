"""Faults of workers: killed, stopped, slow, ended."""

from __future__ import annotations

import os
import signal
import time

import pytest
from faults.support.ledger import FINISHED, STARTED
from faults.support.names import HANDLER, LEASE_S
from faults.support.processes import Process
from faults.support.scene import Scene
from support.waiting import wait_until

pytestmark = [pytest.mark.broker, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

KILLS = 6


@pytest.mark.faults_quick
@pytest.mark.row(1, "kill -9 of workers mid-handler")
def test_killed_workers_lose_nothing(scene: Scene) -> None:
    """What killed workers had in hand is run by others; at most that runs twice."""
    scene.serve(witness=True)
    workers = [scene.worker(), scene.worker()]
    in_hand = 0
    with scene.load(150, plan={HANDLER: {"sleep_s": 0.02}}):
        for _ in range(KILLS):
            time.sleep(scene.random.uniform(0.5, 1.5))
            victim = workers.pop(scene.random.randrange(len(workers)))
            victim.kill()
            killed_at = time.monotonic()
            in_hand += len(scene.shelf.pending(f":{victim.pid}:"))
            workers.append(scene.worker())
        before = scene.ledger.published()
        scene.throughput_returns(killed_at)
    scene.wait_settled()
    account = scene.take_account(duplicates=in_hand, stream=True)
    assert in_hand > 0
    left = [key for key in before if (key, HANDLER) not in account.dead]
    last_claimed = max(
        (line.at for line in scene.ledger.of(FINISHED) if line.key in set(left)), default=killed_at
    )
    scene.recovered(killed_at, last_claimed, within_s=2 * LEASE_S + 1)


@pytest.mark.row(2, "kill -9 of one child of several")
def test_a_killed_child_is_replaced_at_once(scene: Scene) -> None:
    """The supervisor starts another within a second; the other children go on."""
    scene.serve(witness=True)
    supervisor = scene.worker("--processes", "3")
    wait_until(lambda: len(supervisor.said("started: group")) >= 3, what="three children")
    children = set(supervisor.children())
    assert len(children) == 3
    victims = sorted(children)  # each place once: who dies young again and again has to wait
    scene.random.shuffle(victims)
    in_hand = 0
    slowest_s = 0.0
    with scene.load(100, plan={HANDLER: {"sleep_s": 0.02}}):
        for victim in victims:
            time.sleep(scene.random.uniform(0.5, 1.5))
            os.kill(victim, signal.SIGKILL)
            killed_at = time.monotonic()
            children.discard(victim)

            children |= wait_for_child(supervisor, {*children, victim})
            slowest_s = max(slowest_s, time.monotonic() - killed_at)
            in_hand += len(scene.shelf.pending(f":{victim}:"))
            assert len(children) == 3
        # Each of the new ones works.
        wait_until(
            lambda: children <= {line.pid for line in scene.ledger.of(FINISHED)},
            what="the work of every child",
        )
        scene.throughput_returns(killed_at)
    scene.wait_settled()
    assert not supervisor.ended
    scene.take_account(duplicates=in_hand, stream=True)
    scene.recovered(0.0, slowest_s, within_s=1.0)
    supervisor.send(signal.SIGTERM)
    assert supervisor.wait() == 0


def wait_for_child(supervisor: Process, known: set[int]) -> set[int]:
    """Wait until it has a child that is not known yet."""
    return wait_until(lambda: set(supervisor.children()) - known, what="another child")


@pytest.mark.faults_quick
@pytest.mark.row(3, "SIGSTOP for 5 leases, then SIGCONT")
def test_a_stopped_worker_changes_nothing_when_it_wakes(scene: Scene) -> None:
    """Another worker runs what a stopped one had; the woken one's failure is left alone."""
    scene.serve()
    sleeper = scene.worker(name="sleeper")
    (key,) = scene.send(plan={HANDLER: {"sleep_s": 1.0, "fail_in": sleeper.pid}})
    wait_until(lambda: scene.ledger.of(STARTED, key=key), what="the handler's start")
    sleeper.send(signal.SIGSTOP)
    stopped_at = time.monotonic()
    peer = scene.worker(name="peer")
    finished_at = scene.wait_finished([key])
    time.sleep(max(0.0, 5 * LEASE_S - (time.monotonic() - stopped_at)))
    sleeper.send(signal.SIGCONT)
    sleeper.wait_for("change nothing|belong to another worker")
    wait_until(lambda: sleeper.said("change nothing"), what="the end of the woken handler")
    scene.wait_settled()
    starts = scene.ledger.of(STARTED, key=key)
    assert [(line.pid, line.attempt) for line in starts] == [(sleeper.pid, 1), (peer.pid, 1)]
    account = scene.take_account(duplicates=0)
    assert not account.dead
    scene.recovered(stopped_at, finished_at, within_s=2 * LEASE_S + 1)
    more = scene.send(60, plan={HANDLER: {"sleep_s": 0.05}})
    scene.wait_finished(more)
    assert {line.pid for line in scene.ledger.of(FINISHED) if line.key in more} == {
        sleeper.pid,
        peer.pid,
    }


@pytest.mark.row(4, "handlers of 10 leases, healthy")
def test_long_handlers_start_once(scene: Scene) -> None:
    """Their leases are renewed while they sleep, and while they keep the interpreter busy."""
    scene.serve()
    scene.worker()
    scene.worker()
    keys = scene.send(plan={HANDLER: {"sleep_s": 10 * LEASE_S}})
    keys += scene.send(plan={HANDLER: {"spin_s": 10 * LEASE_S}})
    deliveries: set[int] = set()

    def all_finished() -> bool:
        deliveries.update(scene.shelf.pending().values())
        return scene.finished(keys)

    wait_until(all_finished, 20 * LEASE_S, "the end of the long handlers")
    scene.wait_settled()
    scene.take_account(duplicates=0)
    assert len(scene.ledger.of(STARTED)) == 2
    assert deliveries == {1}
