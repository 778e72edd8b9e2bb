"""Faults of the way between: cut, silent, slow, and replies that are lost."""

from __future__ import annotations

import time

import pytest
from faults.support.proxy import Matches, named, script
from faults.support.scene import LEASE_S, Scene

from lback_relay.broker.scripts import PUBLISH, in_full

pytestmark = [pytest.mark.broker, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]


def publishing() -> Matches:
    """Return what matches the calls that publish."""
    command = PUBLISH.command("stream", "producer")
    return script(command[1].encode(), in_full(command)[1].encode())


@pytest.mark.faults_quick
@pytest.mark.row(9, "replies lost after XADD")
@pytest.mark.parametrize("publishing_mode", ["sync", "background"])
def test_a_lost_reply_doubles_no_envelope(scene: Scene, publishing_mode: str) -> None:
    """Every tenth reply to a publish is lost; each envelope is in the stream once, in order."""
    scene.serve(witness=True)
    proxy = scene.proxy()
    relay = scene.relay(url=proxy.url, publishing=publishing_mode)
    scene.send(relay=relay)
    proxy.lose_replies(publishing(), every=10)
    if publishing_mode == "sync":
        keys = scene.send(500, relay=relay)
    else:
        keys = []
        while proxy.cuts < 10:
            keys += scene.send(scene.random.randrange(1, 200), relay=relay)
            time.sleep(0.01)
    assert proxy.cuts >= 10
    proxy.lose_none()
    assert relay.flush(30)
    assert [key for key in scene.shelf.stream_keys() if key in set(keys)] == keys
    scene.worker()
    scene.wait_settled()
    scene.take_account(duplicates=0, stream=True)


@pytest.mark.faults_quick
@pytest.mark.row(10, "replies lost after XREADGROUP")
def test_entries_whose_reply_was_lost_run_without_a_restart(scene: Scene) -> None:
    """They are pending, in nobody's hand; the worker claims them when their lease ends."""
    scene.serve(witness=True)
    proxy = scene.proxy()
    worker = scene.worker(url=proxy.url)
    proxy.lose_replies(named(b"XREADGROUP"), every=4)
    with scene.load(50):
        while proxy.cuts < 6:
            time.sleep(0.05)
        proxy.lose_none()
        healed_at = time.monotonic()
        before = scene.ledger.published()
        recovered_at = scene.wait_finished(before)
    scene.wait_settled()
    assert not worker.ended
    scene.take_account(duplicates=0, stream=True)
    assert worker.said("took over")
    scene.recovered(healed_at, recovered_at, within_s=3 * LEASE_S + 5)
