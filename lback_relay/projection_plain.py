"""How plain values are projected: texts, numbers, dates, bytes, paths, and collections of values.

Subclasses become what they extend (``markupsafe.Markup`` a str, ``OrderedDict`` a dict): a handler
need not have the class. Collections are copied, for the sender may change them later. A set of
anything but plain values comes as a list (a frozenset as a tuple), since snapshots hash badly. A
generator is never run.
"""

from __future__ import annotations

import datetime as dt
import pathlib
from collections import UserDict, deque
from collections.abc import Collection
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from lback_relay.enum_snapshot import EnumSnapshot
from lback_relay.markers import Omitted
from lback_relay.projection_keys import KEPT_KEYS, project_key
from lback_relay.projection_walk import (
    SHORT_PATH,
    ProjectFunction,
    Walk,
    is_secret_key,
    nested,
    plain_text,
    secrets_by_neighbours,
    stored_attributes,
    type_name,
)
from lback_relay.redaction import OAUTH_NAMES, is_secret_name, redact_bytes, redact_text

_MORE: Final = "…"
"""Key under which a mapping that was too large says how much is missing."""
_MAX_KNOWN_NAMES: Final = 32
_MAX_KNOWN_LENGTH: Final = 1024
_MAX_KNOWN_MAPS: Final = 512
_known_secrets: dict[tuple[str, ...], tuple[str, ...] | None] = {}
_STRINGS: Final = frozenset([str])


def as_it_is(_: Walk, value: Any, __: str) -> Any:
    """Project what is plain and can't change: it stays the same object."""
    return value


def _text(walk: Walk, value: str, path: str) -> Any:
    # str.__str__ makes a plain str of a subclass, and runs no code of the subclass.
    return walk.text(value if type(value) is str else str.__str__(value), path)


def _integer(_: Walk, value: int, __: str) -> int:
    return int.__add__(value, 0)


def _float(_: Walk, value: float, __: str) -> float:
    return float.__add__(value, 0.0)


def _decimal(_: Walk, value: Decimal, __: str) -> Decimal:
    return Decimal(Decimal.__str__(value))


def _uuid(_: Walk, value: UUID, __: str) -> UUID:
    return UUID(int=value.int)


def _timedelta(_: Walk, value: dt.timedelta, __: str) -> dt.timedelta:
    return dt.timedelta(value.days, value.seconds, value.microseconds)


def _date(_: Walk, value: dt.date, __: str) -> dt.date:
    return dt.date(value.year, value.month, value.day)


def _datetime(_: Walk, value: dt.datetime, __: str) -> dt.datetime:
    zone = value.tzinfo
    if type(value) is dt.datetime and _is_known(zone):
        return value
    return dt.datetime(
        value.year,
        value.month,
        value.day,
        value.hour,
        value.minute,
        value.second,
        value.microsecond,
        tzinfo=zone if _is_known(zone) else _fixed(value.utcoffset()),
        fold=value.fold,
    )


def _time(_: Walk, value: dt.time, __: str) -> dt.time:
    zone = value.tzinfo
    if type(value) is dt.time and _is_known(zone):
        return value
    return dt.time(
        value.hour,
        value.minute,
        value.second,
        value.microsecond,
        tzinfo=zone if _is_known(zone) else _fixed(value.utcoffset()),
        fold=value.fold,
    )


def _is_known(zone: dt.tzinfo | None) -> bool:
    return zone is None or type(zone) in (dt.timezone, ZoneInfo)


def _fixed(offset: dt.timedelta | None) -> dt.tzinfo | None:
    return None if offset is None else dt.timezone(offset)


def _path(walk: Walk, value: pathlib.PurePath, path: str) -> pathlib.PurePath:
    # Pure: whether the file exists is a question for the machine that sent it.
    pure = (
        pathlib.PureWindowsPath
        if isinstance(value, pathlib.PureWindowsPath)
        else pathlib.PurePosixPath
    )
    return pure(walk.text(str(value), path))


