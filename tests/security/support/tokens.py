"""Envelopes that are made to hurt: as many of the costliest tokens as the limits let through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgpack

from lback_relay.codec_cost import (
    FREE_MEMORY,
    MAX_EFFORT,
    MAX_TOKENS,
    MEMORY_PER_BYTE,
    cost_of,
)

Token = Callable[[int], bytes]
"""Takes a number, and returns one value: the same for all, or another for each number."""

HEAD: Final = b"LR\x01\x00"
_AROUND: Final = b"\x98\xa2id\xa6signal\xc0\x81\xa1v%b\x00\x91\xa5queue\xa0\x80"


def envelope_around(value: bytes) -> bytes:
    """Return the bytes of an envelope with this value, in msgpack, for its payload."""
    return HEAD + _AROUND % value


def extension(code: int, body: bytes) -> bytes:
    packed: bytes = msgpack.packb(msgpack.ExtType(code, body))
    return packed


def _same(token: bytes) -> Token:
    return lambda _: token


def _snapshot(code: int, parts: int, rest: bytes, *, alike: bool) -> Token:
    def made(number: int) -> bytes:
        name = b"\xa5%05x" % (0 if alike else number)
        return extension(code, bytes([0x90 + parts]) + name + rest)

    return made


def nested(levels: int, around: Callable[[bytes], bytes], inside: bytes) -> bytes:
    """Return a value within as many others."""
    for _ in range(levels):
        inside = around(inside)
    return inside


_SNAPSHOTS: Final = {
    49: (3, b"\x80\xc0"),
    50: (2, b"\x80"),
    52: (5, b"\x90\x80\x90\xc0"),
    53: (3, b"\xa0\xa0"),
    54: (2, b"\x80"),
    55: (4, b"\xc0\xc0\xa0"),
    56: (4, b"\xc0\x01\xa0"),
    57: (4, b"\xc0\xa0\xa0"),
}

TOKENS: Final[dict[str, Token]] = {
    "small integers": _same(b"\x01"),
    "negative integers": _same(b"\xe0"),
    "16-bit integers": _same(b"\xcd\x10\x00"),
    "64-bit integers": _same(b"\xcf" + b"\xfe" * 8),
    "floats": _same(b"\xcb\x3f\xf1abcdef"),
    "empty lists": _same(b"\x90"),
    "lists of one": _same(b"\x91\xc0"),
    "empty maps": _same(b"\x80"),
    "maps of one": _same(b"\x81\xa1a\xc0"),
    "maps with keys of their own": lambda number: b"\x81\xa5%05x\xc0" % number,
    "maps of six": _same(b"\x86" + b"".join(b"\xa1%c\xc0" % c for c in b"abcdef")),
    "texts of two": _same(b"\xa2ab"),
    "texts of one wide character": _same(b"\xa4\xf0\x9f\x98\x80"),
    "wide texts": _same(b"\xa8abcd\xf0\x9f\x98\x80"),
    "bytes": _same(b"\xc4\x02ab"),
    "tuples": _same(extension(16, b"\x90")),
    "tuples of one": _same(extension(16, b"\x91\xc0")),
    "sets": _same(extension(17, b"\x90")),
    "frozensets": _same(extension(18, b"\x91\x01")),
    "sets of six": _same(extension(17, b"\x96\x01\x02\x03\x04\x05\x06")),
    "maps of pairs": _same(extension(19, b"\x92\x01\x01")),
    "big integers": _same(extension(1, b"\x01" * 9)),
    "datetimes": _same(extension(2, b"2026-01-02")),
    "datetimes with offsets": lambda number: extension(
        2,
        b"2026-01-02T03:04:05.123456+%02d:%02d:%02d"
        % (number // 3600 % 23, number // 60 % 60, number % 60),
    ),
    "dates": _same(extension(3, b"2026-01-02")),
    "times": _same(extension(4, b"03:04")),
    "timedeltas": _same(extension(5, b"1")),
    "decimals": _same(extension(6, b"1")),
    "UUIDs": _same(extension(7, bytes(16))),
    "paths": _same(extension(8, b"p")),
    "paths of many parts": lambda number: extension(8, b"P" + b"/%x" % number * 9),
    "redacted": _same(extension(32, b"")),
    "redacted paths": lambda number: extension(32, b"%x" % number),
    "omitted": _same(extension(33, b"\x94\xa0\xa0\xa0\xa0")),
    "omitted paths": lambda number: extension(33, b"\x94\xa5%05x\xa0\xa0\xa0" % number),
    "unknown extensions": _same(extension(99, b"")),
    "timestamps": _same(b"\xd6\xff\x00\x00\x00\x01"),
    "senders": _same(extension(48, b"m.Sender")),
    "senders' names": lambda number: extension(48, b"%05x" % number),
    **{
        f"snapshots {code}{'' if alike else ', named'}": _snapshot(code, *shape, alike=alike)
        for code, shape in _SNAPSHOTS.items()
        for alike in (True, False)
    },
}


def array(items: list[bytes]) -> bytes:
    return b"\xdd" + len(items).to_bytes(4, "big") + b"".join(items)


def text(size: int, end: str = "") -> bytes:
    content = b"a" * (size - len(end.encode())) + end.encode()
    return b"\xdb" + len(content).to_bytes(4, "big") + content


def as_many(token: Token, size: int) -> bytes:
    """Return an envelope of about ``size`` bytes with as many tokens as it may hold.

    What they leave of the size is one long text, which allows for more of them.
    """

    def made(count: int) -> bytes:
        items = [token(number) for number in range(count)]
        filled = sum(map(len, items))
        return envelope_around(array([*items, text(max(1, size - filled))]))

    def body(count: int) -> bytes:
        return made(count)[len(HEAD) :]

    few = 200
    more, less = cost_of(body(2 * few)), cost_of(body(few))
    each = more.without(less)
    limits = (
        size * few / len(b"".join(map(token, range(few)))),
        max(FREE_MEMORY, MEMORY_PER_BYTE * size) * few / each.memory,
        MAX_TOKENS * few / each.tokens,
        MAX_EFFORT * few / max(1, each.effort),
    )
    count = int(min(limits))
    while count > few and cost_of(body(count)).problem():
        count -= count // 100
    return made(count)


def refused(size: int) -> Iterator[tuple[str, bytes]]:
    """Yield (name, envelope): nothing but one kind of token, more than may be."""
    for name, token in TOKENS.items():
        count = size // len(token(0))
        yield name, envelope_around(array([token(number) for number in range(count)]))
