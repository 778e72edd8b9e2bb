"""Consumers that come and go: a thousand workers that crashed, or read once and vanished."""

from __future__ import annotations

import time

import pytest
from faults.support.scene import GROUP, HANDLER, LEASE_S, NAMESPACE, SIGNAL, Scene
from support.waiting import wait_until

from lback_relay.broker import connect

pytestmark = [pytest.mark.broker, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

CONSUMERS = 1000
REAP_AFTER_S = 10 * LEASE_S
REAP_EVERY_S = REAP_AFTER_S / 2 * 1.25


@pytest.mark.row(22, "1,000 consumers coming and going")
def test_a_thousand_dead_consumers_are_removed_and_nothing_pending_is(scene: Scene) -> None:
    """Those that died with an entry in hand too, once it is claimed; live workers work on."""
    scene.serve(witness=True)
    client, keys = scene.server.client, scene.keys
    streams = [keys.events(SIGNAL), keys.redo(SIGNAL, GROUP)]
    survivor, victim = scene.worker(name="survivor"), scene.worker(name="victim")
    broker = connect(scene.server.url, namespace=NAMESPACE, timeout_s=30.0)
    crashed_with_entry = in_hand = 0

    def consumers(stream: str) -> set[str]:
        return {info["name"].decode() for info in client.xinfo_consumers(stream, GROUP)}

    with scene.load(200, plan={HANDLER: {"sleep_s": 0.005}}):
        for number in range(CONSUMERS):
            name = f"gone:{number}:x"
            for stream in streams:
                client.xgroup_createconsumer(stream, GROUP, name)
            if scene.random.random() < 0.3:
                taken = broker.read([SIGNAL], GROUP, name, count=1, block_s=0.05)
                if scene.random.random() < 0.5:
                    broker.give_back(taken, GROUP, name)
                else:
                    crashed_with_entry += len(taken)
            if number == CONSUMERS // 2:
                victim.kill()
                in_hand = len(scene.shelf.pending(f":{victim.pid}:"))
        vanished_at = time.monotonic()
    assert crashed_with_entry > 0

    def dead() -> list[str]:
        return [
            name
            for stream in streams
            for name in consumers(stream)
            if name.startswith("gone:") or f":{victim.pid}:" in name
        ]

    scene.wait_settled()
    wait_until(lambda: not dead(), 180, "the removal of all dead consumers")
    reaped_at = time.monotonic()
    scene.send(50)
    scene.wait_settled()
    broker.close()
    assert not survivor.ended
    scene.take_account(duplicates=in_hand, stream=True)
    scene.recovered(vanished_at, reaped_at, within_s=REAP_AFTER_S + 2 * REAP_EVERY_S + 10)
