"""A rolling deploy: old and new workers at the same time, of the handlers and of the relay."""

from __future__ import annotations

import time

import pytest
from faults.support.account import take_account
from faults.support.ledger import FINISHED, STARTED
from faults.support.names import HANDLER
from faults.support.scene import Scene
from faults.support.versions import older_version
from support.waiting import wait_until

pytestmark = [pytest.mark.broker, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

OLD = {"old": {"max_attempts": 8, "backoff_base_s": 0.2, "backoff_max_s": 1.0}}
NEW = {**OLD, "new": {"max_attempts": 8, "backoff_base_s": 0.2, "backoff_max_s": 1.0}}


NAME = "rolling deploy, old and new together"


@pytest.mark.row(21, NAME)
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


COUNT = 600


@pytest.mark.row(21, NAME)
def test_two_versions_of_the_relay_share_the_work(
    scene: Scene, pytestconfig: pytest.Config
) -> None:
    """Senders and workers of both run together; each takes over, and retries, what the other had.

    ``--faults-old REV`` names the old version; without it, it is the one before the last change.
    """
    revision: str | None = pytestconfig.getoption("faults_old")
    older = older_version(scene.folder / "older", revision)
    server = scene.serve(witness=True)
    in_hand = 0
    workers = {
        name: [scene.worker(name=name, environment=environment) for _ in range(2)]
        for name, environment in (("old", older), ("new", {}))
    }
    senders = [
        scene.python("faults.support.sending", server.url, name, str(COUNT), name=name, **given)
        for name, given in (("sender-old", older), ("sender-new", {}))
    ]
    with scene.load(60, plan={HANDLER: {"sleep_s": 0.05, "fail": 1}}):
        # One of each version is killed: whoever comes first takes over, of whichever version.
        for name in ("old", "new"):
            time.sleep(2.0)
            victim = workers[name].pop()
            victim.kill()
            in_hand += scene.shelf.in_hand(f":{victim.pid}:")
        pids = {worker.pid for rest in workers.values() for worker in rest}
        wait_until(
            lambda: pids <= {line.pid for line in scene.ledger.of(FINISHED)},
            what="the work of both versions",
        )
        # And the deploy: the last old one drains, a new one comes.
        (old,) = workers["old"]
        scene.worker(name="new")
        old.end()
        assert old.wait() == 0, old.tail()
    for sender in senders:
        assert sender.wait() == 0, sender.tail()
    scene.wait_settled(120)
    account = scene.take_account(duplicates=in_hand, stream=True)
    assert not account.dead
    attempts = scene.ledger.of(STARTED)
    by_old = {line.key for line in attempts if line.pid == old.pid and line.attempt == 1}
    assert by_old & {line.key for line in attempts if line.pid != old.pid and line.attempt == 2}