def _bytes(walk: Walk, value: Any, path: str) -> Any:
    with memoryview(value) as view:
        size = view.nbytes
        if size > walk.max_string_length:
            reason = f"its {size} bytes are more than max_string_length ({walk.max_string_length})"
            return Omitted(path, type_name(type(value)), reason)
        copied = view.tobytes()
    return copied if walk.is_revealed(path) else redact_bytes(copied)


@nested
def _list(walk: Walk, value: list[Any], path: str) -> Any:
    some = list.__getitem__(value, slice(0, walk.values_left))
    return project_items(walk, some, list.__len__(value), path)


@nested
def _tuple(walk: Walk, value: tuple[Any, ...], path: str) -> Any:
    some = tuple.__getitem__(value, slice(0, walk.values_left))
    if len(some) == 2:
        name = plain_text(some[0])
        if name is not None and is_secret_name(name):
            walk.values_left -= 2
            return walk.member(path, 0, some[0], False), walk.member(path, 1, some[1], True)
    return tuple(project_items(walk, some, tuple.__len__(value), path))


@nested
def _iterable(walk: Walk, value: Collection[Any], path: str) -> Any:
    return project_items(walk, tuple(islice(value, walk.values_left)), len(value), path)


@nested
def _set(walk: Walk, value: set[Any], path: str) -> Any:
    some = tuple(islice(set.__iter__(value), walk.values_left))
    items = project_items(walk, some, set.__len__(value), path)
    return set(items) if all(map(_is_plain_item, items)) else items


@nested
def _frozenset(walk: Walk, value: frozenset[Any], path: str) -> Any:
    some = tuple(islice(frozenset.__iter__(value), walk.values_left))
    items = project_items(walk, some, frozenset.__len__(value), path)
    return frozenset(items) if all(map(_is_plain_item, items)) else tuple(items)


def _is_plain_item(item: Any) -> bool:
    return type(item) in KEPT_KEYS or isinstance(item, tuple | frozenset | EnumSnapshot)


def project_items(
    walk: Walk, some: Collection[Any], count: int, path: str, first: int = 0
) -> list[Any]:
    """Project those of ``count`` items that are not too many; ``first`` is the first's index."""
    walk.values_left -= len(some)
    projected = [walk.member(path, index, item, False) for index, item in enumerate(some, first)]
    if count > len(some):
        projected.append(_too_many(f"{path}.{first + len(some)}", count - len(some)))
    return projected


@nested
def _dict(walk: Walk, value: dict[Any, Any], path: str) -> Any:
    # dict's own method, not the subclass's: a multi-value dict answers with one value of several.
    count = dict.__len__(value)
    if count <= min(_MAX_KNOWN_NAMES, walk.values_left) and walk.max_string_length >= SHORT_PATH:
        copied = dict.copy(value)
        secrets = secrets_of(copied)
        if secrets is not None:
            walk.values_left -= count
            walk.members(path, copied, secrets)
            return copied
    walk.packable = False  # a key may become something else than a text
    items = tuple(islice(dict.items(value), walk.values_left))
    walk.values_left -= len(items)
    named, by_neighbours = _named(walk, items)
    projected: dict[Any, Any] = {}
    for (name, texts, secret), (_, item) in zip(named, items, strict=True):
        while name in projected:  # two keys became the same text
            name = name + b"'" if type(name) is bytes else f"{name}'"  # noqa: PLW2901
        if by_neighbours and not by_neighbours.isdisjoint(texts):
            secret = True  # noqa: PLW2901
        projected[name] = walk.member(path, _shown(name), item, secret)
    if dict.__len__(value) > len(items):
        projected[_MORE] = _too_many(f"{path}.{_MORE}", dict.__len__(value) - len(items))
    return projected


def _named(
    walk: Walk, items: tuple[tuple[Any, Any], ...]
) -> tuple[list[tuple[Any, tuple[str, ...], bool]], frozenset[str]]:
    """Return each key as data, the texts it is judged by, and whether these name a secret.

    And, of all texts, those that are secrets because of the ones beside them.
    """
    short = min(SHORT_PATH, walk.max_string_length)
    named: list[tuple[Any, tuple[str, ...], bool]] = []
    beside: dict[str, Any] = {}  # exact texts: a key's own __hash__ and __eq__ must not run
    for key, item in items:
        if type(key) is str and len(key) <= short:
            name, secret = _known(key)
            named.append((name, (key,), secret))
            beside[key] = item
        else:
            name, texts = project_key(walk, key)
            named.append((name, texts, any(map(is_secret_name, texts))))
            if texts:
                beside[texts[0]] = item
    return named, frozenset(secrets_by_neighbours(beside))


