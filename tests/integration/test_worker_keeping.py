"""What a running worker does for its group and its fellow groups beside handling."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from support.brokers import raw_client
from support.waiting import wait_until
from support.workers import GROUP, SIGNAL, StartWorker, publish, settled, start_worker

from lback_relay.broker import Broker
from lback_relay.broker.keys import Keys
from lback_relay.remote import RemoteDispatcher

__all__ = ["start_worker"]

pytestmark = pytest.mark.broker

WEEK_MS = 7 * 86_400_000


class _Stage:
    """What a test looks at: the broker, a plain client, the names, and what was handled."""

    def __init__(self, broker: Broker, url: str, namespace: str) -> None:
        self.broker = broker
        self.client: Any = raw_client(url)
        self.keys = Keys(namespace)
        self.stream = self.keys.events(SIGNAL)
        self.handled: list[int] = []
        self.dispatcher = RemoteDispatcher()
        self.dispatcher.connect(SIGNAL, self._handle, name="noting")

    def _handle(self, sender: object, number: int) -> None:
        self.handled.append(number)

    def consumers(self) -> set[str]:
        """Return the names of the group's consumers."""
        return {info["name"].decode() for info in self.client.xinfo_consumers(self.stream, GROUP)}


@pytest.fixture
def stage(broker: Broker, redis_url: str, namespace: str) -> Iterator[_Stage]:
    """Yield what the test looks at."""
    stage = _Stage(broker, redis_url, namespace)
    yield stage
    stage.client.close()


def test_a_worker_removes_the_consumers_of_dead_ones_soon_after_its_start(
    stage: _Stage, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they had in hand is handled; the worker itself stays, or comes back."""
    monkeypatch.setattr("lback_signal_worker.keeper.REAP_FIRST_S", 0.1)
    monkeypatch.setattr("lback_signal_worker.config.LEASES_UNTIL_REAPED", 0.1)
    stage.broker.ensure_groups([SIGNAL], GROUP)
    publish(stage.broker, [{"number": 1}])
    assert len(stage.broker.read([SIGNAL], GROUP, "crashed", count=1, block_s=0)) == 1
    stage.client.xgroup_createconsumer(stage.stream, GROUP, "gone")
    worker = start_worker(stage.dispatcher, lease_s=1)
    wait_until(lambda: stage.consumers() <= {worker.consumer_name}, what="the removal")
    wait_until(lambda: stage.handled == [1], what="what the crashed one had in hand")
    publish(stage.broker, [{"number": 2}])
    wait_until(lambda: stage.handled == [1, 2], what="the work that goes on")
    wait_until(lambda: settled(stage.broker), what="the settlement")


def test_a_worker_trims_what_only_an_absent_group_has_not_settled(
    stage: _Stage,
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It warns; and it keeps everything for a group that was seen within the limit."""
    monkeypatch.setattr("lback_signal_worker.keeper.TRIM_EVERY_S", 0.1)
    caplog.set_level(logging.WARNING)
    stage.broker.ensure_groups([SIGNAL], "away")
    publish(stage.broker, [{"number": number} for number in range(20)])
    start_worker(stage.dispatcher)
    wait_until(lambda: settled(stage.broker), what="the settlements")
    seen = stage.keys.seen(SIGNAL)
    wait_until(lambda: stage.client.zscore(seen, "away"), what="a look at the groups")
    assert stage.client.xlen(stage.stream) == 20
    stage.client.zincrby(seen, -WEEK_MS, "away")
    wait_until(lambda: not stage.client.xlen(stage.stream), what="the trimming")
    wait_until(
        lambda: "20 entries of user_registered that it had not settled are dropped" in caplog.text,
        what="the warning",
    )
    assert "group away has not been seen for 7.0 days" in caplog.text
