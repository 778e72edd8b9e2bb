"""Envelopes to bytes and back, what an envelope may hold, and what happens to what it may not."""

from __future__ import annotations

import uuid
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from lback_relay.codec import decode, encode
from lback_relay.codec_extensions import MAX_DEPTH
from lback_relay.envelope import Envelope
from lback_relay.errors import (
    EnvelopeError,
    MalformedEnvelope,
    PayloadTooLarge,
    UnsupportedVersion,
)
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


class Text(str):
    """Text of an application's own class."""

    __slots__ = ()


def test_subclasses_of_plain_types_come_back_plain() -> None:
    """A subclass may not exist where the handler runs."""

    class Pair(NamedTuple):
        left: int
        right: str

    for value, plain in [(Pair(1, "a"), (1, "a")), (Text("x"), "x"), ({Text("k"): 1}, {"k": 1})]:
        result = passed(value)
        assert result == plain
        assert type(result) is type(plain)


def test_a_live_object_is_refused_by_its_type() -> None:
    """The codec knows no live object; the projection is there for those."""
    with pytest.raises(EnvelopeError, match="object can't be encoded"):
        encode(envelope(value=[object()]))


USER = EntitySnapshot(
    "lback.models.user.User",
    {"id": 7, "email": "ada@example.org", "password": Redacted("user.password"), "tags": {1}},
    (7,),
)
CAUSE = ExceptionSnapshot("builtins.KeyError", ("id",))


