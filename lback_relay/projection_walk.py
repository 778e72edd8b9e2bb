"""One walk through one payload: what is a secret, what is revealed, and how much is enough.

Knows no type but text: what becomes of a value of each type is decided by the functions that
:mod:`lback_relay.projection` looks up, each of which gets the walk, the value and its path. Limits
are counts of characters and of values; paths are names with dots between them, an index for an
item of a list: ``user.password``, ``users.0.password``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import NoneType
from typing import Any, Final
from uuid import UUID

from lback_relay.markers import Omitted, Redacted
from lback_relay.redaction import (
    OAUTH_NAMES,
    is_oauth_exchange,
    is_secret_name,
    looks_random,
    may_hold_secrets,
    redact_text,
)

ProjectFunction = Callable[["Walk", Any, str], Any]
"""Takes the walk, a live value and its path; returns plain data, a snapshot or a marker."""

MAX_DEPTH: Final = 32
MAX_VALUES: Final = 20_000
"""Items of all collections of one payload; shared ones count each time they are met."""
MAX_CHARACTERS: Final = 16 * 1_048_576
"""Characters of all long texts of one payload."""

_ATOMS: Final = frozenset({NoneType, bool, int, float, Decimal, UUID, date, timedelta})
_FEW: Final = 64
# What a map may hold to be looked at as a whole.
_AT_ONCE: Final = _ATOMS | {str, Redacted}
# Of what a function may return, what a codec takes as it is, given that its parts are such, too.
_PACKABLE: Final = _AT_ONCE | {dict, list, bytes, datetime, time, Omitted}
# Types that hold nothing that could be revealed by a longer path.
_LEAVES: Final = (
    *(str, bytes, bytearray, memoryview, int, float, complex, Decimal, UUID),
    *(date, time, timedelta, PurePath, Enum),
)
_SHORT: Final = 1024
_OVERLAP: Final = 1024  # longest secret that must be seen whole to be known as one


class Walk:
    """The state of one walk. Not for two threads at once, nor for two payloads.

    Args:
        find: returns the function for a type.
        reveal: lower-case paths that are relayed though they look secret.
        opened: lower-case paths that lead to one of these.
        max_string_length: characters of one text; the rest is cut and marked.

    Attributes:
        packable: whether all that was projected consists of maps with texts for keys, lists, and
            values without parts: what most serializers take as it is.
    """

    __slots__ = (
        "_characters_left",
        "_find",
        "_opened",
        "_reveal",
        "_sealed",
        "_short",
        "active",
        "max_string_length",
        "packable",
        "values_left",
    )

    def __init__(
        self,
        find: Callable[[type], ProjectFunction],
        reveal: frozenset[str],
        opened: frozenset[str],
        max_string_length: int,
    ) -> None:
        self._find = find
        self._reveal = reveal
        self._opened = opened
        self._sealed = False
        self._short = min(_SHORT, max_string_length)
        self._characters_left = MAX_CHARACTERS
        self.max_string_length = max_string_length
        self.packable = True
        self.values_left = MAX_VALUES
        self.active: set[int] = set()

    def member(self, path: str, name: object, value: Any, secret: bool) -> Any:
        """Project the value that an object or collection at ``path`` holds under ``name``.

        None and booleans tell no secret and stay, so that ``if user.auth_token is None`` works.
        """
        kind = type(value)
        try:
            if kind is str and not (secret or self._sealed or self._reveal):
                return redact_text(value) if len(value) <= self._short else self._clean(value)
            if kind is NoneType or kind is bool:
                return value
            if secret or self._sealed:
                return self._secret(f"{path}.{name}" if path else str(name), value)
            if kind in _ATOMS or (kind is datetime and value.tzinfo is None):
                return value
        except Exception as error:  # noqa: BLE001 - even a class may be hostile
            return _unreadable(f"{path}.{name}" if path else str(name), kind, error)
        return self.value(value, f"{path}.{name}" if path else str(name))

    def members(self, path: str, values: dict[str, Any], secrets: Collection[str]) -> None:
        """Project in place what an object or collection at ``path`` holds.

        Args:
            path: of what holds them.
            values: the live values by name, in a dict of the caller's own.
            secrets: those of the names whose values are secrets.
        """
        for name in secrets:
            values[name] = self.member(path, name, values[name], True)
        if self._sealed or self._reveal:
            for name, value in values.items():
                if name not in secrets:
                    values[name] = self.member(path, name, value, False)
            return
        # Most maps hold numbers, short harmless texts and lists of such: a few looks at all of them
        # will do.
        texts = [value for value in values.values() if type(value) is str]
        try:
            rest = [name for name, value in values.items() if type(value) not in _AT_ONCE]
        except Exception:  # noqa: BLE001 - a class's own hash may raise
            rest = [name for name, value in values.items() if not _is_clean(type(value))]
        lists = {}
        for name in rest:
            copied = self._texts_of(values[name])
            if copied is not None:
                self.values_left -= len(copied)
                lists[name] = copied
                texts += copied
        joined = "\n".join(texts)
        if len(joined) > self._short or (joined and may_hold_secrets(joined)):
            self.values_left += sum(map(len, lists.values()))
            lists.clear()
            for name, value in values.items():
                if type(value) is str:
                    values[name] = self._clean(value)
        for name in rest:
            values[name] = (
                lists[name] if name in lists else self.member(path, name, values[name], False)
            )

    def _texts_of(self, value: Any) -> list[Any] | None:
        """Return a copy of a list that holds a few texts only; None for anything else."""
        if type(value) is not list or len(self.active) >= MAX_DEPTH:
            return None
        copied = value[: min(_FEW, self.values_left)]
        if len(copied) < len(value):
            return None
        for item in copied:  # not by a set of types: a class's own hash may do anything
            if type(item) is not str:
                return None
        return copied

    def _secret(self, path: str, value: Any) -> Any:
        if self.is_revealed(path):
            before, self._sealed = self._sealed, False
            try:
                return self.value(value, path)
            finally:
                self._sealed = before
        if path.lower() in self._opened and not issubclass(type(value), _LEAVES):
            return self.sealed(value, path)
        return _redacted(path) if len(path) <= SHORT_PATH else Redacted(path)

    def sealed(self, value: Any, path: str) -> Any:
        """Project a value of which everything is a secret but what is revealed by its path."""
        before, self._sealed = self._sealed, True
        try:
            return self.value(value, path)
        finally:
            self._sealed = before

    def value(self, value: Any, path: str) -> Any:
        """Project any value. Never raises: what can't be read is an Omitted marker."""
        kind = type(value)
        try:
            projected = self._find(kind)(self, value, path)
        except Exception as error:  # noqa: BLE001 - a hostile object must not break the sender
            return _unreadable(path, kind, error)
        if type(projected) not in _PACKABLE:
            self.packable = False
        return projected

    def is_revealed(self, path: str) -> bool:
        """Return whether the value at this path is relayed as it is."""
        return bool(self._reveal) and path.lower() in self._reveal

    def is_named(self, path: str) -> bool:
        """Return whether something is revealed at this path, or within what lies there."""
        return bool(self._reveal) and (path.lower() in self._reveal or path.lower() in self._opened)

    def text(self, value: str, path: str) -> str:
        """Return the text without what looks like a secret, cut where it is too long."""
        if self.is_revealed(path):
            return self._cut(value, value)
        return self._clean(value)

    def _clean(self, value: str) -> str:
        if len(value) <= self._short:
            return redact_text(value)
        # A little more than what will be left: a secret across the cut must be seen whole.
        window = value[: self.max_string_length + _OVERLAP]
        clean = redact_text(window)
        if len(window) < len(value):
            clean = clean[: max(0, len(clean) - _OVERLAP)]
        return self._cut(clean, value)

    def _cut(self, clean: str, original: str) -> str:
        limit = min(self.max_string_length, self._characters_left)
        if len(original) > _SHORT:
            self._characters_left -= min(limit, len(clean))
        if len(original) <= limit:
            return clean
        return f"{clean[:limit]}… [cut by lback_relay: {len(original)} characters]"


