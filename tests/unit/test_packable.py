"""What the projection calls packable is packed without a look, and to the same bytes."""

from __future__ import annotations

import collections
import dataclasses
import enum
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.relayed_values import codec, texts, values

from lback_relay.codec import encode_fields
from lback_relay.projection import Projection


def both_ways(payload: dict[str, Any]) -> tuple[bytes, bytes]:
    """Return an envelope's bytes, the payload looked through and not."""
    fields: tuple[Any, ...] = ("id", "signal", None, payload, 0, ("queue",), "host:1", {})
    return (
        encode_fields(fields, max_bytes=1 << 20),
        encode_fields(fields, max_bytes=1 << 20, packable=True),
    )


@codec
@given(st.dictionaries(texts, values, max_size=4), st.booleans())
def test_a_payload_that_is_packable_needs_no_look(kwargs: dict[str, Any], revealing: bool) -> None:
    """The projection's word on it can be relied upon, whatever was sent."""
    projection = Projection(reveal=["user.password"] if revealing else [])
    payload, packable = projection.packable_payload(kwargs)
    if packable:
        looked_through, as_it_is = both_ways(payload)
        assert as_it_is == looked_through


class Colour(enum.IntEnum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int = 1


PARTS: list[tuple[Any, bool]] = [
    (
        {
            "id": 1,
            "email": "a@x.org",
            "groups": ["basic"],
            "at": datetime(2026, 1, 1, tzinfo=timezone.utc),
        },
        True,
    ),
    ([{"id": 1}, {"id": 2**70}], True),
    ({"password": "x", "user": {"token": "y"}}, True),
    ({"amount": Decimal("1.5"), "day": date(2026, 1, 1), "key": UUID(int=1), "raw": b"x"}, True),
    (collections.OrderedDict(a=[1, None]), True),
    (collections.deque([1]), True),
    (object(), True),  # an Omitted marker
    ((1, 2), False),
    ([(1, 2)], False),
    ({"deep": {"er": [{1}]}}, False),
    ({1: "a key that is no text"}, False),
    (Colour.RED, False),
    ([Colour.RED], False),
    (Point(), False),
    (ValueError("x"), False),
    (Path("x"), False),
]


@pytest.mark.parametrize(("part", "packable"), PARTS)
def test_what_is_packable(part: Any, packable: bool) -> None:
    """Maps with texts for keys, lists, and values without parts, wherever they lie."""
    for kwargs in ({"part": part}, {"parts": [part]}, {"parts": {"part": part}}):
        payload, found = Projection().packable_payload(kwargs)
        assert found is packable
        looked_through, as_it_is = both_ways(payload) if packable else (b"", b"")
        assert as_it_is == looked_through