@pytest.mark.parametrize(
    "value",
    [
        Redacted("user.password"),
        Omitted("session", "sqlalchemy.orm.session.Session", "it is a session", "open one"),
        SenderSnapshot("lback.utils.user_manager.UserManager"),
        USER,
        EntitySnapshot("m.Draft", {}, None),
        RequestSnapshot("lback.core.types.Request", {"path": "/", "user": USER}),
        ResponseSnapshot("lback.core.response.Response", {"status_code": 404}),
        ExceptionSnapshot("m.Refused", ("no", (1,)), {"code": 5}, ("a.py:1 in f",), CAUSE),
        ReferenceSnapshot("builtins.function", "m", "Outer.method"),
        ObjectSnapshot("m.Point", {"x": Decimal(1), "y": {"z": (1,)}}),
        EnumSnapshot("m.Colour", "RED", (1, 2), "Colour.RED"),
        EnumSnapshot("m.Flags", None, 3, "Flags.A|B"),
        IntEnumSnapshot("http.HTTPStatus", "NOT_FOUND", 404, "404"),
        TextEnumSnapshot("m.Method", "GET", "GET", "GET"),
        UnknownValue(99, b"\x01\x02"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_snapshot_or_marker_comes_back_equal_and_named_alike(value: Any) -> None:
    """A handler gets the very snapshot that the projection made."""
    for result in [passed(value), passed([{"deep": (value,)}])[0]["deep"][0]]:
        assert result == value
        assert type(result).__mro__[1:] == type(value).__mro__[1:]
        assert type(result).__name__ == type(value).__name__
        assert repr(result) == repr(value)


def test_a_whole_envelope_comes_back_equal() -> None:
    """Every field survives, the unknown ones too."""
    sent = Envelope(
        id="an id",
        signal="any {name}",
        sender=SenderSnapshot("m.UserManager"),
        payload={"user": USER},
        sent_at=SENT_AT.astimezone(timezone(timedelta(hours=2))),
        delivery=("broadcast", "queue"),
        origin="web-1:17",
        trace={"traceparent": "00-ab-cd-01"},
        extra={"priority": 3, "labels": ["a", UnknownValue(100, b"?")]},
    )
    received = decode(encode(sent))
    assert received == sent
    assert received.sent_at.utcoffset() == timedelta(0)
    assert encode(received) == encode(sent)


def test_a_read_only_payload_is_encoded() -> None:
    """Any mapping will do as a payload, also inside it."""
    sent = envelope()._replace(payload=MappingProxyType({"a": MappingProxyType({"b": 1})}))
    assert decode(encode(sent)).payload == {"a": {"b": 1}}


def test_a_payload_with_other_keys_than_text_is_refused() -> None:
    """No handler could be called with it."""
    with pytest.raises(EnvelopeError, match="has a key that is no text"):
        encode(envelope()._replace(payload={1: "one"}))  # type: ignore[dict-item]
    assert decode(encode(envelope()._replace(payload={Text("a"): 1}))).payload == {"a": 1}


def test_attributes_whose_names_are_no_text_are_named_by_their_repr() -> None:
    """Python lets an instance's ``__dict__`` have such keys."""
    odd: Any = {1: "one", Text("two"): 2}
    assert passed(ObjectSnapshot("m.Odd", odd)).relay_values == {"1": "one", "two": 2}


def test_a_naive_sent_at_is_refused() -> None:
    """An instant without a zone would be another one elsewhere."""
    with pytest.raises(EnvelopeError, match="sent_at has no time zone"):
        encode(envelope()._replace(sent_at=SENT_AT.replace(tzinfo=None)))


def test_equal_sets_have_equal_bytes() -> None:
    """The order of a set's items depends on the process; its bytes do not."""
    forwards: set[int] = set()
    backwards: set[int] = set()
    for number in (0, 8, 16):  # they collide: their order is that of insertion
        forwards.add(number)
        backwards.add(16 - number)
    assert list(forwards) != list(backwards)
    assert encode(envelope(value=forwards)) == encode(envelope(value=backwards))


def test_encoding_within_an_encoding_disturbs_neither() -> None:
    """An OS signal's or a finalizer's code may send while an envelope is being encoded."""
    inner: list[bytes] = []

    class Zone(tzinfo):
        def utcoffset(self, _: datetime | None) -> timedelta:
            inner.append(encode(envelope(value=date(2026, 1, 1))))
            return timedelta(hours=1)

        def dst(self, _: datetime | None) -> None: ...

        def tzname(self, _: datetime | None) -> str:
            return "Z"

    instant = datetime(2026, 1, 2, tzinfo=Zone())
    outer = encode(envelope(before="x", value=instant, after="y"))
    assert decode(outer).payload["value"].isoformat() == "2026-01-02T00:00:00+01:00"
    assert decode(outer).payload["after"] == "y"
    assert {decode(encoded).payload["value"] for encoded in inner} == {date(2026, 1, 1)}


def test_a_set_of_many_rows_comes_back() -> None:
    """Rows of one type are told apart by what is in them, as fast as any other items."""
    rows = {EntitySnapshot("m.Row", {"id": number, "tags": []}, (number,)) for number in range(999)}
    assert passed(rows) == rows


@pytest.mark.parametrize("kind", [set, frozenset, dict.fromkeys])
def test_what_every_reader_would_refuse_is_omitted(kind: Any) -> None:
    """Numbers of equal hash, too many to be chance."""
    numbers = [number * (2**61 - 1) for number in range(1, 200)]
    assert "have the same hash" in passed(kind(numbers)).relay_explanation
    assert passed(kind(numbers[:100])) == kind(numbers[:100])


# versions ------------------------------------------------------------------------------------


def test_another_version_is_named_with_the_remedy() -> None:
    """The version is looked at before anything else is read."""
    with pytest.raises(UnsupportedVersion, match=r"has version 2, .* upgrade lback_relay"):
        decode(b"LR\x02\x00whatever comes")


def test_a_feature_that_is_not_known_is_refused() -> None:
    """Flags stand for signatures and encryption; what has one can't be read without."""
    encoded = bytearray(encode(envelope()))
    encoded[3] = 0x08
    with pytest.raises(UnsupportedVersion, match=r"features .flags 0x08"):
        decode(bytes(encoded))


@pytest.mark.parametrize("encoded", [b"", b"LR", b"LR\x01", b"XX\x01\x00\x90", b"\x90"])
def test_bytes_of_something_else_are_malformed(encoded: bytes) -> None:
    """Whoever reads the wrong stream learns that these are no envelopes."""
    with pytest.raises(MalformedEnvelope, match="do not begin with"):
        decode(encoded)


# limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: (x,), lambda x: {"a": x}])
def test_what_lies_too_deep_is_omitted(wrap: Any) -> None:
    """Depth is cut where decoding would refuse it, and the marker says where."""
    value: Any = "bottom"
    for _ in range(500):
        value = wrap(value)
    result = passed(value)
    depth = 0
    while not isinstance(result, Omitted):
        result = result["a"] if isinstance(result, dict) else result[0]
        depth += 1
    assert depth == MAX_DEPTH - 2  # the payload is the first level, the marker's place the last
    assert "deeper than 64 levels" in result.relay_explanation
    assert result.relay_path.startswith("value.")


def test_snapshots_in_each_other_and_endless_causes_are_cut() -> None:
    """What no depth limit of the projection stopped still has an end."""
    entity: Any = EntitySnapshot("m.Node", {})
    error: Any = None
    for _ in range(200):
        entity = EntitySnapshot("m.Node", {"parent": entity})
        error = ExceptionSnapshot("m.Error", (), {}, (), error)
    assert isinstance(passed(entity).parent.parent, EntitySnapshot)
    causes, cause = 0, passed(error)
    while cause is not None:
        causes, cause = causes + 1, cause.__cause__
    assert 50 < causes < MAX_DEPTH


def test_the_largest_values_are_omitted_first() -> None:
    """Of an envelope over the limit the handler still gets what is small."""
    user = EntitySnapshot("m.User", {"id": 7, "name": "Ada", "bio": "x" * 5000}, (7,))
    encoded = encode(envelope(user=user, page="y" * 900, options={"a": 1}), max_bytes=2000)
    assert len(encoded) <= 2000
    payload = decode(encoded).payload
    assert (payload["user"].id, payload["user"].name) == (7, "Ada")
    assert payload["user"].relay_identity == (7,)
    assert payload["page"] == "y" * 900
    assert payload["options"] == {"a": 1}
    explanation = payload["user"].bio.relay_explanation
    assert "'user.bio' (str)" in explanation
    assert "takes 5,003 of the envelope's" in explanation
    assert "only 2,000 are allowed" in explanation
    assert "raise RELAY_MAX_PAYLOAD_BYTES, or pass an id" in explanation


def test_a_value_whose_parts_are_all_small_is_omitted_whole() -> None:
    """Ten thousand small entries have no largest one."""
    many = {f"key {number}": number for number in range(10_000)}
    payload = decode(encode(envelope(many=many, few=[1]), max_bytes=2000)).payload
    assert isinstance(payload["many"], Omitted)
    assert payload["many"].relay_type == "dict"
    assert payload["few"] == [1]


def test_the_type_of_an_omitted_snapshot_is_the_originals() -> None:
    """The marker names the type that the application knows."""
    error = ExceptionSnapshot("m.Refused", ("x" * 5000,))
    payload = decode(encode(envelope(nested={"error": error}), max_bytes=1000)).payload
    assert isinstance(payload["nested"], Omitted)
    payload = decode(encode(envelope(error=error), max_bytes=1000)).payload
    assert payload["error"].relay_type == "m.Refused"


def test_an_envelope_that_can_not_be_made_to_fit_is_refused() -> None:
    """The error names the signal, the sizes and what to do."""
    sent = envelope(a=1)._replace(origin="x" * 3000)
    with pytest.raises(
        PayloadTooLarge, match=r"'user_registered' takes 3,\d+ bytes.* 2,000"
    ) as info:
        encode(sent, max_bytes=2000)
    assert "raise RELAY_MAX_PAYLOAD_BYTES" in str(info.value)
