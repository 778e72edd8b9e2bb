"""A rolling deploy: workers with the old and the new handlers at the same time."""

from __future__ import annotations

import time

import pytest
from faults.support.account import take_account
from faults.support.ledger import STARTED
from faults.support.scene import Scene

pytestmark = [pytest.mark.broker, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

OLD = {"old": {"max_attempts": 8, "backoff_base_s": 0.2, "backoff_max_s": 1.0}}
NEW = {**OLD, "new": {"max_attempts": 8, "backoff_base_s": 0.2, "backoff_max_s": 1.0}}


@pytest.mark.row(21, "rolling deploy, old and new handlers together")
def test_a_rolling_deploy_loses_nothing(scene: Scene) -> None:
    """Each handler ends for what its worker took; a retry waits for a worker that has its handler.

    A worker without a handler does not run it: what old workers take has the old handlers alone.
    """
    scene.handlers = OLD
    scene.serve(witness=True)
    workers = [scene.worker(name="old") for _ in range(3)]
    with scene.load(60, plan={"old": {"sleep_s": 0.02}, "new": {"fail": 1}}):
        scene.handlers = NEW
        for old in workers:
            time.sleep(2.0)
            scene.worker(name="new")
            old.end()
            assert old.wait() == 0
        time.sleep(2.0)
    scene.wait_settled(120)
    begun = {line.key for line in scene.ledger.of(STARTED, handler="new")}
    ended = {key for key, handler in scene.ledger.finished() if handler == "new"}
    assert begun
    assert begun == ended
    scene.handlers = OLD
    account = scene.take_account(duplicates=0, stream=True)
    assert not account.dead
    scene.figures.finished = len(scene.ledger.finished())
    assert not take_account(scene.ledger, scene.shelf, ("old",)).unsettled
