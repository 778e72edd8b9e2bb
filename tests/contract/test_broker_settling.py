"""What every broker promises about settling, leases and claims."""

from __future__ import annotations

import pytest
from support.brokers import SERVERS, TestedBroker, binary_of, raw_client, running_server
from support.deliveries import GROUP, SIGNAL, bodies, claim, publish, read, read_redo
from support.waiting import wait_until

from lback_relay.broker import DeadLetter, Delivery, Retry, Settlement, connect
from lback_relay.broker.base import EVENTS, REDO, SUSPECT_DELIVERIES
from lback_relay.errors import SettlementRefused

LETTER = DeadLetter(
    handler="welcome",
    reason="attempts",
    error="SMTPError: 550 größe",
    traceback="Traceback …",
    attempts=3,
)


def _retry(delay_s: float = 0.0, **attempts: int) -> Retry:
    return Retry(attempts=attempts or {"welcome": 1}, delay_s=delay_s)


def _take(tested: TestedBroker, *encoded: bytes, consumer: str = "a") -> list[Delivery]:
    """Publish, and read as one consumer."""
    tested.broker.ensure_groups([SIGNAL], GROUP)
    publish(tested.broker, *encoded)
    return read(tested.broker, consumer, count=1000)


def _figures(tested: TestedBroker) -> tuple[int, ...]:
    return tuple(tested.broker.backlog(SIGNAL, GROUP).values())


def _deliveries_of(tested: TestedBroker, delivery: Delivery) -> int:
    """Return the delivery count that the broker holds."""
    stream = tested.keys.events(SIGNAL)
    if delivery.source == REDO:
        stream = tested.keys.redo(SIGNAL, GROUP)
    found = tested.client.xpending_range(
        stream, GROUP, min=delivery.entry_id, max=delivery.entry_id, count=1
    )
    count: int = found[0]["times_delivered"]
    return count


# settling --------------------------------------------------------------------------------------


def test_an_acknowledged_entry_is_pending_no_more(tested: TestedBroker) -> None:
    """Its neighbours are."""
    first, second, third = _take(tested, b"1", b"2", b"3")
    settled = [Settlement(delivery=first), Settlement(delivery=third)]
    assert tested.broker.settle(settled, GROUP, "a") == []
    assert _figures(tested) == (0, 1, 0, 0)
    assert bodies(claim(tested.broker)) == [second.encoded]


def test_settling_nothing_does_nothing(tested: TestedBroker) -> None:
    """Not even a call."""
    assert tested.broker.settle([], GROUP, "a") == []
    assert tested.broker.renew([], GROUP, "a") == []
    tested.broker.give_back([], GROUP, "a")


def test_more_entries_than_one_command_takes_are_settled_in_one_call(
    tested: TestedBroker,
) -> None:
    """As for renewing."""
    tested.broker.ensure_groups([SIGNAL], GROUP)
    publish(tested.broker, *(b"x",) * 2300)
    got = read(tested.broker, count=5000)
    assert len(got) == 2300
    assert tested.broker.renew(got, GROUP, "a") == []
    assert tested.broker.settle([Settlement(delivery=d) for d in got], GROUP, "a") == []
    assert _figures(tested) == (0, 0, 0, 0)


def test_a_retry_comes_back_with_its_attempts(tested: TestedBroker) -> None:
    """For the handlers that failed only, before new events, and only when due."""
    (taken,) = _take(tested, b"1")
    settlement = Settlement(delivery=taken, retries=[_retry(welcome=1, index=2)])
    assert tested.broker.settle([settlement], GROUP, "a") == []
    assert _figures(tested) == (0, 0, 1, 0)
    publish(tested.broker, b"2", first=2)
    assert tested.broker.promote([SIGNAL], GROUP) is None
    assert _figures(tested) == (1, 0, 1, 0)
    again, new = read(tested.broker)
    assert (again.source, again.encoded, again.deliveries) == (REDO, b"1", 1)
    assert again.attempts == {"welcome": 1, "index": 2}
    assert (new.source, new.encoded) == (EVENTS, b"2")
    assert _figures(tested) == (0, 2, 0, 0)


def test_a_retry_of_a_retry_goes_the_same_way(tested: TestedBroker) -> None:
    """Nothing of it is left once it is acknowledged."""
    taken = _take(tested, b"1")
    for attempt in (1, 2):
        retry = _retry(welcome=attempt)
        tested.broker.settle([Settlement(delivery=taken[0], retries=[retry])], GROUP, "a")
        taken = read_redo(tested.broker)
        assert taken[0].attempts == {"welcome": attempt}
    assert tested.broker.settle([Settlement(delivery=taken[0])], GROUP, "a") == []
    assert _figures(tested) == (0, 0, 0, 0)
    assert tested.client.xlen(tested.keys.redo(SIGNAL, GROUP)) == 0


