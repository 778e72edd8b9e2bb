"""What every broker promises about dead letters: found, read, retried and dropped."""

from __future__ import annotations

import pytest
from support.brokers import SERVERS, TestedBroker, binary_of, raw_client, running_server
from support.deliveries import GROUP, SIGNAL, publish, read, read_redo

from lback_relay.broker import Broker, DeadLetter, Retry, Settlement, connect
from lback_relay.broker.base import (
    EVENTS,
    REDO,
    DeadLetterRecord,
    DeadLetterStream,
    Delivery,
)
from lback_relay.errors import BrokerError

ODD = "an:odd {name} 100% [*]?\\ größe"


def _letter(handler: str = "welcome") -> DeadLetter:
    return DeadLetter(handler=handler, reason="attempts", error="E: no", attempts=3)


def _dead(
    broker: Broker,
    *encoded: bytes,
    signal: str = SIGNAL,
    group: str = GROUP,
    handler: str = "welcome",
    first: int = 1,
) -> list[DeadLetterRecord]:
    """Make dead letters of envelopes, and return all that there are."""
    broker.ensure_groups([signal], group)
    publish(broker, *encoded, signal=signal, producer_id=f"p-{handler}", first=first)
    for taken in read(broker, signals=[signal], group=group, count=10_000):
        settlement = Settlement(delivery=taken, dead_letters=[_letter(handler)])
        assert broker.settle([settlement], group, "a") == []
    return _all(broker, signal, group)


def _all(broker: Broker, signal: str = SIGNAL, group: str = GROUP) -> list[DeadLetterRecord]:
    return broker.dead_letters(signal, group, count=10_000)


def _redone(broker: Broker) -> list[tuple[bytes | None, dict[str, int]]]:
    """Read what came back: the envelope, and the attempts made of the handlers that run."""
    taken = read(broker)
    assert {delivery.source for delivery in taken} <= {REDO}
    return [(delivery.encoded, dict(delivery.attempts)) for delivery in taken]


# looking ---------------------------------------------------------------------------------------


def test_a_letter_knows_where_it_comes_from(tested: TestedBroker) -> None:
    """Signal, group, and the entry that became it."""
    tested.broker.ensure_groups([SIGNAL], GROUP)
    publish(tested.broker, b"1")
    (taken,) = read(tested.broker)
    retry = Retry(attempts={"welcome": 1}, delay_s=0)
    tested.broker.settle([Settlement(delivery=taken, retries=[retry])], GROUP, "a")
    (again,) = read_redo(tested.broker)
    for delivery in (again, *_other(tested)):
        tested.broker.settle([Settlement(delivery=delivery, dead_letters=[_letter()])], GROUP, "a")
    of_retry, of_event = _all(tested.broker)
    assert (of_retry.signal, of_retry.group) == (SIGNAL, GROUP)
    assert (of_retry.source, of_retry.source_id) == (REDO, again.entry_id)
    assert of_event.source == EVENTS
    assert of_event.dead_at_ms <= tested.broker.now_ms()


def _other(tested: TestedBroker) -> list[Delivery]:
    publish(tested.broker, b"2", first=2)
    return read(tested.broker)


def test_streams_are_found_by_signal_and_group(tested: TestedBroker) -> None:
    """Whatever is in their names; those without letters are not."""
    broker = tested.broker
    last = {
        (signal, group): _dead(broker, b"1", b"2", signal=signal, group=group)[-1].entry_id
        for signal, group in ((SIGNAL, GROUP), (SIGNAL, ODD), (ODD, GROUP), (ODD, "*"))
    }
    emptied = _dead(broker, b"1", signal="emptied")[0]
    broker.drop_dead_letters("emptied", GROUP, [emptied.entry_id])

    def expected(*places: tuple[str, str]) -> list[DeadLetterStream]:
        return [DeadLetterStream(*place, 2, last[place]) for place in sorted(places)]

    assert broker.dead_letter_streams() == expected(*last)
    assert broker.dead_letter_streams(signal=ODD) == expected((ODD, GROUP), (ODD, "*"))
    assert broker.dead_letter_streams(group=GROUP) == expected((SIGNAL, GROUP), (ODD, GROUP))
    assert broker.dead_letter_streams(group="*") == expected((ODD, "*"))
    assert broker.dead_letter_streams(SIGNAL, ODD) == expected((SIGNAL, ODD))
    for absent in (("none", None), (None, "none"), ("none", "none"), ("emptied", GROUP)):
        assert broker.dead_letter_streams(*absent) == []


def test_keys_of_others_are_not_taken_for_dead_letters(tested: TestedBroker) -> None:
    """Nor those of a namespace whose name only begins alike."""
    ns = tested.namespace
    for key in ("{a}:dead:b:c", "{a}:dead:b%", "{a}:dead:b%3a", "{a}{b}:dead:c", "{a}:dead:\xff"):
        tested.client.xadd(f"{ns}:{key}".encode("latin-1"), {"e": "x"})
    tested.client.set(f"{ns}:{{a}}:dead:b", "no stream")
    other = connect(tested.url, namespace=f"{ns}2", timeout_s=30.0)
    _dead(other, b"1")
    other.close()
    assert tested.broker.dead_letter_streams() == []


