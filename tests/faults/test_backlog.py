"""A backlog of a million."""

from __future__ import annotations

import re
import statistics
import time
from pathlib import Path

import pytest
from faults.support.names import GROUP, NAMESPACE, SIGNAL
from faults.support.scene import Scene
from support.runs import an_envelope
from support.waiting import wait_until

from lback_relay.broker import connect
from lback_relay.codec import encode
from lback_relay.relay import Relay

pytestmark = [pytest.mark.broker, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

BACKLOG = 1_000_000


@pytest.mark.row(23, "backlog of a million")
@pytest.mark.timeout(600)
def test_a_backlog_costs_neither_sender_nor_worker(scene: Scene) -> None:
    """The worker's memory does not depend on it, and ``send`` takes as long as before."""
    server = scene.serve()
    relay = scene.relay(publishing="sync")
    scene.send(100, relay=relay)
    empty_s = median_send_s(scene, relay)
    broker = connect(server.url, namespace=NAMESPACE, timeout_s=30.0)
    encoded = encode(an_envelope(SIGNAL, {"item": "one of a million", "quiet": True}))
    batch = 500
    for first in range(1, BACKLOG + 1, batch):
        broker.publish(
            SIGNAL,
            [encoded] * batch,
            producer_id="bulk",
            first_sequence=first,
            queue=True,
            broadcast=False,
        )
    assert median_send_s(scene, relay) <= 2 * empty_s + 0.0002
    waiting = broker.backlog(SIGNAL, GROUP)["waiting"]
    assert waiting >= BACKLOG
    worker = scene.worker()
    largest = 0

    def drained() -> bool:
        nonlocal largest
        largest = max(largest, memory_mib(worker.pid))
        return scene.finished(scene.ledger.published()[-1:])

    wait_until(drained, 300, "the end of the backlog")
    broker.close()
    scene.wait_settled()
    assert largest <= MAX_MEMORY_MIB
    scene.take_account(duplicates=0)


MAX_MEMORY_MIB = 100


def median_send_s(scene: Scene, relay: Relay) -> float:
    """Return how long one send takes."""
    took = []
    for _ in range(500):
        began_at = time.monotonic()
        scene.send(relay=relay)
        took.append(time.monotonic() - began_at)
    return statistics.median(took)


def memory_mib(pid: int) -> int:
    """Return how much memory a process has in use."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) // 1024 if found else 0
