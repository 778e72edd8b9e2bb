"""Envelopes to bytes and back, what an envelope may hold, and what happens to what it may not."""

from __future__ import annotations

import uuid
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import pytest

from lback_relay.codec import decode, encode
from lback_relay.envelope import Envelope
from lback_relay.errors import EnvelopeError

SENT_AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)


def envelope(**payload: Any) -> Envelope:
    """Return an envelope with this payload."""
    return Envelope(
        id="019b7c2e-0000-7000-8000-000000000000",
        signal="user_registered",
        sender=None,
        payload=payload,
        sent_at=SENT_AT,
    )


def passed(value: Any) -> Any:
    """Return what a handler gets for a value of the payload."""
    return decode(encode(envelope(value=value))).payload["value"]


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(2**63),
        2**64 - 1,
        2**64,
        -(2**63) - 1,
        10**400,
        1.5,
        float("inf"),
        "",
        "naïve 🎉",
        "half a pair \ud800",
        b"\x00\xff",
        datetime(2026, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001 - Lback's are naive
        datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=-3, minutes=-30, seconds=-7))),
        date(1, 1, 1),
        time(23, 59, 59, 999_999),
        time(1, tzinfo=timezone.utc),
        timedelta.max,
        timedelta(days=-1, microseconds=1),
        Decimal("1.50"),
        Decimal("-Infinity"),
        uuid.UUID(int=7),
        (),
        (1, (2, [3])),
        {1, "a"},
        frozenset({(1, 2), frozenset()}),
        {},
        {"a": {"b": [{}]}},
        {1: "int", (1, "a"): "tuple", None: "none", "text": "text"},
        PurePosixPath("/srv/\udcff"),
        PureWindowsPath(r"C:\temp"),
        Path("here"),
    ],
    ids=repr,
)
def test_a_value_comes_back_equal_and_of_the_same_type(value: Any) -> None:
    """Plain data survives the way to the handler as it was."""
    result = passed(value)
    assert result == value
    assert type(result) is type(value)


def test_subclasses_of_plain_types_come_back_plain() -> None:
    """A subclass may not exist where the handler runs."""

    class Pair(NamedTuple):
        left: int
        right: str

    class Text(str):
        __slots__ = ()

    for value, plain in [(Pair(1, "a"), (1, "a")), (Text("x"), "x"), ({Text("k"): 1}, {"k": 1})]:
        result = passed(value)
        assert result == plain
        assert type(result) is type(plain)


def test_a_live_object_is_refused_by_its_type() -> None:
    """The codec knows no live object; the projection is there for those."""
    with pytest.raises(EnvelopeError, match="object can't be encoded"):
        encode(envelope(value=[object()]))
