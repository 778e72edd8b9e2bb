"""The codec held to its two promises for whatever comes: exact round trips, and one kind of error.

Hypothesis makes the values and the bytes.
"""

from __future__ import annotations

from datetime import datetime, time
from typing import Any
from unittest import mock

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.relayed_values import codec, envelopes, texts

from lback_relay import codec as codec_module
from lback_relay.codec import decode, encode
from lback_relay.codec_reader import read_body
from lback_relay.envelope import Envelope
from lback_relay.errors import EnvelopeError, MalformedEnvelope

HEADER = b"LR\x01\x00"


def exact(value: Any) -> Any:
    """Return a form of a value that is equal only for values of equal types all the way down."""
    if hasattr(type(value), "relay_state"):
        return [type(value).__name__, *map(exact, value.relay_state())]
    if isinstance(value, dict):
        return [dict, [[exact(key), exact(item)] for key, item in value.items()]]
    if isinstance(value, set | frozenset):
        return [type(value), sorted(repr(exact(item)) for item in value)]
    if isinstance(value, list | tuple):
        return [type(value), list(map(exact, value))]
    if isinstance(value, datetime | time):
        value = value.replace(fold=0)  # changes no equality, and does not travel
    return [type(value), repr(value)]


@codec
@given(envelopes)
def test_decoding_gives_back_exactly_what_was_encoded(envelope: Envelope) -> None:
    """Equal, of the same types, and with the same bytes when encoded again."""
    encoded = encode(envelope)
    received = decode(encoded)
    assert received == envelope
    assert exact(list(received)) == exact(list(envelope))
    assert encode(received) == encoded


@codec
@given(envelopes, st.integers(256, 1200))
def test_an_encoded_envelope_is_never_over_its_limit(envelope: Envelope, max_bytes: int) -> None:
    """Within the limit and readable, or refused."""
    try:
        encoded = encode(envelope, max_bytes=max_bytes)
    except EnvelopeError:
        return
    assert len(encoded) <= max_bytes
    assert set(decode(encoded).payload) == set(envelope.payload)


def decoded_or_refused(encoded: bytes) -> None:
    """Decode; anything but an EnvelopeError fails the test. What was decoded can be sent on."""
    try:
        envelope = decode(encoded)
    except EnvelopeError:
        return
    assert decode(encode(envelope)).id == envelope.id


@codec
@given(st.binary(max_size=300))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    """No exception but EnvelopeError comes out, whatever comes in."""
    decoded_or_refused(data)
    decoded_or_refused(HEADER + data)


@codec
@given(envelopes, st.data())
def test_a_damaged_envelope_is_decoded_or_refused(envelope: Envelope, data: st.DataObject) -> None:
    """Bytes changed, lost or added anywhere."""
    damaged = bytearray(encode(envelope))
    for _ in range(data.draw(st.integers(1, 4))):
        if not damaged:
            break
        position = data.draw(st.integers(0, len(damaged) - 1))
        change = data.draw(st.sampled_from(["set", "cut", "insert", "end"]))
        if change == "set":
            damaged[position] = data.draw(st.integers(0, 255))
        elif change == "cut":
            del damaged[position : position + data.draw(st.integers(1, 8))]
        elif change == "insert":
            damaged[position:position] = data.draw(st.binary(max_size=8))
        else:
            del damaged[position:]
    decoded_or_refused(bytes(damaged))


any_msgpack = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), texts, st.binary()),
    lambda parts: st.one_of(
        st.lists(parts, max_size=5),
        st.dictionaries(st.one_of(texts, st.integers(-9, 9)), parts, max_size=3),
        st.builds(
            lambda code, part: msgpack.ExtType(
                code, msgpack.packb(part, unicode_errors="surrogatepass")
            ),
            st.sampled_from([*range(10), *range(16, 20), *range(32, 34), *range(48, 60), 127]),
            parts,
        ),
    ),
    max_leaves=10,
)


