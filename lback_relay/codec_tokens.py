"""What msgpack's tokens are by their first byte, and what the values that they become take.

Memory is bytes as CPython 3.10 to 3.13 take them on 64 bits, rounded up, with the place in the
container. For :mod:`lback_relay.codec_cost`.
"""

from __future__ import annotations

from typing import Final

from lback_relay import codec_extensions as codes

SLOT: Final = 8


def map_memory(pairs: int) -> int:
    """Return what a map takes besides its keys and values."""
    if pairs <= 10:
        return (80, 256, 388)[(pairs > 0) + (pairs > 5)]
    return max(668, 110 * pairs)


# What a token is by its first byte.
NEVER, SIMPLE, TEXT, ARRAY, MAP, BLOB, EXTENSION = range(7)


def _heads() -> list[tuple[int, int, int]]:
    """Return for each first byte of a token (kind, width, fixed).

    A simple one is of ``width`` bytes and takes ``fixed`` bytes of memory. Of the others ``width``
    bytes tell the length or count, or, if there are none, it is ``fixed``.
    """
    heads = [(NEVER, 0, 0)] * 256
    for head in (*range(0x80), 0xC0, 0xC2, 0xC3):
        heads[head] = (SIMPLE, 1, SLOT)
    for head in range(0xE0, 0x100):
        heads[head] = (SIMPLE, 1, 40)
    numbers = {0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9}
    numbers |= {0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9}
    for head, size in numbers.items():
        heads[head] = (SIMPLE, size, 44)
    for first, kind, count in ((0x80, MAP, 16), (0x90, ARRAY, 16), (0xA0, TEXT, 32)):
        for number in range(count):
            heads[first + number] = (kind, 0, number)
    for power in range(5):
        heads[0xD4 + power] = (EXTENSION, 0, 1 << power)
    for power in range(3):
        for first, kind in ((0xC4, BLOB), (0xC7, EXTENSION), (0xD9, TEXT)):
            heads[first + power] = (kind, 1 << power, 0)
    for power in range(2):
        heads[0xDC + power] = (ARRAY, 2 << power, 0)
        heads[0xDE + power] = (MAP, 2 << power, 0)
    return heads


HEADS: Final = _heads()

# Code -> memory of the value itself, memory for each byte of its body or item of its array,
# effort, whether the body is an array.
CODES: Final[dict[int, tuple[int, int, int, bool]]] = {
    codes.BIG_INT: (48, 2, 1, False),
    codes.DATETIME: (48, 4, 1, False),
    codes.DATE: (40, 0, 1, False),
    codes.TIME: (48, 4, 1, False),
    codes.TIMEDELTA: (72, 1, 1, False),
    codes.DECIMAL: (128, 2, 1, False),
    codes.UUID_: (100, 0, 1, False),
    codes.PATH: (320, 32, 2, False),
    codes.REDACTED: (150, 4, 1, False),
    codes.SENDER: (150, 4, 1, False),
    codes.TUPLE: (64, 8, 2, True),
    codes.SET: (320, 100, 2, True),
    codes.FROZENSET: (540, 120, 2, True),
    codes.MAP: (320, 110, 2, True),
    codes.OMITTED: (200, 0, 3, True),
    codes.REFERENCE: (350, 0, 3, True),
    codes.ENUM: (350, 0, 6, True),
    codes.INT_ENUM: (350, 0, 6, True),
    codes.TEXT_ENUM: (450, 0, 6, True),
    codes.EXCEPTION: (300, 0, 6, True),
    codes.ENTITY: (220, 0, 6, True),
    codes.REQUEST: (220, 0, 6, True),
    codes.RESPONSE: (220, 0, 6, True),
    codes.OBJECT: (220, 0, 6, True),
}
UNKNOWN: Final = (190, 1, 2, False)
NAMED: Final = frozenset([*codes.STATEFUL.values(), codes.REFERENCE])
