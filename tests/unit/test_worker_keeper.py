"""The worker's timers: promoting, trimming, reaping, the heartbeat."""

from __future__ import annotations

import logging
import threading

import pytest
from support.waiting import wait_until
from support.worker_parts import SIGNAL, FakeBroker, as_broker, half

from lback_relay.errors import BrokerError, BrokerUnavailable
from lback_signal_worker.config import WorkerConfig
from lback_signal_worker.keeper import Keeper
from lback_signal_worker.link import Link


@pytest.fixture
def broker() -> FakeBroker:
    """Return a broker of the test's own."""
    return FakeBroker()


def a_keeper(broker: FakeBroker, *signals: str) -> Keeper:
    """Return a keeper of these signals."""
    config = WorkerConfig(group="g")
    return Keeper(as_broker(broker), signals, config, "w", figures=dict, link=Link(), random=half)


def test_a_retry_is_promoted_when_it_is_due(broker: FakeBroker) -> None:
    """Without waiting for the next look; a later one changes nothing."""
    keeper = a_keeper(broker, SIGNAL)
    thread = threading.Thread(target=keeper.run)
    thread.start()
    wait_until(lambda: broker.of("promote"), what="the first look")
    keeper.retry_in(3600)
    keeper.retry_in(0.01)
    wait_until(lambda: len(broker.of("promote")) == 2, what="the look for the retry")
    keeper.stop()
    thread.join(60)
    assert broker.of("heartbeat") == [30.0]


def test_a_keeper_looks_for_dead_consumers_soon_and_trims_for_its_group(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And then not for some leases; the log says what was removed."""
    monkeypatch.setattr("lback_signal_worker.keeper.REAP_FIRST_S", 0.0)
    monkeypatch.setattr("lback_signal_worker.keeper.TRIM_EVERY_S", 0.0)
    keeper = a_keeper(broker, SIGNAL)
    with caplog.at_level(logging.INFO):
        keeper.turn()
        keeper.turn()
    assert broker.of("reap") == [("g", 600.0)]
    assert broker.of("trim") == [("g", 604_800.0)] * 2
    assert "removed 2 consumers of workers that are gone" in caplog.text


def test_what_a_keeper_could_not_do_is_named(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A right that the user lacks holds up nothing else, and is not asked for again at once."""
    monkeypatch.setattr("lback_signal_worker.keeper.REAP_FIRST_S", 0.0)
    broker.fails["reap"] = [BrokerError("forbidden"), BrokerError("forbidden")]
    broker.next_due_s = 0.0
    keeper = a_keeper(broker, SIGNAL)
    thread = threading.Thread(target=keeper.run)
    thread.start()
    wait_until(lambda: len(broker.of("promote")) >= 3, what="what goes on")
    keeper.stop()
    thread.join(60)
    assert len(broker.of("reap")) == 1
    assert "while looking for consumers that are gone, trying again: forbidden" in caplog.text


def test_what_is_refused_does_not_hold_up_trimming(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its maxmemory a broker refuses retries and heartbeats; trimming is what makes room."""
    monkeypatch.setattr("lback_signal_worker.keeper.TRIM_EVERY_S", 0.0)
    monkeypatch.setattr("lback_signal_worker.keeper.REAP_FIRST_S", 0.0)
    for refused in ("promote", "heartbeat"):
        broker.fails[refused] = [BrokerError(f"OOM: {refused}")]
    keeper = a_keeper(broker, SIGNAL)
    with pytest.raises(BrokerError, match="OOM: promote"):
        keeper.turn()
    assert [name for name, _ in broker.calls] == ["promote", "heartbeat", "trim", "reap"]


def test_a_timer_that_fails_does_not_end_the_clockwork(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for the broker's reasons and not for ours."""
    monkeypatch.setattr("lback_signal_worker.keeper.TRIM_EVERY_S", 0.0)
    broker.next_due_s = 0.0
    broker.fails["promote"] = [BrokerUnavailable("away")]
    broker.fails["heartbeat"] = [ValueError("odd")]
    keeper = a_keeper(broker, SIGNAL)
    thread = threading.Thread(target=keeper.run)
    thread.start()
    wait_until(lambda: len(broker.of("trim")) >= 2, what="what comes after both")
    keeper.stop()
    thread.join(60)
    assert not thread.is_alive()


def test_a_worker_for_broadcasts_alone_only_beats(broker: FakeBroker) -> None:
    """There are no streams to look after."""
    keeper = a_keeper(broker)
    thread = threading.Thread(target=keeper.run)
    thread.start()
    wait_until(lambda: broker.of("heartbeat"), what="the heartbeat")
    keeper.stop()
    thread.join(60)
    assert {name for name, _ in broker.calls} == {"heartbeat"}