def test_several_handlers_of_one_entry_may_end_differently(tested: TestedBroker) -> None:
    """Each retry has its own delay; dead letters stand beside them."""
    (taken,) = _take(tested, b"1")
    settlement = Settlement(
        delivery=taken,
        retries=[_retry(a=1), _retry(b=1), _retry(3600.0, c=1)],
        dead_letters=[LETTER, DeadLetter(handler="other", reason="rejected", error="no")],
    )
    assert tested.broker.settle([settlement], GROUP, "a") == []
    assert _figures(tested) == (0, 0, 3, 2)
    next_s = tested.broker.promote([SIGNAL], GROUP)
    assert next_s is not None
    assert 3000 < next_s <= 3600
    assert sorted([list(d.attempts) for d in read(tested.broker)]) == [["a"], ["b"]]


def test_retries_are_apart_though_their_content_is_equal(tested: TestedBroker) -> None:
    """Two entries with the same bytes and attempts are two retries."""
    taken = _take(tested, b"same", b"same")
    settlements = [Settlement(delivery=d, retries=[_retry(), _retry()]) for d in taken]
    tested.broker.settle(settlements, GROUP, "a")
    assert tested.broker.backlog(SIGNAL, GROUP)["retrying"] == 4


def test_a_dead_letter_keeps_all_that_happened(tested: TestedBroker) -> None:
    """Envelope, handler, reason, error, traceback, attempts, time."""
    first, second = _take(tested, b"\x00raw\xff", b"2")
    now_ms = int(tested.client.time()[0]) * 1000
    for taken in (first, second):
        settlement = Settlement(delivery=taken, dead_letters=[LETTER])
        assert tested.broker.settle([settlement], GROUP, "a") == []
    records = tested.broker.dead_letters(SIGNAL, GROUP, count=10)
    assert [record.encoded for record in records] == [b"\x00raw\xff", b"2"]
    assert records[0].letter == LETTER
    assert records[0].group == GROUP
    assert abs(records[0].dead_at_ms - now_ms) < 60_000
    assert tested.broker.dead_letters(SIGNAL, GROUP, count=1) == records[:1]
    assert tested.broker.dead_letters(SIGNAL, "others", count=10) == []


def test_a_dead_letter_that_others_wrote_can_be_looked_at(tested: TestedBroker) -> None:
    """Fields that are missing or unreadable are empty."""
    dead = tested.keys.dead(SIGNAL, GROUP)
    for fields in ({"e": "x"}, {"d": b"\xc1"}, {"e": "x", "d": b"\x01"}, {"e": "x", "d": ""}):
        tested.client.xadd(dead, fields)
    records = tested.broker.dead_letters(SIGNAL, GROUP, count=10)
    assert [record.encoded for record in records] == [b"x", b"", b"x", b"x"]
    assert {record.letter for record in records} == {DeadLetter(handler="", reason="", error="")}


def test_settling_changes_nothing_once_another_has_claimed(tested: TestedBroker) -> None:
    """A worker that was stopped for too long must not retry what another runs."""
    first, second, third = _take(tested, b"1", b"2", b"3")
    claim(tested.broker, "b", count=2)
    settlements = [
        Settlement(delivery=first, retries=[_retry()]),
        Settlement(delivery=second, dead_letters=[LETTER]),
        Settlement(delivery=third, retries=[_retry()]),
    ]
    assert tested.broker.settle(settlements, GROUP, "a") == [first, second]
    assert _figures(tested) == (0, 2, 1, 0)


def test_what_was_handled_is_acknowledged_whoever_has_it(tested: TestedBroker) -> None:
    """It need not be handled once more."""
    taken = _take(tested, b"1")
    claim(tested.broker, "b")
    assert tested.broker.settle([Settlement(delivery=taken[0])], GROUP, "a") == []
    assert _figures(tested) == (0, 0, 0, 0)


def test_settling_twice_is_harmless(tested: TestedBroker) -> None:
    """A lost reply does not double a retry."""
    first, second = _take(tested, b"1", b"2")
    settlements = [Settlement(delivery=first), Settlement(delivery=second, retries=[_retry()])]
    assert tested.broker.settle(settlements, GROUP, "a") == []
    assert tested.broker.settle(settlements, GROUP, "a") == [second]
    assert _figures(tested) == (0, 0, 1, 0)


