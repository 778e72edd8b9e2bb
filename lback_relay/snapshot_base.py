"""What all snapshots are made of: relayed attributes, and a type that bears the original's name.

:mod:`lback_relay.snapshot` has the kinds and is what others import.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar, Final, NoReturn

from lback_relay.errors import ValueNotRelayed

IMMUTABLE: Final = "it is a snapshot of what was sent and can't be changed"


class Snapshot:
    """Base of the snapshots that have attributes.

    Attributes:
        relay_type: dotted name of the original's type, such as ``lback.models.user.User``.
        relay_values: the attributes that were relayed, name to value.
    """

    # Every name of its own begins with relay_ or an underscore: none hides a relayed attribute.
    # The two slots are made by the subclasses, since an exception can't have any.
    __slots__ = ()
    _what: ClassVar[str] = "it was not among what is relayed of this type"

    _relay_type: str
    _relay_values: dict[str, Any]

    def __new__(cls, relay_type: str, *_: Any, **__: Any) -> Any:
        """Make an instance of the subclass that is named after ``relay_type``."""
        return object.__new__(named_type(cls, relay_type))

    def __init__(self, relay_type: str, values: Mapping[str, Any] | None = None) -> None:
        object.__setattr__(self, "_relay_type", relay_type)
        object.__setattr__(self, "_relay_values", dict(values or {}))

    @property
    def relay_type(self) -> str:
        return self._relay_type

    @property
    def relay_values(self) -> dict[str, Any]:
        return dict(self._relay_values)

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        """What ``vars()`` gives: a copy of the relayed attributes."""
        return dict(self._relay_values)

    def relay_state(self) -> tuple[Any, ...]:
        """Return what the snapshot is made of, as its constructor takes it. Not to be changed."""
        return (self._relay_type, self._relay_values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # copy, pickle and inspect ask for these: no story, just no
            raise AttributeError(f"{type(self).__name__!r} snapshot has no attribute {name!r}")
        try:
            return self._relay_values[name]
        except KeyError:
            raise ValueNotRelayed(self._missing(name)) from None

    def _missing(self, name: str) -> str:
        listed = ", ".join(sorted(self._relay_values)) or "nothing"
        return f"{type(self).__name__}.{name} was not relayed: {self._what} (relayed: {listed})"

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} can't be set: {IMMUTABLE}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} can't be deleted: {IMMUTABLE}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Snapshot) or kind_of_snapshot(type(self)) is not kind_of_snapshot(
            type(other)
        ):
            return NotImplemented
        return same(self.relay_state(), other.relay_state())

    def __hash__(self) -> int:
        parts = ((name, _hash(value)) for name, value in self._relay_values.items())
        return hash((self._relay_type, frozenset(parts)))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self._relay_values.items())
        return f"<{type(self).__name__} snapshot: {shown}>"

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._relay_values})

    def __reduce__(self) -> tuple[Any, ...]:
        return kind_of_snapshot(type(self)), self.relay_state()

    def __copy__(self) -> Snapshot:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Snapshot:
        return self


def same(left: Any, right: Any) -> bool:
    """Return whether two relayed values are equal, markers included."""
    try:
        return bool(left == right)
    except ValueNotRelayed:  # a marker on one side only
        return False


def _hash(value: object) -> int:
    try:
        return hash(value)
    except TypeError:  # lists and dicts are equal to their like alone: one hash will do
        return 0


def short_name(dotted: str) -> str:
    """Return the last part of a dotted type name."""
    return dotted.rpartition(".")[2] or dotted


_MAX_NAME_LENGTH: Final = 200


def named_type(base: Any, dotted: str) -> Any:
    """Return the subclass of ``base`` that bears the last part of this name."""
    return _made_type(
        base, dotted if len(dotted) <= _MAX_NAME_LENGTH else dotted[-_MAX_NAME_LENGTH:]
    )


@lru_cache(maxsize=1024)
def _made_type(base: Any, dotted: str) -> Any:
    # Bounded, in number and length: type names come off the wire. A type that fell out of the
    # cache and is made again is another type; equality compares names for that reason.
    name = short_name(dotted).encode("utf-8", "replace").decode().replace("\0", "?")
    return type(name or base.__name__, (base,), {"__slots__": ()})


def kind_of_snapshot(kind: type) -> type:
    """Return the snapshot class behind one of its named subclasses."""
    return kind.__mro__[1]
