"""SIGTERM under load: what a worker does with what it has in hand."""

from __future__ import annotations

import signal
import time

import pytest
from faults.support.ledger import STARTED
from faults.support.names import HANDLER, LEASE_S
from faults.support.scene import Scene
from support.waiting import wait_until

pytestmark = [pytest.mark.broker, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

NAME = "SIGTERM at 80 % load, twice, ignored"
DRAIN_S = 4.0
DRAIN = ("--drain-timeout-s", f"{DRAIN_S:g}", "--stop-grace-s", f"{DRAIN_S + 1:g}")


@pytest.mark.row(20, NAME)
def test_a_drained_worker_gives_back_and_doubles_nothing(scene: Scene) -> None:
    """It reads nothing more, gives back at once what has not begun, and exits with 0."""
    scene.serve(witness=True)
    worker = scene.worker(*DRAIN, name="drained")
    peer = scene.worker(name="peer")
    # Two workers of four slots handle 8 / 0.1 s; four fifths of that come.
    with scene.load(64, plan={HANDLER: {"sleep_s": 0.1}}):
        time.sleep(3.0)
        worker.send(signal.SIGTERM)
        stopped_at = time.monotonic()
        wait_until(
            lambda: len(scene.shelf.pending(f":{worker.pid}:")) <= 4, 10, "the entries' return"
        )
        given_back_at = time.monotonic()
        assert worker.wait(DRAIN_S + 1) == 0
        ended_at = time.monotonic()
        time.sleep(1.0)
        before = scene.ledger.published()
        recovered_at = scene.wait_finished(before)
    scene.wait_settled()
    assert given_back_at - stopped_at <= 1.0
    assert ended_at - stopped_at <= DRAIN_S + 1
    late = [line for line in scene.ledger.of(STARTED) if line.pid == worker.pid]
    assert max(line.at for line in late) <= stopped_at + 0.5
    assert not scene.shelf.pending()
    assert not peer.ended
    scene.take_account(duplicates=0, stream=True)
    scene.recovered(ended_at, recovered_at, within_s=3 * LEASE_S + 5)


@pytest.mark.row(20, NAME)
@pytest.mark.parametrize("times", [1, 2])
def test_a_handler_that_ignores_the_drain_is_left_to_another_worker(
    scene: Scene, times: int
) -> None:
    """The worker ends with 5: when the drain's time is up, or at once at a second SIGTERM."""
    scene.serve()
    worker = scene.worker(*DRAIN, name="ignored")
    (key,) = scene.send(plan={HANDLER: {"sleep_s": 2 * DRAIN_S}})
    wait_until(lambda: scene.ledger.of(STARTED, key=key), what="the handler's start")
    peer = scene.worker(name="peer")
    worker.send(signal.SIGTERM)
    stopped_at = time.monotonic()
    worker.wait_for("SIGTERM: finishing")
    if times == 2:
        worker.send(signal.SIGTERM)
    assert worker.wait() == 5
    ended_at = time.monotonic()
    assert ended_at - stopped_at <= (DRAIN_S + 2 if times == 1 else 2.0)
    wait_until(lambda: len(scene.ledger.of(STARTED, key=key)) == 2, what="the second start")
    taken_over_at = scene.ledger.of(STARTED, key=key)[1].at
    scene.wait_settled()
    assert [line.pid for line in scene.ledger.of(STARTED, key=key)] == [worker.pid, peer.pid]
    scene.take_account(duplicates=0)
    scene.recovered(ended_at, taken_over_at, within_s=2 * LEASE_S + 1)
