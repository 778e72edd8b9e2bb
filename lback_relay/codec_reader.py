"""Msgpack to values, for bytes that anybody may have written.

Nothing is imported, called or constructed by a name from the wire: each extension code has its
constructor in a table, and the constructor's arguments are checked. Unpacking is msgpack's; what
it leaves of extension types with parts is put together from the outside inwards, so that the depth
is known before anything is built. Any exception may come out; :func:`lback_relay.codec.decode`
makes one error of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

from lback_relay import codec_extensions as codes
from lback_relay.codec_cost import cost_of
from lback_relay.codec_extensions import (
    LEAF_READERS,
    MAX_DEPTH,
    STATEFUL,
    UNCOUNTED_BYTES,
    colliding,
    unknown,
    unpack_array,
)
from lback_relay.errors import MalformedEnvelope
from lback_relay.snapshot import ExceptionSnapshot

STRINGS: Final = frozenset([str])


class _Packed:
    """An extension type with parts, not looked into yet."""

    __slots__ = ("code", "data")

    def __init__(self, code: int, data: bytes) -> None:
        self.code = code
        self.data = data


SENT_AT: Final = 4
"""Where the time of sending lies in an envelope's array."""
_UINT64_MAX: Final = (1 << 64) - 1
_HOLDERS: Final = bytes([*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF])
"""The first bytes of arrays and maps. Source: msgpack's specification, as for bytes below."""
_PENDING: Final = frozenset([dict, list, _Packed])


def read_body(data: bytes) -> tuple[list[Any], bool]:
    """Return the items of the array that an envelope's body is, and whether they are finished.

    If not, :func:`finished` has to see each of them.
    """
    if len(data) > UNCOUNTED_BYTES:
        problem = cost_of(data).problem()
        if problem:
            raise MalformedEnvelope(f"the envelope {problem}")
    with_parts = False

    def extension(code: int, body: bytes) -> Any:
        nonlocal with_parts
        read = LEAF_READERS.get(code)
        if read is not None:
            return read(body)
        with_parts = True
        return _extension(code, body)

    items = unpack_array(data, extension)
    # Most envelopes are small and flat, and a few looks at the bytes are cheaper than one at each
    # value: without bytes no key is of another type than text, and what has few arrays and maps
    # can't be nested too deeply. A byte that only looks like one of these costs the longer way.
    finished = not (
        with_parts
        or ((0xC4 in data or 0xC5 in data or 0xC6 in data) and _may_hold_bytes(data, items))
        or len(data) - len(data.translate(None, _HOLDERS)) > MAX_DEPTH
    )
    return items, finished


def _may_hold_bytes(data: bytes, items: list[Any]) -> bool:
    """Tell whether what looks like the head of bytes lies elsewhere than in the time of sending.

    In one of sixteen envelopes it is a byte of that number.
    """
    sent_at = items[SENT_AT] if len(items) > SENT_AT else None
    if type(sent_at) is not int or not 0 <= sent_at <= _UINT64_MAX:
        return True
    number = sent_at.to_bytes(8, "big")
    return any(data.count(head) > number.count(head) for head in (0xC4, 0xC5, 0xC6))


def finished(item: Any, depth: int = 1) -> Any:
    """Return an item as it is to be, at a depth in its envelope; its own items are looked at."""
    kind = type(item)
    return _finished(item, kind, depth) if kind in _PENDING else item


def _extension(code: int, data: bytes) -> Any:
    read = LEAF_READERS.get(code)
    if read is not None:
        return read(data)
    return _Packed(code, data) if code in _BUILDERS else unknown(code, data)


def _finish_list(items: list[Any], depth: int) -> None:
    if _PENDING.isdisjoint(map(type, items)):
        return
    for index, item in enumerate(items):
        kind = type(item)
        if kind in _PENDING:
            items[index] = _finished(item, kind, depth + 1)


def _finish_dict(items: dict[Any, Any], depth: int) -> None:
    if not STRINGS.issuperset(map(type, items)):
        raise MalformedEnvelope("a map of the envelope has a key that is no text")
    if _PENDING.isdisjoint(map(type, items.values())):
        return
    below = depth + 1
    for key, item in items.items():
        kind = type(item)
        if kind not in _PENDING:
            continue
        if kind is list and below <= MAX_DEPTH and _PENDING.isdisjoint(map(type, item)):
            continue  # a call spared for each list of plain values
        items[key] = _finished(item, kind, below)


def _finished(item: Any, kind: type, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise MalformedEnvelope(f"the envelope is nested deeper than {MAX_DEPTH} levels")
    if kind is list:
        _finish_list(item, depth)
    elif kind is dict:
        _finish_dict(item, depth)
    else:
        data, item.data = item.data, b""  # not to hold one copy for each level
        body = unpack_array(data, _extension)
        del data
        _finish_list(body, depth)
        return _BUILDERS[item.code](body)
    return item


def _as_set(body: list[Any]) -> set[Any]:
    _check_hashes(body)
    return set(body)


def _as_map(body: list[Any]) -> dict[Any, Any]:
    keys = body[::2]
    _check_hashes(keys)
    return dict(zip(keys, body[1::2], strict=True))


def _check_hashes(keys: Collection[Any]) -> None:
    if colliding(keys):
        raise MalformedEnvelope("too many keys of the envelope have the same hash")


_Check = Callable[[Any], Any]


def _text(part: Any) -> Any:
    return part if type(part) is str else _misfit()


def _text_or_none(part: Any) -> Any:
    return None if part is None else _text(part)


def _map(part: Any) -> Any:
    return part if type(part) is dict else _misfit()


def _list(part: Any) -> Any:
    return tuple(part) if type(part) is list else _misfit()


def _list_or_none(part: Any) -> Any:
    return None if part is None else _list(part)


def _texts(part: Any) -> Any:
    return _list(part) if STRINGS.issuperset(map(type, part)) else _misfit()


def _cause(part: Any) -> Any:
    return part if part is None or isinstance(part, ExceptionSnapshot) else _misfit()


def _any(part: Any) -> Any:
    return part


def _misfit() -> Any:
    raise MalformedEnvelope("a part of an extension type is not of the type it must have")


def _builder(made: Callable[..., Any], shape: tuple[_Check, ...]) -> Callable[[list[Any]], Any]:
    def build(body: list[Any]) -> Any:
        return made(*[check(part) for check, part in zip(shape, body, strict=True)])

    return build


_ENUM: Final = (_text, _text_or_none, _any, _text)
_SHAPES: Final[dict[int, tuple[_Check, ...]]] = {
    codes.ENTITY: (_text, _map, _list_or_none),
    codes.REQUEST: (_text, _map),
    codes.RESPONSE: (_text, _map),
    codes.EXCEPTION: (_text, _list, _map, _texts, _cause),
    codes.OBJECT: (_text, _map),
    codes.ENUM: _ENUM,
    codes.INT_ENUM: _ENUM,
    codes.TEXT_ENUM: _ENUM,
}
_BUILDERS: Final[dict[int, Callable[[list[Any]], Any]]] = {
    codes.TUPLE: tuple,
    codes.SET: _as_set,
    codes.FROZENSET: lambda body: frozenset(_as_set(body)),
    codes.MAP: _as_map,
    **{code: _builder(kind, _SHAPES[code]) for kind, code in STATEFUL.items()},
}