def _is_clean(kind: type) -> bool:
    return kind is str or kind is Redacted  # not by ==, which may be the class's own


def _unreadable(path: str, kind: type, error: Exception) -> Omitted:
    return Omitted(path, type_name(kind), f"reading it raised {type(error).__name__}")


# Markers can't change, and the same few are wanted for each signal. Long paths hold keys of data.
_redacted = functools.lru_cache(maxsize=1024)(Redacted)
SHORT_PATH: Final = 100


def nested(function: ProjectFunction) -> ProjectFunction:
    """Make the function of something that holds others stop at cycles and at a depth."""

    @functools.wraps(function)
    def guarded(walk: Walk, value: Any, path: str) -> Any:
        key = id(value)
        if key in walk.active:
            return Omitted(path, type_name(type(value)), "it contains itself (a cycle)")
        if len(walk.active) >= MAX_DEPTH:
            return Omitted(path, type_name(type(value)), f"it lies deeper than {MAX_DEPTH} levels")
        walk.active.add(key)
        try:
            return function(walk, value, path)
        finally:
            walk.active.discard(key)

    return guarded


# Names that are secrets only beside certain others. The projection does not know the signal, and
# these are everyday words elsewhere: {"value"} is a secret in session_data_set alone.
_BESIDE: Final[Mapping[str, tuple[frozenset[str], ...]]] = {
    "payload": (frozenset({"token"}),),
    "value": (frozenset({"session_id", "key"}),),
}
NAMES_WITH_NEIGHBOURS: Final = (*sorted(OAUTH_NAMES), *_BESIDE)
"""Names that need a look at the ones beside them."""
_CODE_REFUSED: Final = {"code", "error"}  # oauth2_token_fetch_failed holds just these


