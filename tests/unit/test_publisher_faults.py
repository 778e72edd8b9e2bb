"""Exactly once and in order under random faults of the broker; the seed is in the test's name."""

from __future__ import annotations

import logging
import random
import threading
from pathlib import Path

import pytest
from support.recording_broker import RecordingBroker, connecting
from support.waiting import wait_until

from lback_relay.circuit import Circuit, Known
from lback_relay.config import SignalConfig
from lback_relay.errors import BacklogFull, BrokerError, BrokerUnavailable, NumbersSpent, SpoolError
from lback_relay.lane import Lane
from lback_relay.publisher import Publisher
from lback_relay.sending import Sending
from lback_relay.spool import Spool
from lback_relay.throttle import Throttle, ThrottledLog

SIGNALS = [SignalConfig(name=name) for name in ("a", "b", "c")]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("background", [True, False])
def test_random_faults_double_lose_and_reorder_nothing(
    seed: int, background: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls lost before they were applied, replies lost afterwards, refusals; three threads."""
    monkeypatch.setattr("lback_relay.circuit.WAIT_FOR_ANSWER", lambda state: 0.0005)
    monkeypatch.setattr("lback_relay.lane.WAIT_FOR_ROOM", lambda state: 0.001)
    chance = random.Random(seed)
    broker = RecordingBroker()
    faults = [BrokerUnavailable("cut"), BrokerError("no"), BacklogFull("full"), OSError("odd")]

    def before(_call: int, _signal: str) -> None:
        if chance.random() < 0.3:
            spent = NumbersSpent("no stream")
            raise chance.choice([*faults, spent] if broker.fresh[-1] else faults)

    def after(_call: int, _signal: str) -> None:
        if chance.random() < 0.3:
            raise BrokerUnavailable("the reply was cut off")

    broker.before, broker.after = before, after
    publisher = Publisher(connecting(broker), background=background, flush_timeout_s=60.0)
    count = 400

    def send(sender: int) -> None:
        own = random.Random(seed * 10 + sender)
        for number in range(count):
            publisher.publish(own.choice(SIGNALS), f"{sender} {number}".encode())

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=100)
    wait_until(lambda: publisher.counts()["queued"] == 0, 100, "an empty queue")
    publisher.close()

    everything = [envelope for stream in broker.streams.values() for envelope in stream]
    assert len(everything) == 3 * count, "lost or doubled"
    assert len(set(everything)) == 3 * count
    for stream in broker.streams.values():
        for sender in range(3):
            numbers = [int(e.split()[1]) for e in stream if e.startswith(b"%d " % sender)]
            assert numbers == sorted(numbers)
    assert publisher.counts()["published"] == 3 * count
    assert publisher.counts()["failed"] > 0


@pytest.mark.parametrize("failing", ["before", "after"])
@pytest.mark.parametrize(
    "error", [BrokerUnavailable("cut"), BrokerError("no"), KeyboardInterrupt()], ids=repr
)
def test_a_number_is_fresh_until_it_is_tried(
    failing: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However that ends: the broker may have heard it."""
    monkeypatch.setattr("lback_relay.circuit.WAIT_FOR_ANSWER", lambda state: 0.0005)
    monkeypatch.setattr("lback_relay.lane.WAIT_FOR_ROOM", lambda state: 0.001)
    broker = RecordingBroker()
    publisher = Publisher(connecting(broker), background=False, publish_timeout_s=60.0)

    def fail(call: int, _signal: str) -> None:
        if call == 2:
            raise error

    setattr(broker, failing, fail)
    for number in range(3):
        try:
            publisher.publish(SIGNALS[0], b"%d" % number)
        except KeyboardInterrupt:
            assert isinstance(error, KeyboardInterrupt)
        wait_until(lambda: publisher.counts()["queued"] == 0, what="an empty queue")
    publisher.close()
    assert broker.fresh == [True, True, False, True]
    assert broker.streams["a"] == [b"0", b"1", b"2"]


def test_numbers_that_are_spent_are_given_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The envelope goes out as another producer's, by the careful way."""
    monkeypatch.setattr("lback_relay.lane.WAIT_FOR_ROOM", lambda state: 0.001)
    broker = RecordingBroker()
    publisher = Publisher(connecting(broker))

    def spend(call: int, _signal: str) -> None:
        if call == 1:
            raise NumbersSpent("no stream")

    broker.before = spend
    publisher.publish(SIGNALS[0], b"1")
    wait_until(lambda: broker.streams["a"], what="the envelope")
    assert publisher.flush(60.0)
    publisher.publish(SIGNALS[0], b"2")
    publisher.close()
    assert broker.streams["a"] == [b"1", b"2"]
    assert broker.fresh == [True, False, True]
    producers = [producer_id for _, _, _, producer_id in broker.calls]
    assert producers[1] == producers[2] != producers[0]


def test_a_number_that_a_spool_was_given_is_not_fresh(tmp_path: Path) -> None:
    """Although the spool says that it has not written it: it may have."""

    class Failing(Spool):
        def append(self, *_: object, **__: object) -> None:
            raise SpoolError("no room")

    broker = RecordingBroker()
    sending = Sending(
        connecting(broker),
        wake=lambda: None,
        log=ThrottledLog(logging.getLogger(__name__)),
        spool=Failing(tmp_path / "a.spool"),
    )
    sending.circuit.unanswered(0.0)
    assert sending.circuit.known is Known.DOWN
    sending.inbox.append((SIGNALS[0], b"1", None))
    sending.round()
    assert sending.spool_failed == 1
    assert broker.calls == []
    sending.retry_now()
    sending.circuit.answered()
    sending.round()
    assert broker.streams["a"] == [b"1"]
    assert broker.fresh == [False]


def test_the_circuit_gives_a_lost_connection_one_more_call() -> None:
    """Only the next failure counts as an outage; an answer ends it."""
    circuit = Circuit()
    circuit.answered()
    circuit.unanswered(now_s=10.0)
    assert (circuit.known, circuit.retry_at) == (Known.UNKNOWN, 0.0)
    circuit.unanswered(now_s=10.0)
    assert circuit.known is Known.DOWN
    assert 10.0 < circuit.retry_at <= 10.5
    for _ in range(50):
        circuit.unanswered(now_s=100.0)
    assert 100.0 < circuit.retry_at <= 101.0
    circuit.answered()
    assert circuit.known.value == "up"


def test_a_broker_that_never_answered_is_down_at_once() -> None:
    """There is no connection that might merely have been cut."""
    circuit = Circuit()
    circuit.unanswered(now_s=0.0)
    assert circuit.known is Known.DOWN


def test_a_lane_keeps_its_numbers_however_batches_are_cut() -> None:
    """After a call without an answer smaller batches begin at the same number."""
    lane = Lane()
    lane.entries.extend((SIGNALS[0], b"x", None) for _ in range(600))
    assert (lane.first_sequence, lane.end_sequence, len(lane.batch())) == (1, 601, 512)
    for _ in range(3):
        lane.unanswered()
    assert (lane.first_sequence, len(lane.batch())) == (1, 64)
    lane.accepted(64)
    assert (lane.first_sequence, lane.end_sequence, len(lane.batch())) == (65, 601, 128)
    for _ in range(20):
        lane.unanswered()
    assert len(lane.batch()) == 1


def test_the_throttle_lets_one_through_and_counts_the_rest() -> None:
    """The count says how many were held back."""
    throttle = Throttle(interval_s=1.0)
    assert [throttle.admit(now) for now in (5.0, 5.1, 5.9, 6.0, 6.5, 8.0)] == [
        0,
        None,
        None,
        2,
        None,
        1,
    ]
