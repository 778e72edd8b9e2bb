"""What building an envelope's values would take, counted before anything is built.

One pass over the msgpack tokens: lengths are held to the bytes that are there, nesting to its
limit, and each token is charged with the memory of the value that it becomes. Readers refuse what
is over a limit; writers leave values out until nothing is, by the same count, so that no envelope
of ours is refused. Knows no value, only tokens (:mod:`lback_relay.codec_tokens`). Memory is bytes.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from lback_relay.codec_extensions import MAX_DEPTH, MAX_LEAF_BYTES, SENDER
from lback_relay.codec_tokens import (
    ARRAY,
    BLOB,
    CODES,
    EXTENSION,
    HEADS,
    MAP,
    NAMED,
    NEVER,
    SIMPLE,
    SLOT,
    TEXT,
    UNKNOWN,
    map_memory,
)
from lback_relay.errors import MalformedEnvelope

MAX_TOKENS: Final = 42_000
"""Values, keys, and extension types of one envelope; a projection makes at most 40,000."""
MAX_EFFORT: Final = 20_000
"""Of all but plain numbers and texts: 1 for a list, map or date, 2 for a tuple, 6 for a row."""
FREE_MEMORY: Final = 900 * 1024
MEMORY_PER_BYTE: Final = 5
"""Above ``FREE_MEMORY``. Copies of the bytes while reading come on top: at most eight in all."""

_NAMED_TYPE: Final = 3_000


class Cost(NamedTuple):
    """What a body takes.

    Attributes:
        size: its bytes.
        memory: of its values; 8 times the size bounds what reading takes at its peak.
        tokens: how many.
        effort: of all but plain numbers and texts, in units of a list or date.

    Beyond a limit, all three are what had been counted when it was exceeded.
    """

    size: int
    memory: int
    tokens: int
    effort: int

    def problem(self) -> str | None:
        """Return which limit is exceeded, to follow "the envelope …"; None if none is."""
        if self.tokens > MAX_TOKENS:
            return f"holds more than {MAX_TOKENS:,} values and keys"
        if self.effort > MAX_EFFORT:
            return "holds more maps, lists, dates, snapshots and the like than one may"
        if self.memory > max(FREE_MEMORY, MEMORY_PER_BYTE * self.size):
            return f"would take far more memory than its {self.size:,} bytes: it holds small values"
        return None

    @property
    def share(self) -> float:
        """Return how much of what an envelope may take this is, beyond what its size allows."""
        beyond = (self.memory - MEMORY_PER_BYTE * self.size) / FREE_MEMORY
        return max(beyond, self.tokens / MAX_TOKENS, self.effort / MAX_EFFORT)

    def without(self, part: Cost) -> Cost:
        """Return what is left when a part is left out."""
        return Cost(*(whole - less for whole, less in zip(self, part, strict=True)))


def cost_of(data: bytes) -> Cost:  # noqa: PLR0912, PLR0915 - a call for each token costs double
    """Return what building the value that these bytes are would take.

    Counting ends where a limit is exceeded.

    Raises:
        MalformedEnvelope: they are not one value of msgpack, or nested too deep, or a map has a
            key that is no text.
    """
    tokens = memory = effort = position = 0
    end = len(data)
    most = max(FREE_MEMORY, MEMORY_PER_BYTE * end)
    left, in_map = 1, False
    keys: set[bytes] = set()
    names: set[tuple[int, bytes]] = set()
    # What to go on with when a container ends: (values left, whether of a map, end of the
    # extension type around it, whether that ends with the container).
    outer: list[tuple[int, bool, int, bool]] = []
    while True:
        while not left:
            if not outer:
                _check_end(position, end)
                return Cost(len(data), memory, tokens, effort)
            left, in_map, around, ends = outer.pop()
            if ends:
                _check_end(position, end)
                end = around
        if position >= end:
            raise _misfit()
        left -= 1
        tokens += 1
        head = data[position]
        kind, width, fixed = HEADS[head]
        is_key = in_map and left & 1

        if kind == SIMPLE and not is_key:
            position += width
            memory += fixed
            if tokens > MAX_TOKENS or memory > most:
                return Cost(len(data), memory, tokens, effort)
            continue
        start = position + 1
        if width:
            fixed = int.from_bytes(data[start : start + width], "big")
            start += width

        if kind == TEXT:
            position = start + fixed
            text = data[start:position]
            if is_key:
                if text in keys:  # keys that are alike become one
                    continue
                keys.add(text)
                memory += 100
            if fixed < 2:
                memory += SLOT
            elif text.isascii():
                memory += 57 + fixed
            else:
                memory += 84 + 4 * fixed
            if tokens > MAX_TOKENS or memory > most:
                return Cost(len(data), memory, tokens, effort)
            continue
        if is_key:
            raise MalformedEnvelope("a map of the envelope has a key that is no text")
        if tokens > MAX_TOKENS or effort > MAX_EFFORT or memory > most:
            return Cost(len(data), memory, tokens, effort)

        body_end = 0
        of_map = False
        if kind == ARRAY:
            position, count = start, fixed
            memory += 64
            effort += 1
        elif kind == MAP:
            position, count, of_map = start, 2 * fixed, True
            memory += map_memory(fixed)
            effort += 1
        elif kind == EXTENSION:
            body_end = start + 1 + fixed
            if body_end > end:
                raise _misfit()
            code = data[start]
            itself, each, more, has_parts = CODES.get(code, UNKNOWN)
            effort += more
            if has_parts:
                position, count = _array(data, start + 1, body_end)
                memory += SLOT + itself + each * count
                name = _text_at(data, position) if code in NAMED else None
            else:
                if fixed > MAX_LEAF_BYTES.get(code, fixed):
                    raise MalformedEnvelope(f"a value of extension type {code} is too long")
                position = body_end
                memory += SLOT + itself + each * fixed
                name = data[start + 1 : body_end] if code == SENDER else None
            if name is not None and (not name or (code, name) not in names):
                names.add((code, name))
                memory += _NAMED_TYPE  # each name makes a type
            if not has_parts:
                continue
        elif kind == BLOB:
            position = start + fixed
            memory += 41 + fixed
            continue
        else:
            raise _misfit()

        outer.append((left, in_map, end, body_end > 0))
        if len(outer) > MAX_DEPTH + 1:
            raise MalformedEnvelope(f"the envelope is nested deeper than {MAX_DEPTH} levels")
        left, in_map = count, of_map
        end = body_end or end


def _array(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Return where the items of an extension type's array begin, and how many they are."""
    kind, width, fixed = HEADS[data[start]] if start < end else (NEVER, 0, 0)
    if kind != ARRAY:
        raise MalformedEnvelope("the envelope holds another type where an array must be")
    start += 1
    if width:
        fixed = int.from_bytes(data[start : start + width], "big")
    return start + width, fixed


def _text_at(data: bytes, position: int) -> bytes:
    """Return a text of up to 255 bytes with its header; nothing if there is another token."""
    head = data[position : position + 1]
    if b"\xa0" <= head <= b"\xbf":
        return data[position : position + 1 + (head[0] & 0x1F)]
    if head == b"\xd9":
        return data[position : position + 2 + sum(data[position + 1 : position + 2])]
    return b""


def _check_end(position: int, end: int) -> None:
    if position != end:
        raise _misfit()


def _misfit() -> MalformedEnvelope:
    return MalformedEnvelope(
        "the envelope's bytes can't be read (their lengths don't fit); see docs/wire-format.md"
    )
