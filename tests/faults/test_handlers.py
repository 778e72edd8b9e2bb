"""Faults of handlers: failing, killing their process; and envelopes that can't be read."""

from __future__ import annotations

import threading
import time
from collections import Counter
from itertools import pairwise

import pytest
from faults.support.ledger import FINISHED, STARTED, Line
from faults.support.names import HANDLER, LEASE_S
from faults.support.processes import Process
from faults.support.scene import Scene
from support.waiting import wait_until

pytestmark = [pytest.mark.broker, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

LATE_S = 2.0
"""How much later than drawn a retry may begin on a busy machine."""


@pytest.mark.faults_quick
@pytest.mark.row(15, "handler always raises")
def test_a_handler_that_always_fails_gets_its_attempts_and_no_more(scene: Scene) -> None:
    """It becomes a dead letter with all it needs; its neighbours are unharmed."""
    attempts, base_s, max_s = 4, 0.5, 1.0
    scene.handlers = {
        "fails": {"max_attempts": attempts, "backoff_base_s": base_s, "backoff_max_s": max_s},
        "works": {},
    }
    scene.serve()
    scene.worker()
    neighbours = scene.send(100)
    bad = scene.send(5, plan={"fails": {"fail": 99}})
    neighbours += scene.send(100)
    scene.wait_settled()
    for key in bad:
        starts = scene.ledger.of(STARTED, key=key, handler="fails")
        assert [line.attempt for line in starts] == list(range(1, attempts + 1))
        for attempt, (line, following) in enumerate(pairwise(starts), 1):
            most_s = min(base_s * 2 ** (attempt - 1), max_s) + LATE_S
            assert not scene.timed or following.at - line.at <= most_s
    finished = scene.ledger.finished()
    assert Counter(starts_of(scene)) == {
        **{(key, "works"): 1 for key in [*neighbours, *bad]},
        **{(key, "fails"): 1 for key in neighbours},
        **{(key, "fails"): attempts for key in bad},
    }
    assert all(finished[key, "fails"] == finished[key, "works"] == 1 for key in neighbours)
    letters = [letter for _, letter in scene.shelf.dead_letters()]
    assert {(letter.handler, letter.reason, letter.attempts) for letter in letters} == {
        ("fails", "attempts", attempts)
    }
    assert all(letter.error.startswith("PlannedFailure: ") for letter in letters)
    assert all("in behave" in letter.traceback for letter in letters)
    account = scene.take_account(duplicates=0)
    assert account.dead == {(key, "fails") for key in bad}


@pytest.mark.faults_quick
@pytest.mark.row(17, "the second of three handlers fails twice")
def test_a_failed_handler_is_retried_without_its_neighbours(scene: Scene) -> None:
    """The three handlers start 1, 3 and 1 times."""
    quick = {"backoff_base_s": 0.2, "backoff_max_s": 0.4}
    scene.handlers = {"one": quick, "two": quick, "three": quick}
    scene.serve()
    scene.worker()
    scene.worker()
    keys = scene.send(100, plan={"two": {"fail": 2}})
    scene.wait_settled()
    starts = Counter(starts_of(scene))
    for key in keys:
        assert [starts[key, name] for name in scene.handlers] == [1, 3, 1]
    assert not scene.take_account(duplicates=0).dead


class Supervisor:
    """Starts a worker again whenever it has died; counts the deaths."""

    def __init__(self, scene: Scene) -> None:
        self.deaths = 0
        self.in_hand = 0
        self._scene = scene
        self._stopped = threading.Event()
        self._worker = scene.worker()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def __enter__(self) -> Supervisor:  # noqa: PYI034 - Self came with Python 3.11
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(0.05):
            if self._worker.ended:
                self.deaths += 1
                self.in_hand += len(self._scene.shelf.pending(f":{self._worker.pid}:"))
                self._worker = self._restart()

    def _restart(self) -> Process:
        return self._scene.worker()


@pytest.mark.row(16, "handlers kill the process")
def test_a_handler_that_kills_its_worker_is_the_only_one_to_pay(scene: Scene) -> None:
    """The killers become dead letters after three deaths each; all that they took along runs."""
    scene.serve()
    with Supervisor(scene) as supervisor:
        # Quick ones first, so that the worker takes hundreds at once.
        scene.wait_finished(scene.send(500))
        neighbours = scene.send(200)
        killers = scene.send(plan={HANDLER: {"exit": True}})
        neighbours += scene.send(200)
        killers += scene.send(plan={HANDLER: {"segfault": True}})
        neighbours += scene.send(200)
        sent_at = time.monotonic()
        wait_until(lambda: len(scene.shelf.dead_letters()) == 2, 120, "the dead letters")
        scene.wait_finished(neighbours, 120)
        more = scene.send(100)
        scene.wait_finished(more)
    scene.wait_settled()
    account = scene.take_account(duplicates=supervisor.in_hand)
    assert account.dead == {(key, HANDLER) for key in killers}
    assert {letter.reason for _, letter in scene.shelf.dead_letters()} == {"crashed"}
    assert 3 <= supervisor.deaths <= 6
    ends = [line.at for line in scene.ledger.of(FINISHED) if line.key in set(neighbours)]
    # Each death costs a lease until its entries are claimed.
    scene.recovered(sent_at, max(ends), within_s=supervisor.deaths * (2 * LEASE_S + 1) + 10)


def starts_of(scene: Scene) -> list[tuple[str, str]]:
    """Return (key, handler) of every start."""

    def pair(line: Line) -> tuple[str, str]:
        return line.key, line.handler

    return [pair(line) for line in scene.ledger.of(STARTED)]
