"""What every broker promises about groups that were not seen for long: they hold up no trimming."""

from __future__ import annotations

import logging
import re

import pytest
from support.brokers import SERVERS, TestedBroker, binary_of, raw_client, running_server
from support.deliveries import SIGNAL, bodies, claim, publish, read
from support.waiting import wait_until

from lback_relay.broker import Settlement, connect
from lback_relay.broker.keys import Keys

HOUR_S = 3600.0
DAY_MS = 86_400_000


def _settle(tested: TestedBroker, group: str, *, count: int = 1000) -> None:
    """Read and acknowledge."""
    got = read(tested.broker, "a", group=group, count=count)
    tested.broker.settle([Settlement(delivery=d) for d in got], group, "a")
    assert tested.broker.leave([SIGNAL], group, "a")


def _left(tested: TestedBroker) -> list[bytes]:
    return [fields[b"e"] for _, fields in tested.client.xrange(tested.keys.events(SIGNAL))]


def _trim(tested: TestedBroker, group: str = "here") -> int:
    return tested.broker.trim([SIGNAL], group, group_ttl_s=HOUR_S)


def _age(tested: TestedBroker, *groups: str, by_ms: float = DAY_MS) -> None:
    """Let groups have been seen so much earlier; "" is the last look of anybody."""
    for group in groups:
        assert tested.client.zincrby(tested.keys.seen(SIGNAL), -by_ms, group) > 0


def _two_groups(tested: TestedBroker) -> None:
    """One that has settled all, and one that has left with three of five settled."""
    publish(tested.broker, b"1", b"2", b"3", b"4", b"5")
    for group, count in (("here", 5), ("away", 3)):
        tested.broker.ensure_groups([SIGNAL], group)
        _settle(tested, group, count=count)


def test_a_group_whose_workers_have_left_keeps_its_claim(tested: TestedBroker) -> None:
    """It has no consumers any more, and counts for as long as it may be away."""
    _two_groups(tested)
    assert _trim(tested) == 3
    assert _trim(tested) == 0
    _age(tested, "away", by_ms=HOUR_S * 1000 - 60_000)
    assert _trim(tested) == 0
    assert _left(tested) == [b"4", b"5"]
    assert bodies(read(tested.broker, group="away")) == [b"4", b"5"]


