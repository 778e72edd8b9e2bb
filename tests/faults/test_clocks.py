"""Clocks that are off by an hour."""

from __future__ import annotations

import pytest
from faults.support.clocks import shifted_clock
from faults.support.ledger import STARTED
from faults.support.names import HANDLER, LEASE_S
from faults.support.scene import Scene

pytestmark = [pytest.mark.broker, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

HOUR_S = 3600


@pytest.mark.faults_quick
@pytest.mark.row(19, "clocks off by an hour")
def test_clocks_decide_nothing(scene: Scene) -> None:
    """Leases and retries keep their times, and each sender's envelopes their order."""
    scene.handlers = {HANDLER: {"max_attempts": 4, "backoff_base_s": 0.5, "backoff_max_s": 1.0}}
    server = scene.serve(witness=True)
    ahead = shifted_clock(scene.folder, HOUR_S)
    behind = shifted_clock(scene.folder, -HOUR_S)
    senders = [
        scene.python("faults.support.sending", server.url, name, "200", name=name, **environment)
        for name, environment in (("ahead", ahead), ("behind", behind), ("right", {}))
    ]
    for sender in senders:
        assert sender.wait() == 0, sender.tail()
    one_by_one = scene.worker("--concurrency", "1", name="one-by-one", environment=ahead)
    scene.wait_settled()
    begun = [line.key for line in scene.ledger.of(STARTED)]
    for name in ("ahead", "behind", "right"):
        keys = [key for key in begun if key.startswith(name)]
        assert keys == [f"{name}-{number}" for number in range(200)]
    one_by_one.end()
    for environment in (ahead, behind, {}):
        scene.worker(environment=environment)
    slow = scene.send(9, plan={HANDLER: {"sleep_s": 2.5 * LEASE_S}})
    failing = scene.send(30, plan={HANDLER: {"fail": 2}})
    scene.wait_settled()
    for key in slow:
        assert len(scene.ledger.of(STARTED, key=key)) == 1
    for key in failing:
        starts = scene.ledger.of(STARTED, key=key)
        assert [line.attempt for line in starts] == [1, 2, 3]
        # An hour's error would show; what the slow handlers take before them does not.
        assert starts[-1].at - starts[0].at < 8 * LEASE_S
    scene.take_account(duplicates=0, stream=True)
