"""The wire format's extension types, its limits, and the values of one piece among them.

A leaf is a value whose extension body is not msgpack again: a number, an instant, a path. Those
with parts (tuples, snapshots …) are written and read by :mod:`lback_relay.codec_writer` and
:mod:`lback_relay.codec_reader`. Codes never change their meaning; a new shape gets a new code.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, Final
from uuid import UUID, SafeUUID

import msgpack
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

MAX_ENVELOPE_BYTES: Final = 16 * 1024 * 1024
"""To read; what ``max_payload_bytes`` may be at most."""
MAX_DEPTH: Final = 64
"""How deep arrays, maps and extension types may lie in each other."""

MAX_SAME_HASHES: Final = 100
"""How many keys of a map, or items of a set, may have the hash of another one."""

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

STATEFUL: Final[dict[type, int]] = {
    EntitySnapshot: ENTITY,
    RequestSnapshot: REQUEST,
    ResponseSnapshot: RESPONSE,
    ExceptionSnapshot: EXCEPTION,
    ObjectSnapshot: OBJECT,
    EnumSnapshot: ENUM,
    IntEnumSnapshot: INT_ENUM,
    TextEnumSnapshot: TEXT_ENUM,
}
"""Types whose extension body is an array of what ``relay_state()`` returns."""

_SURROGATES: Final = "surrogatepass"
_INT64_MIN: Final = -(1 << 63)
_UINT64_MAX: Final = (1 << 64) - 1

MAX_LEAF_BYTES: Final = {
    BIG_INT: 1024,  # 2,466 digits: more than 4,300 Python does not print
    DATETIME: 64,
    DATE: 64,
    TIME: 64,
    TIMEDELTA: 64,
    DECIMAL: 1024,
    UUID_: 16,
    PATH: 4096,  # what an operating system opens
}
"""Extension codes to the longest body of those whose values cost more than their bytes."""
UNCOUNTED_BYTES: Final = 4096
"""What is longer is counted by :mod:`lback_relay.codec_cost` before it is built."""

_MAX_KNOWN: Final = 512
_MAX_REMEMBERED: Final = 1024
_MAX_UNCHECKED_BYTES: Final = 1024

_new_tuple = tuple.__new__


def unpack_array(data: bytes, ext_hook: Callable[[int, bytes], Any]) -> list[Any]:
    """Return the items of the array that these bytes are.

    Args:
        data: msgpack from anybody.
        ext_hook: makes a value of an extension type's code and body.

    Raises:
        Exception: any, if they are something else.
    """
    if _MAX_UNCHECKED_BYTES < len(data) <= UNCOUNTED_BYTES:
        # A list is made as long as its header says, before its items are there: many headers in
        # each other would take gigabytes. Skipping makes nothing and finds that the items lack.
        unpacker = msgpack.Unpacker(max_buffer_size=len(data))
        unpacker.feed(data)
        unpacker.skip()
    items = msgpack.unpackb(
        data, ext_hook=ext_hook, unicode_errors=_SURROGATES, timestamp=3, strict_map_key=True
    )
    if type(items) is not list:
        raise MalformedEnvelope("the envelope holds another type where an array must be")
    return items


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
    if size > MAX_LEAF_BYTES[BIG_INT]:
        return _too_long("int", BIG_INT)
    return extension(BIG_INT, value.to_bytes(size, "big", signed=True))


def _from_decimal(value: Decimal) -> ExtType:
    text = Decimal.__str__(value).encode("ascii")
    if len(text) > MAX_LEAF_BYTES[DECIMAL]:
        return _too_long("decimal.Decimal", DECIMAL)
    return extension(DECIMAL, text)


def _too_long(type_name: str, code: int) -> ExtType:
    reason = f"it takes more than {MAX_LEAF_BYTES[code]:,} bytes"
    return _from_omitted(Omitted("", type_name, reason, "send it as text"))


def _from_timedelta(value: timedelta) -> ExtType:
    microseconds = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
    return extension(TIMEDELTA, b"%d" % microseconds)


def _from_path(value: PurePath) -> ExtType:
    kind = "w" if isinstance(value, PureWindowsPath) else "p"
    if isinstance(value, Path):
        kind = kind.upper()
    text = _text(kind + str(value))
    if len(text) > MAX_LEAF_BYTES[PATH]:
        return _too_long("pathlib.PurePath", PATH)
    return extension(PATH, text)


def _text(value: str) -> bytes:
    return value.encode("utf-8", _SURROGATES)


def _from_text(code: int, text: str) -> ExtType:
    return extension(code, _text(text))


def _from_texts(code: int, texts: tuple[str, ...]) -> ExtType:
    return extension(code, msgpack.packb(texts, unicode_errors=_SURROGATES))


# Markers and senders are the same in every envelope of a signal, and can't change.
_known_text: Final = lru_cache(maxsize=1024)(_from_text)
_known_texts: Final = lru_cache(maxsize=1024)(_from_texts)


def _from_redacted(value: Redacted) -> ExtType:
    path = value.relay_path
    return (_known_text if len(path) <= _MAX_KNOWN else _from_text)(REDACTED, path)


def _from_sender(value: SenderSnapshot) -> ExtType:
    name = value.relay_type
    return (_known_text if len(name) <= _MAX_KNOWN else _from_text)(SENDER, name)


def _from_omitted(value: Omitted) -> ExtType:
    texts = value.relay_state()
    known = sum(map(len, texts)) <= _MAX_KNOWN
    return (_known_texts if known else _from_texts)(OMITTED, texts)


LEAF_WRITERS: Final[dict[type, Callable[[Any], Any]]] = {
    int: _from_int,
    datetime: lambda value: _new_tuple(ExtType, (DATETIME, datetime.isoformat(value).encode())),
    date: lambda value: extension(DATE, date.isoformat(value).encode()),
    time: lambda value: extension(TIME, time.isoformat(value).encode()),
    timedelta: _from_timedelta,
    Decimal: _from_decimal,
    UUID: lambda value: extension(UUID_, value.bytes),
    PurePosixPath: _from_path,
    PureWindowsPath: _from_path,
    PosixPath: _from_path,
    WindowsPath: _from_path,
    UnknownValue: lambda value: extension(value.relay_code, value.relay_data),
    Redacted: _from_redacted,
    Omitted: _from_omitted,
    SenderSnapshot: _from_sender,
    ReferenceSnapshot: lambda value: _from_texts(REFERENCE, value.relay_state()),
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
    writer = LEAF_WRITERS.get(type(value))
    if writer is not None:
        return writer(value)
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
    return (concrete if text[0].isupper() and concrete is _OWN_PATH else pure)(text[1:])


def _to_text(data: bytes) -> str:
    return data.decode("utf-8", _SURROGATES)


def _to_texts(data: bytes, count: int) -> list[str]:
    texts = unpack_array(data, ExtType)
    if len(texts) == count and all(type(text) is str for text in texts):
        return texts
    raise MalformedEnvelope(f"an extension type holds no array of {count} texts")


def _to_sender(data: bytes) -> SenderSnapshot:
    made: SenderSnapshot = SenderSnapshot(_to_text(data))
    return made


def _to_omitted(data: bytes) -> Omitted:
    return Omitted(*_to_texts(data, 4))


class _Remembered(dict[bytes, Any]):
    """What short bodies were read as: the same few markers and senders come again and again.

    Args:
        read: reads a body that is met for the first time.
    """

    def __init__(self, read: Callable[[bytes], Any]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, data: bytes) -> Any:
        value = self._read(data)
        if len(data) <= _MAX_KNOWN:
            if len(self) >= _MAX_REMEMBERED:
                self.clear()
            self[data] = value
        return value


def _to_uuid(data: bytes) -> UUID:
    if len(data) != 16:
        raise MalformedEnvelope("a UUID of the envelope has not 16 bytes")
    # Its constructor takes three times as long; these two are all that it sets.
    made = object.__new__(UUID)
    object.__setattr__(made, "int", int.from_bytes(data, "big"))
    object.__setattr__(made, "is_safe", SafeUUID.unknown)
    return made


def _limited(code: int, read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def limited(data: bytes) -> Any:
        if len(data) > MAX_LEAF_BYTES[code]:
            raise MalformedEnvelope(f"a value of extension type {code} is too long")
        return read(data)

    return limited


_OWN_PATH: Final = type(Path())
_PATHS: Final[dict[str, tuple[type[PurePath], type[PurePath]]]] = {
    "p": (PurePosixPath, PosixPath),
    "w": (PureWindowsPath, WindowsPath),
}

LEAF_READERS: Final[dict[int, Callable[[bytes], Any]]] = {
    BIG_INT: _limited(BIG_INT, lambda data: int.from_bytes(data, "big", signed=True)),
    DATETIME: lambda data: datetime.fromisoformat(data.decode("ascii")),
    DATE: lambda data: date.fromisoformat(data.decode("ascii")),
    TIME: lambda data: time.fromisoformat(data.decode("ascii")),
    TIMEDELTA: lambda data: timedelta(microseconds=int(data)),
    DECIMAL: _limited(DECIMAL, lambda data: Decimal(data.decode("ascii"))),
    UUID_: _to_uuid,
    PATH: _to_path,
    REDACTED: _Remembered(lambda data: Redacted(_to_text(data))).__getitem__,
    OMITTED: _Remembered(_to_omitted).__getitem__,
    SENDER: _Remembered(_to_sender).__getitem__,
    REFERENCE: lambda data: ReferenceSnapshot(*_to_texts(data, 3)),
}


def colliding(keys: Collection[Any]) -> bool:
    """Return whether a table of these keys would be slow, as it is when they were chosen for it.

    The hashes of numbers are easy to make equal; those of text are not.
    """
    return len(keys) - len({hash(key) for key in keys}) > MAX_SAME_HASHES


def unknown(code: int, data: bytes) -> UnknownValue:
    """Return what stands for a value of an extension type that is not known here.

    Raises:
        MalformedEnvelope: msgpack keeps the negative codes for itself.
    """
    if code < 0:
        raise MalformedEnvelope(f"the envelope uses msgpack's reserved extension type {code}")
    return UnknownValue(code, data)