@codec
@given(st.lists(any_msgpack, min_size=8, max_size=8), any_msgpack)
def test_well_formed_msgpack_of_wrong_shape_is_decoded_or_refused(
    fields: list[Any], value: Any
) -> None:
    """Known extension types with any content, in an envelope of any fields."""

    def packed(fields: Any) -> bytes:
        return HEADER + bytes(msgpack.packb(fields, unicode_errors="surrogatepass"))

    decoded_or_refused(packed(fields))
    decoded_or_refused(packed(["id", "signal", value, {"value": value}, 0, [], "", {"x": value}]))


def packed_value(value: bytes) -> bytes:
    """Return an envelope with these bytes for its payload's one value."""
    around: bytes = msgpack.packb(["id", "signal", None, {"v": None}, 0, ["queue"], "", {}])
    return HEADER + around.replace(b"\xa1v\xc0", b"\xa1v" + value)


def nested_lists(levels: int, item: Any) -> Any:
    """Return an item in so many lists."""
    for _ in range(levels):
        item = [item]
    return item


plain_msgpack = st.recursive(
    st.one_of(st.none(), st.integers(-9, 999), texts, st.binary(max_size=3)),
    lambda parts: st.one_of(
        st.lists(parts, max_size=5),
        st.dictionaries(st.one_of(texts, st.binary(max_size=2)), parts, max_size=3),
        st.builds(nested_lists, st.integers(58, 66), parts),
    ),
    max_leaves=8,
)


def outcome(encoded: bytes) -> Any:
    """Return an envelope in its exact form, or why it was refused."""
    try:
        return exact(list(decode(encoded)))
    except EnvelopeError as error:
        return str(error)


@codec
@given(
    st.one_of(
        envelopes.map(encode),
        plain_msgpack.map(
            lambda value: packed_value(msgpack.packb(value, unicode_errors="surrogatepass"))
        ),
    )
)
def test_a_few_looks_at_all_the_bytes_find_what_one_at_each_value_finds(encoded: bytes) -> None:
    """Too deep, or a key of bytes: it is refused in either way, and all else is the same."""
    quickly = outcome(encoded)
    with mock.patch.object(codec_module, "read_body", lambda data: (read_body(data)[0], False)):
        assert outcome(encoded) == quickly


@pytest.mark.parametrize("head", [0xC4, 0xC5, 0xC6])
def test_a_time_of_sending_that_looks_like_bytes_costs_nothing(head: int) -> None:
    """And hides none: they are counted."""
    sent_at = 1_798_000_000_000_000 // 256 * 256 + head
    fields: list[Any] = ["id", "signal", None, {}, sent_at, ["queue"], "", {}]
    assert read_body(msgpack.packb(fields)) == (fields, True)
    fields[3] = {"k": 1}
    packed = msgpack.packb(fields)
    for key in (b"\xc4\x01k", b"\xc5\x00\x01k", b"\xc6\x00\x00\x00\x01k"):
        assert read_body(packed.replace(b"\xa1k", key))[1] is False
    fields[3:5] = [{}, -1]
    assert read_body(msgpack.packb([*fields, b"bytes"]))[1] is False
    assert read_body(msgpack.packb([b"bytes"])) == ([b"bytes"], False)


def nested_extensions(code: int, levels: int) -> bytes:
    """Return an extension type around an array of one, again and again."""
    packed: bytes = b"\xc0"
    for _ in range(levels):
        packed = msgpack.packb(msgpack.ExtType(code, b"\x91" + packed))
    return packed


