"""Values to msgpack: one pass by the packer for what is plain, and a step down for what is not.

The packer writes plain data by itself and asks for leaves (:func:`write_leaf`). Containers that
msgpack has no type for are prepared before it runs: each becomes an extension type around its own
packed parts. A container of plain data costs one set operation here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import msgpack

from lback_relay.codec_extensions import (
    FROZENSET,
    LEAF_WRITERS,
    MAP,
    MAX_DEPTH,
    MAX_SAME_HASHES,
    SET,
    STATEFUL,
    TUPLE,
    colliding,
    extension,
    write_leaf,
)
from lback_relay.enum_snapshot import EnumSnapshot
from lback_relay.markers import Omitted
from lback_relay.snapshot import ExceptionSnapshot, Snapshot

PLAIN: Final = frozenset([type(None), bool, *LEAF_WRITERS])
"""Types of which the packer takes the instances as they are, or asks for."""
_STRINGS: Final = frozenset([str])


class Writer:
    """Packs values. Used by one thread at a time: see :func:`write`."""

    __slots__ = ("_packer",)

    def __init__(self, unicode_errors: str | None = None) -> None:
        # strict_types: a tuple is no list, and an enum that is an int is no int.
        self._packer = msgpack.Packer(
            default=write_leaf, strict_types=True, unicode_errors=unicode_errors
        )

    def pack(self, value: object) -> bytes:
        """Return the bytes of a value that was prepared."""
        packed: bytes = self._packer.pack(value)
        return packed

    def prepared(self, value: object, depth: int, path: str) -> Any:
        """Return what the packer writes for this value.

        Args:
            value: plain data, a snapshot or a marker.
            depth: in how many arrays, maps and extension types it lies.
            path: its dotted path in the payload.
        """
        kind: Any = type(value)
        if kind in PLAIN:
            return value
        if kind is dict and depth < MAX_DEPTH:
            return self.mapping(value, depth, path)  # type: ignore[arg-type]
        prepare, leaf = _writers_of(kind)
        if prepare is not None:
            return (
                prepare(self, value, depth, path) if depth < MAX_DEPTH else _too_deep(path, value)
            )
        if leaf is not None:
            return leaf(value)
        return value  # the packer asks for it; what was not projected is refused there

    def mapping(self, value: Mapping[Any, Any], depth: int, path: str) -> Any:
        """Prepare a map; one with other keys than text becomes an extension type."""
        if not _STRINGS.issuperset(map(type, value)):
            value = {_plain_key(key): item for key, item in value.items()}
            if not _STRINGS.issuperset(map(type, value)):
                return self._pairs(value, depth, path)
        if PLAIN.issuperset(map(type, value.values())):
            return value if type(value) is dict else dict(value)
        below = depth + 1
        start = f"{path}." if path else ""
        changed = {}
        for name, item in value.items():
            kind = type(item)
            if kind in PLAIN:
                continue
            if kind is list and below < MAX_DEPTH and PLAIN.issuperset(map(type, item)):
                continue  # two calls spared for each list of plain values
            prepared = self.prepared(item, below, start + name)
            if prepared is not item:
                changed[name] = prepared
        if changed:  # few are: most of what lies in a map is packed as it is
            return {**value, **changed}
        return value if type(value) is dict else dict(value)

    def array(self, value: Sequence[Any], depth: int, path: str) -> Any:
        """Prepare a list, or the items of a tuple."""
        if PLAIN.issuperset(map(type, value)):
            return value if type(value) is list else list(value)
        below = depth + 1
        return [
            item if type(item) in PLAIN else self.prepared(item, below, f"{path}.{index}")
            for index, item in enumerate(value)
        ]

    def tuple(self, value: tuple[Any, ...], depth: int, path: str) -> Any:
        return extension(TUPLE, self.pack(self.array(value, depth, path)))

    def set(self, value: Collection[Any], depth: int, path: str) -> Any:
        if colliding(value):
            return _unreadable(path, value)
        return extension(SET, self._items_of_set(value, depth, path))

    def frozenset(self, value: Collection[Any], depth: int, path: str) -> Any:
        if colliding(value):
            return _unreadable(path, value)
        return extension(FROZENSET, self._items_of_set(value, depth, path))

    def state(self, value: Any, code: int, depth: int, path: str) -> Any:
        """Prepare what has a state: the extension type is an array of its parts."""
        below = depth + 1
        parts: list[Any] = []
        for part in value.relay_state():
            kind = type(part)
            if kind in PLAIN:
                parts.append(part)
            elif kind is dict:
                if not _STRINGS.issuperset(map(type, part)):
                    part = {_attribute_name(key): item for key, item in part.items()}  # noqa: PLW2901
                parts.append(self.mapping(part, below, path))
            elif kind is tuple:
                parts.append(self.array(part, below, path))
            elif isinstance(part, ExceptionSnapshot) and below >= MAX_DEPTH:
                parts.append(None)  # the end of an endless chain of causes
            else:
                parts.append(self.prepared(part, below, path))
        return extension(code, self.pack(parts))

    def enum(self, value: Any, code: int, depth: int, path: str) -> Any:
        """Prepare a member of an enum, whose value may be anything."""
        parts = [self.prepared(part, depth + 1, path) for part in value.relay_state()]
        return extension(code, self.pack(parts))

    def _pairs(self, value: Mapping[Any, Any], depth: int, path: str) -> Any:
        if colliding(value):
            return _unreadable(path, value)
        body = [part for pair in value.items() for part in pair]
        return extension(MAP, self.pack(self.array(body, depth, path)))

    def _items_of_set(self, value: Collection[Any], depth: int, path: str) -> bytes:
        # Sorted, so that equal sets have equal bytes in every process.
        packed = sorted(self.pack(item) for item in self.array([*value], depth, path))
        header: bytes = self._packer.pack_array_header(len(packed))
        return header + b"".join(packed)


_Prepare = Callable[[Writer, Any, int, str], Any]


def _stateful(kind: type, code: int) -> _Prepare:
    if issubclass(kind, EnumSnapshot):
        return lambda writer, value, depth, path: writer.enum(value, code, depth, path)
    return lambda writer, value, depth, path: writer.state(value, code, depth, path)


_CONTAINERS: Final[dict[type, _Prepare]] = {
    dict: Writer.mapping,
    MappingProxyType: Writer.mapping,
    list: Writer.array,
    tuple: Writer.tuple,
    set: Writer.set,
    frozenset: Writer.frozenset,
    **{kind: _stateful(kind, code) for kind, code in STATEFUL.items()},
}


@lru_cache(maxsize=1024)
def _writers_of(kind: type) -> tuple[_Prepare | None, Callable[[Any], Any] | None]:
    """Return what prepares, or else writes, values of a type: each snapshot has one of its own."""
    for base in kind.__mro__:
        prepare, leaf = _CONTAINERS.get(base), LEAF_WRITERS.get(base)
        if prepare is not None or leaf is not None:
            return prepare, leaf
    return None, None


_free: Final[list[Writer]] = []
_MAX_KEPT_BYTES: Final = 65_536


def write(pack: Callable[..., bytes], *arguments: Any) -> bytes:
    """Return what ``pack`` makes when it is called with a writer of its own and these arguments."""
    # A packer is worth keeping, and must never be entered twice: not by another thread, and not
    # by an OS signal's or a finalizer's code. Whoever works with one has taken it out.
    try:
        writer = _free.pop()
    except IndexError:
        writer = Writer()
    try:
        packed = pack(writer, *arguments)
    except UnicodeEncodeError:  # half of a surrogate pair: rare, and too slow to expect
        return pack(Writer("surrogatepass"), *arguments)
    if len(packed) <= _MAX_KEPT_BYTES:
        _free.append(writer)
    return packed


def _plain_key(key: object) -> object:
    return str.__str__(key) if isinstance(key, str) and not isinstance(key, EnumSnapshot) else key


def _attribute_name(key: object) -> str:
    return str.__str__(key) if isinstance(key, str) else repr(key)


def _too_deep(path: str, value: object) -> Omitted:
    reason = f"it lies deeper than {MAX_DEPTH} levels"
    return Omitted(path, type_name(value), reason, "send a flatter value")


def _unreadable(path: str, value: object) -> Omitted:
    reason = f"more than {MAX_SAME_HASHES} of its keys have the same hash, which readers refuse"
    return Omitted(path, type_name(value), reason, "send a list")


def type_name(value: object) -> str:
    """Return the dotted name of the type that a relayed value has or stands for."""
    if isinstance(value, Snapshot | EnumSnapshot):
        return value.relay_type
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{module}{kind.__qualname__}"
