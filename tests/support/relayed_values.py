"""Values as a projection leaves them, and envelopes of such, made by Hypothesis."""

from __future__ import annotations

import string
from datetime import timedelta, timezone
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from lback_relay.envelope import Envelope
from lback_relay.markers import Omitted, Redacted, UnknownValue
from lback_relay.snapshot import (
    EntitySnapshot,
    EnumSnapshot,
    ExceptionSnapshot,
    IntEnumSnapshot,
    ObjectSnapshot,
    ReferenceSnapshot,
    RequestSnapshot,
    ResponseSnapshot,
    SenderSnapshot,
    TextEnumSnapshot,
)

settings.register_profile(
    "codec",
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
codec = settings.get_profile("codec")

texts = st.text(st.characters(exclude_categories=()), max_size=12)  # lone surrogates too
names = st.text(string.ascii_letters + "._", min_size=1, max_size=12)
# Whole seconds: datetime.fromisoformat loses less (CPython reads "+00:00:00.000001" as UTC).
zones = st.integers(-86_399, 86_399).map(lambda offset: timezone(timedelta(seconds=offset)))
hashable_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(allow_nan=False),
    texts,
    st.binary(max_size=12),
    st.datetimes(),
    st.datetimes(timezones=zones),
    st.dates(),
    st.times(),
    st.times(timezones=zones),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
    texts.map(PurePosixPath),
    texts.map(PureWindowsPath),
)
keys = st.one_of(hashable_leaves, st.tuples(hashable_leaves, hashable_leaves))
markers = st.one_of(
    st.builds(Redacted, texts),
    st.builds(Omitted, texts, names, texts, texts),
    st.builds(UnknownValue, st.integers(100, 127), st.binary(max_size=8)),
    st.builds(SenderSnapshot, names),
    st.builds(ReferenceSnapshot, names, names, names),
)


def containers(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    attributes = st.dictionaries(names, values, max_size=4)
    items = st.lists(values, max_size=3).map(tuple)
    return st.one_of(
        st.lists(values, max_size=4),
        items,
        st.sets(keys, max_size=4),
        st.frozensets(keys, max_size=4),
        st.dictionaries(texts, values, max_size=4),
        st.dictionaries(keys, values, max_size=4),
        st.builds(EntitySnapshot, names, attributes, st.none() | items),
        st.builds(RequestSnapshot, names, attributes),
        st.builds(ResponseSnapshot, names, attributes),
        st.builds(ObjectSnapshot, names, attributes),
        st.builds(
            ExceptionSnapshot,
            names,
            items,
            attributes,
            st.lists(texts, max_size=2).map(tuple),
            st.none() | st.builds(ExceptionSnapshot, names, items),
        ),
        st.builds(EnumSnapshot, names, st.none() | texts, values, texts),
        st.builds(IntEnumSnapshot, names, names, st.integers(), texts),
        st.builds(TextEnumSnapshot, names, names, texts, texts),
    )


values = st.recursive(hashable_leaves | markers, containers, max_leaves=12)
envelopes = st.builds(
    Envelope,
    id=texts,
    signal=texts,
    sender=values,
    payload=st.dictionaries(texts, values, max_size=4),
    sent_at=st.datetimes(timezones=st.just(timezone.utc)),
    delivery=st.lists(texts, max_size=2).map(tuple),
    origin=texts,
    trace=st.dictionaries(texts, texts, max_size=2),
    extra=st.dictionaries(texts.filter(lambda name: name != "trace"), values, max_size=2),
)
