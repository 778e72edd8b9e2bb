"""Envelope to bytes and back.

The bytes are ``LR``, the version, flags, and a msgpack array of the envelope's fields;
``docs/wire-format.md`` describes them for readers in any language. What is written here is neither
signed nor encrypted, and a signature is skipped, not verified, where bytes are read: that is
:mod:`lback_relay.signing`. Writing is :mod:`lback_relay.codec_writer`, reading
:mod:`lback_relay.codec_reader`; the first bytes are in :mod:`lback_relay.codec_header`, extension
types and limits in :mod:`lback_relay.codec_extensions`. Knows no live object, no config and no
broker. Sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from lback_relay.codec_cost import cost_of
from lback_relay.codec_extensions import MAX_ENVELOPE_BYTES, UNCOUNTED_BYTES
from lback_relay.codec_header import PLAIN_HEAD, refuse_header, without_signature
from lback_relay.codec_reader import STRINGS, finished, read_body
from lback_relay.codec_writer import Writer, write
from lback_relay.envelope import QUEUE, Envelope
from lback_relay.errors import EnvelopeError, MalformedEnvelope, PayloadTooLarge
from lback_relay.omission import omit_costliest, omit_largest

_FIELDS: Final = 8
_MAX_BODY_BYTES: Final = MAX_ENVELOPE_BYTES - len(PLAIN_HEAD)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND: Final = timedelta(microseconds=1)
_QUEUE_ALONE: Final = [QUEUE]


def encode(envelope: Envelope, *, max_bytes: int = 1_048_576) -> bytes:
    """Return the envelope's bytes.

    When they would be more than ``max_bytes``, the largest values of the payload are replaced by
    markers that say so (:class:`~lback_relay.markers.Omitted`), as few as will do; so are those
    that hold so much that every reader would refuse the envelope.

    Args:
        envelope: its sender and payload hold plain data, snapshots and markers only.
        max_bytes: limit of the result.

    Raises:
        PayloadTooLarge: it is over the limit even so.
        EnvelopeError: the envelope holds something that was not projected.
    """
    named: dict[str, Any] = {}
    if envelope.trace:
        named["trace"] = dict(envelope.trace)
    if envelope.extra:
        named.update(envelope.extra)
    try:
        sent_at_us = (envelope.sent_at - _EPOCH) // _MICROSECOND
    except TypeError:
        raise EnvelopeError("sent_at has no time zone; make it aware") from None
    fields = [
        envelope.id, envelope.signal, envelope.sender, envelope.payload, sent_at_us,
        envelope.delivery, envelope.origin, named,
    ]  # fmt: skip
    return encode_fields(fields, max_bytes=max_bytes)


def encode_fields(fields: Sequence[Any], *, max_bytes: int, packable: bool = False) -> bytes:
    """Return the bytes of an envelope that nobody needs as an object, as most sends don't.

    Args:
        fields: the items of the array that ``docs/wire-format.md`` describes, in its order: the
            fourth is the payload; sender, payload and the last are as in an envelope.
        max_bytes: limit of the result.
        packable: the payload is known to consist of maps with texts for keys, lists, and values
            without parts, so that it need not be looked through.

    Errors: as of :func:`encode`.
    """
    signal, payload = fields[1], fields[3]
    encoded = PLAIN_HEAD + write(_pack_as_it_is if packable else _pack, fields, payload)
    full = len(encoded)
    if full <= max_bytes and (full <= UNCOUNTED_BYTES or not _problem(encoded)):
        return encoded
    smaller = payload
    if full > max_bytes:
        for smaller in omit_largest(payload, size=full, max_bytes=max_bytes):
            encoded = _encoded(fields, smaller)
            if len(encoded) <= max_bytes:
                break
    if _problem(encoded):
        for cheaper in omit_costliest(smaller):
            encoded = _encoded(fields, cheaper)
            if not _problem(encoded):
                break
    problem = _problem(encoded)
    if problem:
        raise PayloadTooLarge(
            f"an envelope of {signal!r} {problem}, even with its largest values omitted: "
            "send less (an id in place of the data)"
        )
    if len(encoded) <= max_bytes:
        return encoded
    raise PayloadTooLarge(
        f"an envelope of {signal!r} takes {full:,} bytes, and {len(encoded):,} with its "
        f"largest values omitted, but only {max_bytes:,} are allowed: raise "
        "RELAY_MAX_PAYLOAD_BYTES, or send less (an id in place of the data)"
    )


def decode(encoded: bytes) -> Envelope:
    """Return the envelope of these bytes, whoever wrote them: a signature is not verified here.

    Raises:
        PayloadEncrypted: it can't be read without a key.
        UnsupportedVersion: a newer version wrote them, or a feature is used that is not known here.
        MalformedEnvelope: they do not follow ``docs/wire-format.md``, or exceed its limits.
    """
    if encoded[:4] != PLAIN_HEAD:
        encoded = without_signature(encoded)
        if encoded[:4] != PLAIN_HEAD:
            refuse_header(encoded)
    return decode_body(encoded[4:])


def decode_body(body: bytes) -> Envelope:
    """Return the envelope of the bytes that follow the first four of an unsigned one.

    Raises:
        MalformedEnvelope: they do not follow ``docs/wire-format.md``, or exceed its limits.
    """
    try:  # once for each delivery: every call in here is felt
        if len(body) > _MAX_BODY_BYTES:
            raise MalformedEnvelope(
                f"the envelope takes {len(PLAIN_HEAD) + len(body):,} bytes; none may take more "
                f"than {MAX_ENVELOPE_BYTES:,}"
            )
        fields, all_finished = read_body(body)
        if len(fields) != _FIELDS:
            raise MalformedEnvelope(
                f"the envelope has {len(fields)} fields; {_FIELDS} are expected"
            )
        envelope_id, signal, sender, payload, sent_at, delivery, origin, named = fields
        if not (
            type(envelope_id) is str
            and type(signal) is str
            and type(payload) is dict
            and type(sent_at) is int
            and type(delivery) is list
            and (delivery == _QUEUE_ALONE or STRINGS.issuperset(map(type, delivery)))
            and type(origin) is str
            and type(named) is dict
        ):
            raise MalformedEnvelope("a field of the envelope is not of the type it must have")
        if not all_finished:
            sender, payload = finished(sender), finished(payload)
            finished(named)
        # tuple.__new__ spares the keyword handling of Envelope's own.
        return tuple.__new__(
            Envelope,
            (
                envelope_id,
                signal,
                sender,
                payload,
                _EPOCH + timedelta(0, 0, sent_at),
                tuple(delivery),
                origin,
                _trace_out_of(named) if named else {},
                named,
            ),
        )
    except MalformedEnvelope:
        raise
    except Exception as error:  # noqa: BLE001 - whatever is wrong is wrong with the bytes
        # The cause may quote a value, which must not reach a log.
        raise MalformedEnvelope(
            f"the envelope's bytes can't be read ({type(error).__name__}); see docs/wire-format.md"
        ) from None


def _trace_out_of(named: dict[str, Any]) -> dict[str, str]:
    trace: Any = named.pop("trace", None) or {}
    if (
        type(trace) is dict
        and STRINGS.issuperset(map(type, trace))
        and STRINGS.issuperset(map(type, trace.values()))
    ):
        return trace
    raise MalformedEnvelope("the envelope's trace is no map of text to text")


def _problem(encoded: bytes) -> str | None:
    """Return why every reader would refuse these bytes, to follow "the envelope …"."""
    return cost_of(encoded[4:]).problem() if len(encoded) > UNCOUNTED_BYTES else None


def _encoded(fields: Sequence[Any], payload: Mapping[str, Any]) -> bytes:
    return PLAIN_HEAD + write(_pack, fields, payload)


def _pack(writer: Writer, fields: Sequence[Any], payload: Mapping[str, Any]) -> bytes:
    return _pack_as_it_is(writer, fields, _named(writer, payload, fields[1]))


def _pack_as_it_is(writer: Writer, fields: Sequence[Any], payload: Mapping[str, Any]) -> bytes:
    envelope_id, signal, sender, _, sent_at_us, delivery, origin, named = fields
    return writer.pack(
        [
            envelope_id,
            signal,
            writer.prepared(sender, 1, "sender"),
            payload,
            sent_at_us,
            list(delivery),
            origin,
            _named(writer, named, signal) if named else {},
        ]
    )


def _named(writer: Writer, values: Mapping[str, Any], signal: str) -> dict[str, Any]:
    prepared = writer.mapping(values, 1, "")
    if type(prepared) is not dict:
        raise EnvelopeError(f"the payload of {signal!r} has a key that is no text; use names")
    return prepared
