"""Leases: what is renewed when, and what is lost."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from time import monotonic

import pytest
from support.waiting import wait_until
from support.worker_parts import SIGNAL, FakeBroker, a_hand, a_run, as_broker, half, some_handlers

from lback_relay.broker.base import Delivery
from lback_relay.errors import BrokerUnavailable
from lback_signal_worker.config import WorkerConfig
from lback_signal_worker.in_hand import InHand
from lback_signal_worker.leases import Leases
from lback_signal_worker.link import Link


@pytest.fixture
def broker() -> FakeBroker:
    """Return a broker of the test's own."""
    return FakeBroker()


def some_leases(broker: FakeBroker, hand: InHand) -> Leases:
    """Return leases of three seconds."""
    config = WorkerConfig(lease_s=3)
    return Leases(as_broker(broker), config, "c", hand=hand, link=Link(), random=half)


def test_only_entries_that_are_old_enough_are_renewed(broker: FakeBroker) -> None:
    """The younger ones have two thirds left at the next tick; broadcasts have no lease."""
    hand = a_hand()
    now = monotonic()
    old, young, heard = a_run(1, taken_at=now - 1), a_run(2, taken_at=now), a_run(3)
    heard.delivery = None
    hand.add(SIGNAL, [old, young, heard])
    leases = some_leases(broker, hand)
    leases.renew(now)
    assert broker.of("renew") == [[old.delivery]]
    assert old.taken_at == now
    leases.renew(now + 0.5)
    assert len(broker.of("renew")) == 1


def test_what_another_worker_has_is_marked_as_lost(
    broker: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """And not asked for again."""
    hand = a_hand()
    now = monotonic()
    gone, kept = (a_run(n, taken_at=now - 1, handlers=some_handlers()) for n in (1, 2))
    hand.add(SIGNAL, [gone, kept])
    assert gone.delivery is not None
    broker.lost = [gone.delivery]
    leases = some_leases(broker, hand)
    leases.renew(now)
    assert (gone.lost, kept.lost) == (True, False)
    assert "belong to another worker now" in caplog.text


def test_what_was_given_back_during_a_renewal_is_not_said_to_be_taken(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker says that it is lost; it is in hand no more, and no lease was over."""
    hand = a_hand()
    now = monotonic()
    run = a_run(taken_at=now - 1, handlers=some_handlers())
    hand.add(SIGNAL, [run])

    def renew(deliveries: Sequence[Delivery], *_: str) -> list[Delivery]:
        hand.finish([run])
        hand.release([run])
        return list(deliveries)

    monkeypatch.setattr(broker, "renew", renew)
    some_leases(broker, hand).renew(now)
    assert run.lost
    assert "belong to another worker" not in caplog.text


def test_a_renewal_that_fails_is_tried_again_soon(broker: FakeBroker) -> None:
    """Whatever the failure is."""
    hand = a_hand()
    hand.add(SIGNAL, [a_run(1, taken_at=monotonic() - 9)])
    broker.fails["renew"] = [BrokerUnavailable("away"), ValueError("odd")]
    config = WorkerConfig(lease_s=1)
    leases = Leases(as_broker(broker), config, "c", hand=hand, link=Link(), random=half)
    thread = threading.Thread(target=leases.run)
    thread.start()
    wait_until(lambda: len(broker.of("renew")) >= 3, what="the third try")
    leases.stop()
    thread.join(60)
    assert not thread.is_alive()
