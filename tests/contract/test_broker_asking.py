"""What every broker promises about a question whose answer is waited for later."""

from __future__ import annotations

import pytest
from support.brokers import SERVERS, TestedBroker
from support.deliveries import GROUP, SIGNAL, bodies, publish, read
from support.waiting import wait_until

from lback_relay.errors import BrokerUnavailable


def test_the_answer_is_what_a_read_brings(tested: TestedBroker) -> None:
    """Other calls may come between, which don't read."""
    tested.broker.ensure_groups([SIGNAL], GROUP)
    publish(tested.broker, b"1", b"2", b"3")
    answer = tested.broker.ask([SIGNAL], GROUP, "a", count=2)
    tested.broker.ping()
    publish(tested.broker, b"4", first=4)
    assert bodies(answer()) == [b"1", b"2"]
    assert bodies(read(tested.broker)) == [b"3", b"4"]
    assert tested.broker.ask([SIGNAL], GROUP, "a", count=2)() == []


def test_a_group_that_is_lost_is_made_again_with_the_answer(tested: TestedBroker) -> None:
    """At 0, as by a read."""
    tested.broker.ensure_groups([SIGNAL], GROUP)
    publish(tested.broker, b"1")
    tested.client.xgroup_destroy(tested.keys.events(SIGNAL), GROUP)
    assert tested.broker.ask([SIGNAL], GROUP, "a", count=2)() == []
    assert bodies(tested.broker.ask([SIGNAL], GROUP, "a", count=2)()) == [b"1"]


@pytest.mark.parametrize("tested", SERVERS, indirect=True)  # an imitation answers when asked to
def test_entries_are_handed_out_before_anybody_waits_for_them(tested: TestedBroker) -> None:
    """That is what asking ahead is for."""
    tested.broker.ensure_groups([SIGNAL], GROUP)
    publish(tested.broker, b"1", b"2")
    answer = tested.broker.ask([SIGNAL], GROUP, "a", count=2)
    events = tested.keys.events(SIGNAL)
    wait_until(lambda: tested.client.xpending(events, GROUP)["pending"] == 2, what="both")
    assert bodies(answer()) == [b"1", b"2"]


@pytest.mark.parametrize("tested", SERVERS, indirect=True)
def test_an_answer_that_is_lost_is_said_and_the_next_read_works(tested: TestedBroker) -> None:
    """Its entries stay pending."""
    tested.broker.ensure_groups([SIGNAL], GROUP)
    publish(tested.broker, b"1", b"2", b"3")
    answer = tested.broker.ask([SIGNAL], GROUP, "a", count=2)
    events = tested.keys.events(SIGNAL)
    wait_until(lambda: tested.client.xpending(events, GROUP)["pending"] == 2, what="both")
    tested.broker.close()
    with pytest.raises(BrokerUnavailable):
        answer()
    assert bodies(read(tested.broker)) == [b"3"]
    assert tested.client.xpending(events, GROUP)["pending"] == 3