BOMBS = {
    "arrays": b"\x91" * 100 + b"\xc0",
    "arrays beyond recursion": b"\x91" * 100_000 + b"\xc0",
    "arrays without end": b"\x91" * 100_000,
    "maps": b"\x81\xa1a" * 100 + b"\xc0",
    "tuples": nested_extensions(16, 100),
    "tuples beyond recursion": nested_extensions(16, 2000),
    "maps of pairs": nested_extensions(19, 100),
    "promised items": b"\xdd\xff\xff\xff\xff",
    "promised items in promised items": b"\xdd\x00\x10\x00\x00" * 500 + b"\xc0" * 1_100_000,
    "promised bytes": b"\xc6\xff\xff\xff\xff",
    "reserved extension": msgpack.packb(msgpack.Timestamp(0))[:1] + b"\xfe\x00\x00\x00\x00",
    "timestamp out of range": b"\xc7\x0c\xff\x00\x00\x00\x00\x7f" + b"\xff" * 7,
    "invalid UTF-8": b"\xa2\xff\xfe",
    "never used": b"\xc1",
    "integer key": b"\x81\x01\x01",
    "bytes key": b"\x81\xc4\x01a\x01",
    "list in a set": msgpack.packb(msgpack.ExtType(17, b"\x91\x90")),
    "odd pairs": msgpack.packb(msgpack.ExtType(19, b"\x91\xa1a")),
    "map for a tuple": msgpack.packb(msgpack.ExtType(16, b"\x80")),
    "path of no kind": msgpack.packb(msgpack.ExtType(8, b"x/tmp")),
    "empty path": msgpack.packb(msgpack.ExtType(8, b"")),
    "no date": msgpack.packb(msgpack.ExtType(3, b"2026-02-30")),
    "timedelta out of range": msgpack.packb(msgpack.ExtType(5, b"9" * 50)),
    "short UUID": msgpack.packb(msgpack.ExtType(7, b"\x00")),
}


@pytest.mark.parametrize("value", BOMBS.values(), ids=BOMBS)
def test_what_is_made_to_hurt_is_refused(value: bytes) -> None:
    """Depth, promised sizes and wrong shapes end in one error."""
    with pytest.raises(MalformedEnvelope):
        decode(packed_value(value))


def test_numbers_chosen_to_collide_are_refused() -> None:
    """900 integers of equal hash; many more are refused for their number already."""
    prime = 2**61 - 1
    numbers = [msgpack.ExtType(1, (prime * factor).to_bytes(16, "big")) for factor in range(1, 900)]
    for code, body in [(17, numbers), (18, numbers), (19, [n for k in numbers for n in (k, 0)])]:
        with pytest.raises(MalformedEnvelope, match="same hash"):
            decode(packed_value(msgpack.packb(msgpack.ExtType(code, msgpack.packb(body)))))


def test_a_timestamp_of_msgpack_itself_is_an_instant() -> None:
    """Programs in other languages have it in their libraries."""
    decoded = decode(packed_value(msgpack.packb(msgpack.Timestamp(1_767_323_045, 500_000_000))))
    assert decoded.payload["v"].isoformat() == "2026-01-02T03:04:05.500000+00:00"


def test_too_many_bytes_are_refused_unread() -> None:
    """The limit is above what any config allows to send."""
    with pytest.raises(MalformedEnvelope, match="none may take more than 16,777,216"):
        decode(HEADER + bytes(16 * 1024 * 1024))


@pytest.mark.parametrize(
    "fields",
    [
        [],
        ["id", "signal", None, {}, 0, [], ""],
        [7, "signal", None, {}, 0, [], "", {}],
        ["id", None, None, {}, 0, [], "", {}],
        ["id", "signal", None, [], 0, [], "", {}],
        ["id", "signal", None, {}, 1.5, [], "", {}],
        ["id", "signal", None, {}, True, [], "", {}],
        ["id", "signal", None, {}, 2**63, [], "", {}],
        ["id", "signal", None, {}, 0, "queue", "", {}],
        ["id", "signal", None, {}, 0, [1], "", {}],
        ["id", "signal", None, {}, 0, [], None, {}],
        ["id", "signal", None, {}, 0, [], "", []],
        ["id", "signal", None, {}, 0, [], "", {"trace": [1]}],
        ["id", "signal", None, {}, 0, [], "", {"trace": {"traceparent": 1}}],
        {"id": 1},
        "text",
    ],
    ids=repr,
)
def test_a_field_of_the_wrong_type_is_refused(fields: Any) -> None:
    """Handlers and brokers may rely on the types of an envelope's fields."""
    with pytest.raises(MalformedEnvelope):
        decode(HEADER + msgpack.packb(fields))


def test_an_error_quotes_no_value() -> None:
    """Errors are logged; what an envelope holds may be secret."""
    hidden = msgpack.packb(msgpack.ExtType(2, b"correct horse battery"))
    with pytest.raises(MalformedEnvelope) as info:
        decode(packed_value(hidden))
    assert "horse" not in str(info.value)
    assert info.value.__cause__ is None
    assert info.value.__suppress_context__