def test_settling_after_the_stream_was_lost_changes_nothing(tested: TestedBroker) -> None:
    """Neither do renewing, giving back and claiming; reading makes it again."""
    first, second = _take(tested, b"1", b"2")
    tested.client.delete(tested.keys.events(SIGNAL))
    settlements = [Settlement(delivery=first), Settlement(delivery=second, retries=[_retry()])]
    assert tested.broker.renew([first], GROUP, "a") == [first]
    assert tested.broker.settle(settlements, GROUP, "a") == [second]
    tested.broker.give_back([first], GROUP, "a")
    assert claim(tested.broker) == []


@pytest.mark.parametrize("kind", SERVERS)
def test_at_maxmemory_what_cannot_be_written_stays_pending(kind: str, namespace: str) -> None:
    """Everything else of the call is settled, and later it heals by itself."""
    with running_server(binary=binary_of(kind)) as server:
        broker = connect(server.url, namespace=namespace, timeout_s=30.0)
        client = raw_client(server.url)
        tested = TestedBroker(
            kind=kind,
            url=server.url,
            namespace=namespace,
            broker=broker,
            keys=None,  # type: ignore[arg-type]
            client=client,
            real=True,
        )
        done, failed, dead, lost = _take(tested, b"1", b"2", b"3", b"4")
        claimed = broker.claim([SIGNAL], GROUP, "b", min_idle_s=0.0, count=4)
        assert len(claimed) == 4
        broker.give_back(claimed[:3], GROUP, "b")
        assert len(broker.claim([SIGNAL], GROUP, "a", min_idle_s=1.0, count=4)) == 3
        settlements = [
            Settlement(delivery=done),
            Settlement(delivery=failed, retries=[_retry()]),
            Settlement(delivery=dead, dead_letters=[LETTER]),
            Settlement(delivery=lost, retries=[_retry()]),
        ]
        client.config_set("maxmemory", 1)
        with pytest.raises(SettlementRefused, match=r"2 entries .* maxmemory") as refused:
            broker.settle(settlements, GROUP, "a")
        assert refused.value.unsettled == tuple(settlements[1:3])
        assert refused.value.left_alone == (lost,)
        assert _figures(tested) == (0, 3, 0, 0)
        client.config_set("maxmemory", 0)
        assert broker.settle(refused.value.unsettled, GROUP, "a") == []
        assert _figures(tested) == (0, 1, 1, 1)
        broker.close()
        client.close()


# leases ----------------------------------------------------------------------------------------


def test_renewing_keeps_an_entry_from_being_claimed(tested: TestedBroker) -> None:
    """And counts no delivery."""
    taken = _take(tested, b"1", b"2")
    wait_until(lambda: claim(tested.broker, "z", min_idle_s=0.2, count=1), what="expiry")
    assert tested.broker.renew(taken, GROUP, "a") == taken[:1]
    assert claim(tested.broker, min_idle_s=60.0) == []
    assert _deliveries_of(tested, taken[1]) == 1


def test_renewing_steals_nothing_back(tested: TestedBroker) -> None:
    """What another has claimed is reported as lost, and stays the other's."""
    taken = _take(tested, b"1", b"2", b"3")
    theirs = claim(tested.broker, "b", count=2)
    assert tested.broker.renew(taken, GROUP, "a") == taken[:2]
    assert tested.broker.renew(theirs, GROUP, "b") == []
    assert [_deliveries_of(tested, d) for d in theirs] == [2, 2]


def test_what_was_given_back_is_claimed_at_once(tested: TestedBroker) -> None:
    """Whatever the lease; the delivery that never happened is not counted."""
    taken = _take(tested, b"1", b"2", b"3")
    tested.broker.give_back(taken[1:], GROUP, "a")
    assert _deliveries_of(tested, taken[1]) == 0
    again = claim(tested.broker, "b", min_idle_s=10 * 365 * 86400.0)
    assert bodies(again) == [b"2", b"3"]
    assert {d.deliveries for d in again} == {1}


def test_a_renewal_does_not_take_back_what_was_given_back(tested: TestedBroker) -> None:
    """It may have been under way meanwhile: it tells what is lost, and begins no lease of it."""
    taken = _take(tested, b"1", b"2")
    tested.broker.give_back(taken[:1], GROUP, "a")
    assert tested.broker.renew(taken, GROUP, "a") == taken[:1]
    again = claim(tested.broker, "b", min_idle_s=10 * 365 * 86400.0)
    assert bodies(again) == [b"1"]
    assert again[0].deliveries == 1
    assert tested.broker.renew(again, GROUP, "b") == []
    assert claim(tested.broker, "c", min_idle_s=60.0) == []