def secrets_by_neighbours(names: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a mapping that are secrets because of the names beside them.

    Its keys must be exactly str: others would run code of their own when they are looked for.
    """
    found = [name for name in NAMES_WITH_NEIGHBOURS if name in names]
    return tuple(name for name in found if _is_secret_beside(name, names)) if found else ()


def _is_secret_beside(name: str, names: Mapping[str, Any]) -> bool:
    if name in OAUTH_NAMES:
        return (
            is_oauth_exchange(names.keys())
            or looks_random(plain_text(names[name]))
            or names.keys() == _CODE_REFUSED
        )
    return any(neighbours <= names.keys() for neighbours in _BESIDE[name])


def is_secret_key(key: str, by_neighbours: tuple[str, ...]) -> bool:
    """Return whether the value under a key of a mapping is a secret."""
    return is_secret_name(key) or key in by_neighbours


def plain_text(value: object) -> str | None:
    """Return the text that a str or bytes, or one of a subclass, holds; else None.

    None of the subclass's own code runs. Bytes are read as Latin-1, as HTTP's header names are.
    """
    kind = type(value)
    if issubclass(kind, str):
        return value if kind is str else str.__str__(value)  # type: ignore[return-value]
    return bytes.decode(value, "latin-1") if issubclass(kind, bytes) else None  # type: ignore[arg-type]


# The descriptors themselves: a class may have been given attributes of these names.
_module: Final[Any] = type.__dict__["__module__"]
_qualname: Final[Any] = type.__dict__["__qualname__"]


def type_name(kind: type) -> str:
    """Return the dotted name of a class, whatever the class makes of its attributes."""
    module = _module.__get__(kind)
    qualname: str = _qualname.__get__(kind)
    return f"{module}.{qualname}" if isinstance(module, str) else qualname


def stored_attributes(value: object) -> dict[str, Any]:
    """Return what an object keeps in its ``__dict__``, which may be empty; runs none of its code.

    No property and no ``__getattr__`` is asked: an entity's would read the database.
    """
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return found if type(found) is dict else {}
