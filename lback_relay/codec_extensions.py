"""The wire format's extension types, its limits, and the values of one piece among them.

A leaf is a value whose extension body is not msgpack again: a number, an instant, a path. Those
with parts (tuples, snapshots …) are written and read by :mod:`lback_relay.codec_writer` and
:mod:`lback_relay.codec_reader`. Codes never change their meaning; a new shape gets a new code.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, Final
from uuid import UUID

from msgpack import ExtType

from lback_relay.errors import EnvelopeError, MalformedEnvelope
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

MAX_ENVELOPE_BYTES: Final = 32 * 1024 * 1024
MAX_DEPTH: Final = 64
"""How deep arrays, maps and extension types may lie in each other."""

BIG_INT: Final = 1
DATETIME: Final = 2
DATE: Final = 3
TIME: Final = 4
TIMEDELTA: Final = 5
DECIMAL: Final = 6
UUID_: Final = 7
PATH: Final = 8
TUPLE: Final = 16
SET: Final = 17
FROZENSET: Final = 18
MAP: Final = 19
REDACTED: Final = 32
OMITTED: Final = 33
SENDER: Final = 48
ENTITY: Final = 49
REQUEST: Final = 50
RESPONSE: Final = 51
EXCEPTION: Final = 52
REFERENCE: Final = 53
OBJECT: Final = 54
ENUM: Final = 55
INT_ENUM: Final = 56
TEXT_ENUM: Final = 57

CODES: Final[dict[type, int]] = {
    Redacted: REDACTED,
    Omitted: OMITTED,
    SenderSnapshot: SENDER,
    EntitySnapshot: ENTITY,
    RequestSnapshot: REQUEST,
    ResponseSnapshot: RESPONSE,
    ExceptionSnapshot: EXCEPTION,
    ReferenceSnapshot: REFERENCE,
    ObjectSnapshot: OBJECT,
    EnumSnapshot: ENUM,
    IntEnumSnapshot: INT_ENUM,
    TextEnumSnapshot: TEXT_ENUM,
}
"""Snapshots and markers: the body is an array of what ``relay_state()`` returns."""

_SURROGATES: Final = "surrogatepass"
_INT64_MIN: Final = -(1 << 63)
_UINT64_MAX: Final = (1 << 64) - 1

_new_tuple = tuple.__new__


def extension(code: int, data: bytes) -> ExtType:
    """Return what the packer writes as an extension type."""
    # ExtType's own constructor checks what is right here, and takes four times as long.
    made: ExtType = _new_tuple(ExtType, (code, data))
    return made


def _from_int(value: int) -> Any:
    value = int.__index__(value)
    if _INT64_MIN <= value <= _UINT64_MAX:
        return value  # of a subclass of int
    size = value.bit_length() // 8 + 1
    return extension(BIG_INT, value.to_bytes(size, "big", signed=True))


def _from_timedelta(value: timedelta) -> ExtType:
    microseconds = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
    return extension(TIMEDELTA, b"%d" % microseconds)


def _from_path(value: PurePath) -> ExtType:
    kind = "w" if isinstance(value, PureWindowsPath) else "p"
    if isinstance(value, Path):
        kind = kind.upper()
    return extension(PATH, (kind + str(value)).encode("utf-8", _SURROGATES))


LEAF_WRITERS: Final[dict[type, Callable[[Any], Any]]] = {
    int: _from_int,
    datetime: lambda value: extension(DATETIME, datetime.isoformat(value).encode("ascii")),
    date: lambda value: extension(DATE, date.isoformat(value).encode("ascii")),
    time: lambda value: extension(TIME, time.isoformat(value).encode("ascii")),
    timedelta: _from_timedelta,
    Decimal: lambda value: extension(DECIMAL, Decimal.__str__(value).encode("ascii")),
    UUID: lambda value: extension(UUID_, value.bytes),
    PurePosixPath: _from_path,
    PureWindowsPath: _from_path,
    PosixPath: _from_path,
    WindowsPath: _from_path,
    UnknownValue: lambda value: extension(value.relay_code, value.relay_data),
    # Subclasses of plain types lose their class; the packer asks for these only.
    str: str.__str__,
    float: float.__float__,
    bytes: bytes,
    bytearray: bytes,
}


def write_leaf(value: object) -> Any:
    """Return what the packer can write for a value that it has no type for.

    Raises:
        EnvelopeError: nothing but live objects come here otherwise: the value was not projected.
    """
    for kind in type(value).__mro__:
        writer = LEAF_WRITERS.get(kind)
        if writer is not None:
            return writer(value)
    raise EnvelopeError(
        f"a value of type {type(value).__module__}.{type(value).__qualname__} can't be encoded; "
        "let Projection make the payload"
    )


def _to_path(data: bytes) -> PurePath:
    text = data.decode("utf-8", _SURROGATES)
    pure, concrete = _PATHS[text[:1].lower()]
    # The other system's paths can be read here, not opened.
    return (concrete if text[0].isupper() and isinstance(Path(), concrete) else pure)(text[1:])


_PATHS: Final[dict[str, tuple[type[PurePath], type[PurePath]]]] = {
    "p": (PurePosixPath, PosixPath),
    "w": (PureWindowsPath, WindowsPath),
}

LEAF_READERS: Final[dict[int, Callable[[bytes], Any]]] = {
    BIG_INT: lambda data: int.from_bytes(data, "big", signed=True),
    DATETIME: lambda data: datetime.fromisoformat(data.decode("ascii")),
    DATE: lambda data: date.fromisoformat(data.decode("ascii")),
    TIME: lambda data: time.fromisoformat(data.decode("ascii")),
    TIMEDELTA: lambda data: timedelta(microseconds=int(data)),
    DECIMAL: lambda data: Decimal(data.decode("ascii")),
    UUID_: lambda data: UUID(bytes=data),
    PATH: _to_path,
}


def unknown(code: int, data: bytes) -> UnknownValue:
    """Return what stands for a value of an extension type that is not known here.

    Raises:
        MalformedEnvelope: msgpack keeps the negative codes for itself.
    """
    if code < 0:
        raise MalformedEnvelope(f"the envelope uses msgpack's reserved extension type {code}")
    return UnknownValue(code, data)