def test_what_another_has_is_not_given_back(tested: TestedBroker) -> None:
    """It runs there."""
    taken = _take(tested, b"1")
    claim(tested.broker, "b")
    tested.broker.give_back(taken, GROUP, "a")
    assert claim(tested.broker, "c", min_idle_s=60.0) == []


# claims ----------------------------------------------------------------------------------------


def test_only_what_has_expired_is_claimed(tested: TestedBroker) -> None:
    """With its body, and one delivery more."""
    taken = _take(tested, b"1", b"2")
    assert claim(tested.broker, min_idle_s=60.0) == []
    claimed = claim(tested.broker)
    assert [(d.entry_id, d.encoded, d.deliveries) for d in claimed] == [
        (taken[0].entry_id, b"1", 2),
        (taken[1].entry_id, b"2", 2),
    ]


def test_expired_entries_are_found_behind_any_number_of_leased_ones(
    tested: TestedBroker,
) -> None:
    """All pending entries are looked at."""
    taken = _take(tested, *(b"%d" % number for number in range(450)))
    tested.broker.give_back(taken[-2:], GROUP, "a")
    assert bodies(claim(tested.broker, min_idle_s=60.0)) == [b"448", b"449"]


def test_a_claim_takes_no_more_than_asked_for(tested: TestedBroker) -> None:
    """Over all signals and sources together."""
    signals = ["s1", "s2", "s3"]
    tested.broker.ensure_groups(signals, GROUP)
    for signal in signals:
        publish(tested.broker, b"1", b"2", signal=signal)
    read(tested.broker, signals=signals)
    assert len(claim(tested.broker, "b", signals=signals, count=5)) == 5
    assert [d.deliveries for d in claim(tested.broker, "c", signals=signals, count=5)] == [2]


def test_retries_are_claimed_with_their_attempts(tested: TestedBroker) -> None:
    """They go first."""
    first, _ = _take(tested, b"1", b"2")
    tested.broker.settle([Settlement(delivery=first, retries=[_retry()])], GROUP, "a")
    read_redo(tested.broker)
    claimed = claim(tested.broker)
    assert [(d.source, d.encoded, dict(d.attempts)) for d in claimed] == [
        (REDO, b"1", {"welcome": 1}),
        (EVENTS, b"2", {}),
    ]


def test_suspects_of_a_crash_are_handed_out_last_and_alone(tested: TestedBroker) -> None:
    """A thousand innocents do not pay for one that kills its worker."""
    _take(tested, *(b"%d" % number for number in range(4)))
    tested.broker.ensure_groups(["other"], GROUP)
    assert len(claim(tested.broker, "b")) == 4  # the first worker died: nobody is suspected yet
    publish(tested.broker, b"innocent", signal="other")
    read(tested.broker, "b", signals=["other"])
    both = [SIGNAL, "other"]
    assert bodies(claim(tested.broker, "c", signals=both)) == [b"innocent"]
    for turn in range(4):  # the second died, with all of these in hand
        alone = claim(tested.broker, f"d{turn}", min_idle_s=0.0, signals=[SIGNAL])
        assert bodies(alone) == [b"%d" % turn]
        assert alone[0].deliveries == SUSPECT_DELIVERIES
        tested.broker.settle([Settlement(delivery=alone[0])], GROUP, f"d{turn}")
    assert claim(tested.broker, "e") == []


def test_innocents_are_found_behind_any_number_of_suspects(tested: TestedBroker) -> None:
    """Suspects lie first, because they are the oldest."""
    tested.broker.ensure_groups([SIGNAL], GROUP)
    publish(tested.broker, *(b"suspect",) * 230)
    read(tested.broker, count=1000)
    assert len(claim(tested.broker, "b", count=1000)) == 230
    publish(tested.broker, b"innocent", first=231)
    read(tested.broker)
    assert bodies(claim(tested.broker, "c", count=1000)) == [b"innocent"]


def test_an_entry_without_a_body_does_not_stay_pending(tested: TestedBroker) -> None:
    """It comes once, as None, whether first, last or alone."""
    taken = _take(tested, b"1", b"2", b"3")
    tested.client.xdel(tested.keys.events(SIGNAL), taken[0].entry_id, taken[2].entry_id)
    claimed = claim(tested.broker)
    assert bodies(claimed) == [None, b"2", None]
    assert [d.entry_id for d in claimed] == [d.entry_id for d in taken]
    assert tested.broker.settle([Settlement(delivery=d) for d in claimed], GROUP, "b") == []
    assert _figures(tested) == (0, 0, 0, 0)
    assert claim(tested.broker, "c") == []


def test_a_claim_before_the_group_exists_finds_nothing(tested: TestedBroker) -> None:
    """It does not fail."""
    assert claim(tested.broker) == []