def test_a_page_lies_between_two_ids(tested: TestedBroker) -> None:
    """After one, up to another; both may be an instant."""
    letters = _dead(tested.broker, *(b"%d" % number for number in range(5)))
    ids = [letter.entry_id for letter in letters]

    def page(**bounds: str) -> list[str]:
        found = tested.broker.dead_letters(SIGNAL, GROUP, count=10, **bounds)
        return [letter.entry_id for letter in found]

    assert page(after=ids[1]) == ids[2:]
    assert page(after=ids[1], until=ids[3]) == ids[2:4]
    assert page(after=ids[-1]) == []
    first_ms, last_ms = letters[0].dead_at_ms, letters[-1].dead_at_ms
    assert page(until=str(last_ms)) == ids
    assert page(until=str(first_ms - 1)) == []
    assert page(after=f"{first_ms - 1}-{2**64 - 1}") == ids
    assert page(after=f"{last_ms}-{2**64 - 1}") == []


def test_letters_are_found_by_id(tested: TestedBroker) -> None:
    """Those that are not there are left out."""
    first, _, third = _dead(tested.broker, b"1", b"2", b"3")
    wanted = [third.entry_id, "1-1", first.entry_id]
    assert tested.broker.find_dead_letters(SIGNAL, GROUP, wanted) == [third, first]
    assert tested.broker.find_dead_letters(SIGNAL, "others", wanted) == []
    assert tested.broker.find_dead_letters(SIGNAL, GROUP, []) == []


# retrying --------------------------------------------------------------------------------------


def test_a_retried_letter_runs_its_handler_from_the_first_attempt(tested: TestedBroker) -> None:
    """And no other one; the letter is gone."""
    first, second = _dead(tested.broker, b"\x00raw\xff", b"2")
    assert tested.broker.retry_dead_letters(SIGNAL, GROUP, [first]) == 1
    assert _redone(tested.broker) == [(b"\x00raw\xff", {"welcome": 0})]
    assert _all(tested.broker) == [second]


def test_a_letter_of_no_handler_runs_them_all(tested: TestedBroker) -> None:
    """It was not reached by any."""
    letters = _dead(tested.broker, b"1", handler="")
    tested.broker.retry_dead_letters(SIGNAL, GROUP, letters)
    assert _redone(tested.broker) == [(b"1", {})]


def test_a_second_retry_of_the_same_letters_doubles_nothing(tested: TestedBroker) -> None:
    """Two people may press the button, or a reply be lost."""
    letters = _dead(tested.broker, b"1", b"2", b"3")
    tested.broker.drop_dead_letters(SIGNAL, GROUP, [letters[1].entry_id])
    assert tested.broker.retry_dead_letters(SIGNAL, GROUP, letters) == 2
    assert tested.broker.retry_dead_letters(SIGNAL, GROUP, letters) == 0
    assert [encoded for encoded, _ in _redone(tested.broker)] == [b"1", b"3"]
    assert tested.broker.retry_dead_letters(SIGNAL, GROUP, []) == 0


def test_a_retry_waits_for_a_group_that_is_gone(tested: TestedBroker) -> None:
    """Counted meanwhile, and read from the beginning when it is back."""
    letters = _dead(tested.broker, b"1", b"2")
    tested.client.delete(tested.keys.redo(SIGNAL, GROUP))
    tested.broker.retry_dead_letters(SIGNAL, GROUP, letters[:1])
    assert tested.broker.backlog(SIGNAL, GROUP)["retrying"] == 1
    tested.client.xgroup_destroy(tested.keys.redo(SIGNAL, GROUP), GROUP)
    tested.broker.retry_dead_letters(SIGNAL, GROUP, letters[1:])
    tested.broker.ensure_groups([SIGNAL], GROUP)
    assert [encoded for encoded, _ in _redone(tested.broker)] == [b"1", b"2"]


def test_a_retried_letter_may_die_again(tested: TestedBroker) -> None:
    """It is a new letter then."""
    (letter,) = _dead(tested.broker, b"1")
    tested.broker.retry_dead_letters(SIGNAL, GROUP, [letter])
    (taken,) = read(tested.broker)
    tested.broker.settle([Settlement(delivery=taken, dead_letters=[_letter()])], GROUP, "a")
    (again,) = _all(tested.broker)
    assert (again.encoded, again.source) == (b"1", REDO)
    assert again.entry_id != letter.entry_id
    assert tested.broker.backlog(SIGNAL, GROUP) == {
        "waiting": 0,
        "pending": 0,
        "retrying": 0,
        "dead": 1,
    }


@pytest.mark.parametrize("kind", SERVERS)
def test_at_maxmemory_letters_stay_and_can_be_dropped(kind: str) -> None:
    """A refused retry moves none of them."""
    with running_server(binary=binary_of(kind)) as server, raw_client(server.url) as client:
        broker = connect(server.url, namespace="full", timeout_s=30.0)
        letters = _dead(broker, b"1", b"2")
        client.config_set("maxmemory", 1)
        with pytest.raises(BrokerError, match="maxmemory"):
            broker.retry_dead_letters(SIGNAL, GROUP, letters)
        assert _all(broker) == letters
        assert broker.drop_dead_letters(SIGNAL, GROUP, [letters[0].entry_id]) == 1
        client.config_set("maxmemory", 0)
        assert broker.retry_dead_letters(SIGNAL, GROUP, letters) == 1
        assert _redone(broker) == [(b"2", {"welcome": 0})]
        broker.close()


# dropping --------------------------------------------------------------------------------------


def test_dropped_letters_are_gone(tested: TestedBroker) -> None:
    """The others stay; dropping them again does nothing."""
    first, second, third = _dead(tested.broker, b"1", b"2", b"3")
    ids = [first.entry_id, third.entry_id, "1-1"]
    assert tested.broker.drop_dead_letters(SIGNAL, GROUP, ids) == 2
    assert tested.broker.drop_dead_letters(SIGNAL, GROUP, ids) == 0
    assert tested.broker.drop_dead_letters(SIGNAL, GROUP, []) == 0
    assert _all(tested.broker) == [second]
    assert read(tested.broker) == []
