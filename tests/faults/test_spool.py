"""Faults of the spool: a disk that fails, a torn file, senders that are killed."""

from __future__ import annotations

import errno
import json
import re
import signal
import time

import pytest
from faults.support.disk import Disk
from faults.support.names import NAMESPACE
from faults.support.processes import Process
from faults.support.scene import Scene
from support.waiting import wait_until

from lback_relay.spool import Spool

pytestmark = [pytest.mark.broker, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

AOF = ("--appendonly", "yes", "--appendfsync", "always")
KILLS = 12


def sender(scene: Scene, name: str, *, url: str | None = None, **environment: str) -> Process:
    """Start a sender that waits until each of its envelopes is safe."""
    arguments = (url or scene.server.url, name)
    return scene.python("faults.support.spooling", *arguments, name=name, **environment)


def drain(scene: Scene, url: str | None = None) -> str:
    """Send what is left in the spool by the command for it. Returns what it said."""
    command = ("spool", "drain", "--url", url or scene.server.url)
    process = scene.python(
        "lback_relay.cli", *command, name="drain", LBACK_RELAY_NAMESPACE=NAMESPACE
    )
    assert process.wait() == 0, process.tail()
    return process.tail()


def wait_sent(scene: Scene, web: Process, name: str, count: int) -> None:
    """Wait until a sender has handed over so many more envelopes."""
    enough = count + len(sent_by(scene, name))

    def sent() -> bool:
        assert not web.ended, web.tail()
        return len(sent_by(scene, name)) >= enough

    wait_until(sent, 60, f"{count} more of {name}")


def sent_by(scene: Scene, name: str) -> list[str]:
    """Return the keys that a sender knows to be safe."""
    return [key for key in scene.ledger.published() if key.startswith(f"{name}-")]


def spools(scene: Scene) -> list[Spool]:
    """Return access to the spools of the row."""
    return [Spool(path) for path in (scene.folder / "state" / "lback-relay").glob("*.spool")]


def spooled(scene: Scene) -> int:
    """Return how many envelopes are in the spools."""
    found = 0
    for spool in spools(scene):
        found += sum(each.envelopes for each in spool.waiting())
        spool.close()
    return found


def holds_order(scene: Scene, *names: str) -> None:
    """Hold that each sender's envelopes are in the stream once, in order, without a gap."""
    keys = [str(key) for key in scene.shelf.stream_keys()]
    for name in names:
        numbers = [int(key.rpartition("-")[2]) for key in keys if key.startswith(f"{name}-")]
        assert numbers == list(range(len(numbers))), f"the order of {name}"
        # The one that was under way when its sender was killed may have arrived or not.
        assert len(sent_by(scene, name)) <= len(numbers) <= len(sent_by(scene, name)) + 1


def settle(scene: Scene) -> None:
    """Handle all of it, and hold the invariants."""
    scene.worker()
    scene.wait_settled()
    scene.take_account(duplicates=0, stream=True)


@pytest.mark.faults_quick
@pytest.mark.row(13, "spool's disk full, read-only, torn record")
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_spool_whose_disk_fails_is_said_and_survived(scene: Scene, number: int) -> None:
    """Sending goes on from memory, what was spooled stays, and all arrives once, in order."""
    server = scene.serve(*AOF, witness=True)
    disk = Disk(scene.folder)
    server.kill()
    web = sender(scene, "web", FAULTS_PER_S="200", **disk.environment)
    wait_sent(scene, web, "web", 100)
    kept = len(sent_by(scene, "web"))
    disk.fail(number)
    wait_sent(scene, web, "web", 100)
    said = web.wait_for("Signals stay in memory")
    assert re.search(r"spool .*\.spool (is full|can't be used)", said)
    assert spooled(scene) >= kept
    disk.heal()
    healed_at = time.monotonic()
    kept = len(sent_by(scene, "web"))
    wait_until(lambda: spooled(scene) > kept, what="the spool's next row")
    scene.recovered(healed_at, time.monotonic(), within_s=5.0)
    server.start()
    wait_until(lambda: not spooled(scene), what="the empty spool")
    assert not web.ended
    web.send(signal.SIGTERM)
    assert web.wait() == 0, web.tail()
    counts = json.loads(web.wait_for("counts").partition(" ")[2])
    assert counts["spool_failed"] > 0
    assert counts["dropped"] == 0
    assert counts["queued"] == 0
    holds_order(scene, "web")
    settle(scene)


@pytest.mark.faults_quick
@pytest.mark.row(13, "spool's disk full, read-only, torn record")
@pytest.mark.parametrize("torn", ["cut off", "garbled"])
def test_a_torn_record_spoils_no_other(scene: Scene, torn: str) -> None:
    """A write that a power failure has cut short is no record; all before it are sent."""
    server = scene.serve(*AOF, witness=True)
    server.kill()
    web = sender(scene, "web")
    wait_sent(scene, web, "web", 300)
    web.kill()
    (log,) = (scene.folder / "state" / "lback-relay").glob("*.spool-wal")
    frame = 24 + 4096
    content = log.read_bytes()
    assert len(content) > 32 + frame
    last = content[32 + (len(content) - 32) // frame * frame - frame :][:frame]
    with log.open("ab") as file:
        file.write(last[: frame // 2] if torn == "cut off" else bytes(reversed(last)))
    server.start()
    wait_until(server.answers, what="the server")
    drain(scene)
    assert spooled(scene) == 0
    holds_order(scene, "web")
    settle(scene)


@pytest.mark.faults_quick
@pytest.mark.row(14, "kill -9 of the publisher while spooling or draining")
def test_senders_killed_over_their_spool_lose_and_double_nothing(scene: Scene) -> None:
    """Each next one sends what the killed ones have left, under the same numbers."""
    server = scene.serve(*AOF, witness=True)
    url = scene.proxy().url
    names = [f"web{number}" for number in range(KILLS)]
    for number, name in enumerate(names):
        server.kill()
        web = sender(scene, name, url=url)
        wait_sent(scene, web, name, scene.random.randrange(1, 600))
        if number % 3:  # while it drains, or soon after
            server.start()
            time.sleep(scene.random.uniform(0.0, 0.4))
        web.kill()
        if not number % 3:
            server.start()
    left = spooled(scene)
    assert (f"sent {left}" if left else "nothing waits") in drain(scene, url)
    assert spooled(scene) == 0
    scene.figures.notes.append(f"{KILLS} senders killed, {left} envelopes left by the last ones")
    holds_order(scene, *names)
    settle(scene)
