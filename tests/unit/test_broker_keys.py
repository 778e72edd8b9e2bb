"""Names of keys: readable, reversible, and never two for one or one for two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lback_relay.broker.keys import Keys, escape, unescape

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(NAMES)
def test_escaping_is_undone(name: str) -> None:
    """And leaves nothing that would break a key."""
    escaped = escape(name)
    assert unescape(escaped) == name
    assert not set("{}: \n\t\x00\x7f") & set(escaped)


@given(NAMES, NAMES, NAMES, NAMES)
def test_other_names_have_other_keys(signal: str, group: str, signal_2: str, group_2: str) -> None:
    """Whatever is in them."""
    keys = Keys("ns")
    same = (signal, group) == (signal_2, group_2)
    assert (keys.redo(signal, group) == keys.redo(signal_2, group_2)) is same
    assert (keys.events(signal) == keys.events(signal_2)) is (signal == signal_2)


@given(NAMES, NAMES, NAMES)
def test_the_way_back_from_a_key_is_found(namespace: str, signal: str, group: str) -> None:
    """For dead letters: an operator looks for all that there are."""
    keys = Keys(namespace)
    assert keys.dead_of(keys.dead(signal, group).encode()) == (signal, group)
    assert keys.dead_of(keys.redo(signal, group).encode()) is None
    assert Keys(namespace + "x").dead_of(keys.dead(signal, group).encode()) is None


def test_plain_names_stay_as_they_are() -> None:
    """Whoever looks with redis-cli finds what the design says."""
    keys = Keys("lback")
    assert [
        keys.events("user_registered"),
        keys.retry("user_registered", "mailers"),
        keys.redo("user_registered", "mailers"),
        keys.dead("user_registered", "mailers"),
        keys.producer("user_registered", "p1"),
        keys.broadcast("user_registered"),
    ] == [
        "lback:{user_registered}:events",
        "lback:{user_registered}:retry:mailers",
        "lback:{user_registered}:redo:mailers",
        "lback:{user_registered}:dead:mailers",
        "lback:{user_registered}:producer:p1",
        "lback:{user_registered}:broadcast",
    ]


@pytest.mark.parametrize("namespace", ["lback", "a*b", "[x]?", "back\\slash"])
def test_workers_are_found_by_a_pattern_that_means_itself(namespace: str) -> None:
    """Characters with a meaning in patterns are escaped."""
    keys = Keys(namespace)
    assert keys.worker_of(keys.worker("host:1:ö")) == "host:1:ö"
    assert keys.worker_pattern().endswith(":worker:*")
    assert keys.worker_pattern().replace("\\", "")[:-1] == f"{namespace}:worker:".replace("\\", "")