def test_a_group_that_is_away_for_too_long_stops_counting_loudly(
    tested: TestedBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning names it, what it loses, and what to do; it is not repeated each time."""
    _two_groups(tested)
    _trim(tested)
    _age(tested, "away")
    with caplog.at_level(logging.WARNING):
        assert _trim(tested) == 2
        publish(tested.broker, b"6", first=6)
        _settle(tested, "here")
        assert _trim(tested) == 1
    assert _left(tested) == []
    (record,) = caplog.records
    said = record.getMessage()
    assert said.startswith(
        f"group away has not been seen for 1.0 days: 2 entries of {SIGNAL} that it had not settled "
        "are dropped"
    )
    assert f"XGROUP DESTROY '{tested.keys.events(SIGNAL)}' 'away'" in said


def test_a_group_that_comes_back_counts_again(tested: TestedBroker) -> None:
    """From its worker's first trimming on, and by its reading before that."""
    _two_groups(tested)
    _trim(tested)
    _age(tested, "away")
    assert read(tested.broker, "back", group="away", count=1)
    assert _trim(tested) == 0, "it has just read"
    publish(tested.broker, b"6", first=6)
    _settle(tested, "here")
    _age(tested, "away")
    _trim(tested, "away")
    assert _trim(tested) == 0
    assert _left(tested) == [b"4", b"5", b"6"]


def test_what_an_absent_group_has_pending_does_not_count_either(
    tested: TestedBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """When it is claimed later, its body is gone."""
    publish(tested.broker, b"1", b"2")
    for group in ("here", "mailers"):
        tested.broker.ensure_groups([SIGNAL], group)
    _settle(tested, "here")
    read(tested.broker, "crashed", group="mailers")
    ttl_s = 0.01
    assert tested.broker.trim([SIGNAL], "here", group_ttl_s=HOUR_S) == 0
    wait_until(lambda: tested.broker.trim([SIGNAL], "here", group_ttl_s=ttl_s), what="the absence")
    assert _left(tested) == []
    assert re.search(r"group mailers has not been seen for \d+ s: 2 entries", caplog.text)
    assert bodies(claim(tested.broker)) == [None, None]


def test_time_in_which_nobody_looked_is_nobodys_absence(tested: TestedBroker) -> None:
    """All were stopped for days, or the broker's clock has jumped: all groups keep their claim."""
    _two_groups(tested)
    _trim(tested)
    _age(tested, "", "away", "here")
    assert _trim(tested) == 0
    _age(tested, "away", by_ms=HOUR_S * 1000 - 600_000)
    assert _trim(tested) == 0, "the day before is not counted later either"
    assert _left(tested) == [b"4", b"5"]


def test_a_group_is_seen_when_it_is_first_noticed(tested: TestedBroker) -> None:
    """One of an older version has left no record; one that was destroyed leaves none behind."""
    _two_groups(tested)
    _trim(tested)
    tested.client.zrem(tested.keys.seen(SIGNAL), "away")
    assert _trim(tested) == 0
    seen = tested.keys.seen(SIGNAL)
    assert {name for name in tested.client.zrange(seen, 0, -1) if name} == {b"here", b"away"}
    tested.client.xgroup_destroy(tested.keys.events(SIGNAL), "away")
    assert _trim(tested) == 2
    assert {name for name in tested.client.zrange(seen, 0, -1) if name} == {b"here"}


def test_when_all_groups_are_absent_nothing_is_dropped(tested: TestedBroker) -> None:
    """Somebody must count; and without a limit everybody does."""
    _two_groups(tested)
    _trim(tested)
    _age(tested, "away", "here")
    assert tested.broker.trim([SIGNAL], "not made yet", group_ttl_s=HOUR_S) == 0
    assert tested.broker.trim([SIGNAL]) == 0
    assert _left(tested) == [b"4", b"5"]


def test_several_absent_groups_are_named_each(
    tested: TestedBroker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for those that had settled what is dropped; again when the time for it has come."""
    monkeypatch.setattr("lback_relay.broker.keeping.WARN_EVERY_S", 0.0)
    _two_groups(tested)
    for group in ("nearly done", "never read"):
        tested.broker.ensure_groups([SIGNAL], group)
    _settle(tested, "nearly done")
    _trim(tested)
    _age(tested, "away", "nearly done", "never read")
    assert _trim(tested) == 5
    warned = [record.getMessage().split(" has not")[0] for record in caplog.records]
    assert sorted(warned) == ["group away", "group never read"]
    publish(tested.broker, b"6", first=6)
    _settle(tested, "here")
    assert _trim(tested) == 1
    assert len(caplog.records) == 2 + 3


def test_a_group_that_another_program_has_made_is_named_as_well_as_can_be(
    tested: TestedBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """Its name may be any bytes."""
    publish(tested.broker, b"1")
    tested.broker.ensure_groups([SIGNAL], "here")
    _settle(tested, "here")
    tested.client.xgroup_create(tested.keys.events(SIGNAL), b"caf\xe9", "0")
    _trim(tested)
    assert tested.client.zincrby(tested.keys.seen(SIGNAL), -DAY_MS, b"caf\xe9") > 0
    assert _trim(tested) == 1
    assert "group caf\N{REPLACEMENT CHARACTER} has not been seen for 1.0 days" in caplog.text


@pytest.mark.parametrize("kind", SERVERS)
def test_at_maxmemory_trimming_goes_on(kind: str, namespace: str) -> None:
    """It makes room; noting who was seen is not what it may fail for."""
    with running_server(binary=binary_of(kind)) as server:
        broker = connect(server.url, namespace=namespace, timeout_s=30.0)
        client = raw_client(server.url)
        broker.ensure_groups([SIGNAL], "here")
        publish(broker, b"1", b"2")
        got = read(broker, group="here")
        broker.settle([Settlement(delivery=d) for d in got], "here", "a")
        client.config_set("maxmemory", 1)
        assert broker.trim([SIGNAL], "here", group_ttl_s=HOUR_S) == 2
        assert broker.trim([SIGNAL], "here", group_ttl_s=HOUR_S) == 0
        client.config_set("maxmemory", 0)
        broker.trim([SIGNAL], "here", group_ttl_s=HOUR_S)
        assert client.zscore(Keys(namespace).seen(SIGNAL), "here") is not None
        broker.close()
        client.close()
