"""Faults of sending processes: forks, threads, transactions that do not commit."""

from __future__ import annotations

import re
import sqlite3
import statistics
import time
from contextlib import closing
from pathlib import Path

import pytest
from faults.support.processes import Process
from faults.support.scene import GROUP, NAMESPACE, SIGNAL, Scene
from support.runs import an_envelope
from support.waiting import wait_until

from lback_relay.broker import connect
from lback_relay.codec import encode
from lback_relay.relay import Relay

pytestmark = [pytest.mark.broker, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

CHILDREN, THREADS, COUNT = 4, 16, 50


@pytest.mark.faults_quick
@pytest.mark.row(26, "fork after the client exists; thread storms")
@pytest.mark.parametrize("publishing", ["sync", "background"])
def test_forks_and_threads_share_no_socket(scene: Scene, publishing: str) -> None:
    """Each process has a connection of its own; each thread's envelopes arrive once, in order."""
    scene.serve(witness=True)
    sender = scene.python(
        "faults.support.forking",
        *(scene.server.url, str(CHILDREN), str(THREADS), str(COUNT)),
        name="forking",
        FAULTS_PUBLISHING=publishing,
        PYTHONWARNINGS="ignore::DeprecationWarning",  # Python's own, about any fork
    )
    assert sender.wait(120) == 0, sender.tail()
    assert not sender.said("(?i)error|protocol|traceback|warning")
    arrived: dict[str, list[str]] = {}
    for key in scene.shelf.stream_keys():
        assert key is not None
        arrived.setdefault(key.rpartition("-")[0], []).append(key)
    assert len(arrived) == 1 + (CHILDREN + 1) * THREADS
    for name, keys in arrived.items():
        assert keys == [f"{name}-{number}" for number in range(10 if "before" in name else COUNT)]
    scene.worker()
    scene.wait_settled()
    scene.take_account(duplicates=0, stream=True)


KILLS = 6


@pytest.mark.faults_quick
@pytest.mark.row(24, "rollback; crash before commit (on_commit)")
def test_only_what_was_committed_is_sent(scene: Scene) -> None:
    """Rolled back or never committed: not sent, and a kill at any moment changes nothing of that.

    What was committed an instant before a kill may be missing: that takes an outbox.
    """
    server = scene.serve(witness=True)
    database = scene.folder / "app.db"

    def run(name: str, count: int, ledger: str) -> Process:
        return scene.python(
            "faults.support.committing",
            *(server.url, str(database), name, str(count), str(scene.random.random())),
            name=name,
            FAULTS_LEDGER=ledger,
        )

    whole = run("whole", 300, str(scene.ledger.path))
    assert whole.wait() == 0, whole.tail()
    for number in range(KILLS):
        sender = run(f"killed{number}", 100_000, str(scene.folder / f"killed{number}.jsonl"))
        wait_for_content(scene.folder / f"killed{number}.jsonl")
        time.sleep(scene.random.uniform(0.0, 0.5))
        sender.kill()
    with closing(sqlite3.connect(database)) as connection:
        committed = {key for (key,) in connection.execute("SELECT key FROM items")}
    sent = scene.shelf.stream_keys()
    assert {key for key in committed if key.startswith("whole")} <= set(sent)
    assert set(sent) <= committed
    assert any(str(key).startswith("killed") for key in sent)
    scene.worker()
    scene.wait_settled()
    assert {key for key, _ in scene.ledger.finished()} == set(sent)
    scene.take_account(duplicates=0, stream=True)


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


def wait_for_content(path: Path) -> None:
    """Wait until something is in a file."""
    wait_until(lambda: path.exists() and path.stat().st_size, what=f"something in {path.name}")


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
