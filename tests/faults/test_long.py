"""The long runs: 100,000 envelopes in a storm of kills, and a broker that is often away.

``make faults-long`` runs them. They show by large numbers what rows 1, 2, 5 and 6 show by small
ones.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from faults.support.ledger import FINISHED
from faults.support.names import HANDLER
from faults.support.processes import Process
from faults.support.scene import Scene
from support.waiting import wait_until

pytestmark = [pytest.mark.broker, pytest.mark.faults_long, pytest.mark.slow]

AOF = ("--appendonly", "yes", "--appendfsync", "always")
ENVELOPES, PER_S, WORKERS, REDIS_KILLS = 100_000, 700, 4, 10


class Crew:
    """Workers of which one is killed now and then, and replaced without waiting for the new one."""

    def __init__(self, scene: Scene, size: int) -> None:
        self.in_hand = 0
        self.kills = 0
        self._scene = scene
        self._lock = threading.Lock()
        self._starting = ThreadPoolExecutor(size)
        self._workers: list[Process] = []
        for start in [self._starting.submit(self._start) for _ in range(size)]:
            start.result()

    def kill_one(self) -> None:
        """Kill one of those that run, and note what it had in hand."""
        with self._lock:
            if not self._workers:
                return
            victim = self._workers.pop(self._scene.random.randrange(len(self._workers)))
        victim.kill()
        self.kills += 1
        self.in_hand += self._scene.shelf.in_hand(f":{victim.pid}:")
        self._starting.submit(self._start)

    def wait(self) -> None:
        """Wait until all that were to start have started."""
        self._starting.shutdown(wait=True)

    def _start(self) -> None:
        worker = self._scene.worker()
        with self._lock:
            self._workers.append(worker)


@pytest.mark.row(5, "100,000 envelopes, a worker killed each second, Redis ten times")
@pytest.mark.timeout(1200)
def test_a_storm_of_kills_loses_and_doubles_nothing(scene: Scene) -> None:
    """Nothing is lost or doubled in the stream; handlers run twice only for what was in hand."""
    server = scene.serve(*AOF, witness=True)
    crew = Crew(scene, WORKERS)
    in_hand_of_redis = 0
    redis_kills = 0
    began_at = time.monotonic()
    with scene.load(PER_S, at_most=ENVELOPES):
        number = 0
        while (published := len(scene.ledger.published())) < ENVELOPES:
            number += 1
            time.sleep(max(0.0, began_at + number - time.monotonic()))
            crew.kill_one()
            if published >= (redis_kills + 1) * ENVELOPES // (REDIS_KILLS + 1):
                in_hand_of_redis += scene.shelf.in_hand()
                server.kill()
                server.start()
                in_hand_of_redis += scene.shelf.in_hand()
                redis_kills += 1
    crew.wait()
    scene.wait_settled(180)
    settled_at = time.monotonic()
    account = scene.take_account(duplicates=crew.in_hand + in_hand_of_redis, stream=True)
    reasons = Counter(letter.reason for _, letter in scene.shelf.dead_letters())
    scene.figures.notes.append(
        f"{crew.kills} workers and {redis_kills} Redis killed in {settled_at - began_at:.0f} s; in "
        f"hand then {crew.in_hand} and {in_hand_of_redis}; dead letters {dict(reasons)}"
    )
    assert account.published == ENVELOPES
    assert redis_kills == REDIS_KILLS
    # Who was in hand at three deaths is put aside, whoever caused them: that is promised, too.
    assert set(reasons) <= {"crashed"}


@pytest.mark.row(6, "Redis comes and goes")
@pytest.mark.timeout(3600)
def test_workers_outlive_a_broker_that_comes_and_goes(
    scene: Scene, pytestconfig: pytest.Config
) -> None:
    """After minutes of it each worker still consumes, and none of them was started anew."""
    minutes: float = pytestconfig.getoption("faults_minutes")
    server = scene.serve(*AOF, witness=True)
    worker = scene.worker()
    supervisor = scene.worker("--processes", "2", "--hung-s", "10", name="supervised")
    children = wait_until(lambda: two_of(supervisor), what="two children")
    outages, away_s, in_hand = 0, 0.0, 0
    ends_at = time.monotonic() + minutes * 60
    with scene.load(100, plan={HANDLER: {"sleep_s": 0.005}}):
        while time.monotonic() < ends_at:
            time.sleep(scene.random.uniform(0.5, 8.0))
            for_s = scene.random.choice([0.0, 1.0, 5.0, 20.0]) + scene.random.random()
            in_hand += scene.shelf.in_hand()
            if scene.random.random() < 0.7:
                server.kill()
                time.sleep(for_s)
                server.start()
            else:
                server.pause()
                time.sleep(for_s)
                server.resume()
            in_hand += scene.shelf.in_hand()
            outages += 1
            away_s += for_s
            assert not worker.ended
            assert not supervisor.ended
        back_at = time.monotonic()

        def all_work() -> bool:
            ends = {line.pid for line in scene.ledger.of(FINISHED) if line.at > back_at}
            return ends >= {worker.pid, *children}

        wait_until(all_work, 60, "the work of every worker")
        recovered_at = time.monotonic()
        scene.throughput_returns(back_at)
    scene.wait_settled(180)
    assert two_of(supervisor) == children
    scene.figures.notes.append(
        f"{outages} outages, {away_s:.0f} s of {minutes * 60:.0f} s away; {in_hand} in hand then"
    )
    scene.take_account(duplicates=in_hand, stream=True)
    scene.recovered(back_at, recovered_at, within_s=60)


def two_of(supervisor: Process) -> set[int]:
    """Return the pids of its two children, nothing if there are not two."""
    children = set(supervisor.children())
    return children if len(children) == 2 else set()