def _shown(name: Any) -> str | int:
    """Return how a path names the item under a projected key."""
    if type(name) is str or type(name) is int:
        return name
    return name.decode("latin-1") if type(name) is bytes else "?"


def secrets_of(values: dict[Any, Any]) -> tuple[str, ...] | None:
    """Return which names of a map are those of secrets: most maps have the names of another one.

    None where that depends on the values, too, or where a name is no text, or has to be changed.
    """
    # The type first: a key's own __hash__ must not run.
    try:
        if not _STRINGS.issuperset(map(type, values)):
            return None
    except Exception:  # noqa: BLE001 - nor break the map, where it is its class's
        return None
    names = tuple(values)
    try:
        return _known_secrets[names]
    except KeyError:
        pass
    if len(names) > _MAX_KNOWN_NAMES or sum(map(len, names)) > _MAX_KNOWN_LENGTH:
        return None
    if len(_known_secrets) >= _MAX_KNOWN_MAPS:
        _known_secrets.clear()
    found = _known_secrets[names] = _secrets_among(names)
    return found


def _secrets_among(names: tuple[str, ...]) -> tuple[str, ...] | None:
    if not OAUTH_NAMES.isdisjoint(names):
        return None
    if any(len(name) > SHORT_PATH or redact_text(name) != name for name in names):
        return None
    by_neighbours = secrets_by_neighbours(dict.fromkeys(names))
    return tuple(name for name in names if is_secret_key(name, by_neighbours))


@lru_cache(maxsize=4096)
def _known(key: str) -> tuple[str, bool]:
    """Return a key as it is relayed, and whether its value is a secret: most keys come again."""
    return redact_text(key), is_secret_name(key)


def _mapping_proxy(walk: Walk, value: MappingProxyType[Any, Any], path: str) -> Any:
    return _dict(walk, value.copy(), path)


def _user_dict(walk: Walk, value: UserDict[Any, Any], path: str) -> Any:
    return walk.value(stored_attributes(value)["data"], path)


def _too_many(path: str, count: int) -> Omitted:
    return Omitted(
        path, "", f"{count} more values are too many to relay", "pass fewer, or their keys alone"
    )


EXACT: Final[dict[type, ProjectFunction]] = {
    type(None): as_it_is,
    bool: as_it_is,
    int: as_it_is,
    float: as_it_is,
    Decimal: as_it_is,
    UUID: as_it_is,
    dt.date: as_it_is,
    dt.timedelta: as_it_is,
    str: _text,
    dt.datetime: _datetime,
    dt.time: _time,
    bytes: _bytes,
    bytearray: _bytes,
    memoryview: _bytes,
    list: _list,
    tuple: _tuple,
    set: _set,
    frozenset: _frozenset,
    dict: _dict,
    deque: _iterable,
    type({}.keys()): _iterable,
    type({}.values()): _iterable,
    type({}.items()): _iterable,
    MappingProxyType: _mapping_proxy,
}
"""What is projected by its exact type."""

EXTENDED: Final[tuple[tuple[type, ProjectFunction], ...]] = (
    (str, _text),
    (int, _integer),
    (float, _float),
    (dict, _dict),
    (list, _list),
    (tuple, _tuple),
    (set, _set),
    (frozenset, _frozenset),
    (bytes, _bytes),
    (bytearray, _bytes),
    (dt.datetime, _datetime),  # before date, which it extends
    (dt.date, _date),
    (dt.time, _time),
    (dt.timedelta, _timedelta),
    (Decimal, _decimal),
    (UUID, _uuid),
    (pathlib.PurePath, _path),
    (UserDict, _user_dict),
)
"""What is projected by the type that it extends; the first that fits."""
