"""What a handler gets for a member of an enum, whose class it may not even be able to import."""

from __future__ import annotations

import enum
from typing import Any, NoReturn

from lback_relay.snapshot_base import IMMUTABLE, kind_of_snapshot, named_type, same


class EnumSnapshot:
    """A member of an enum: ``name`` and ``value``; it equals its value, and reads as it did.

    Compared with text, case makes no difference, as with Lback's HTTPMethod. Members of enums that
    are an int or a str too come as :class:`IntEnumSnapshot` and :class:`TextEnumSnapshot`, so that
    ``response.status_code >= 400`` holds for ``HTTPStatus.NOT_FOUND``.
    """

    _relay_type: str
    _relay_name: str | None
    _relay_value: Any
    _relay_text: str

    def __new__(cls, relay_type: str, name: str | None, value: Any, text: str) -> Any:
        named: Any = named_type(cls, relay_type)
        made = object.__new__(named) if cls is EnumSnapshot else cls._mixed().__new__(named, value)
        own = {
            "_relay_type": relay_type,
            "_relay_name": name,
            "_relay_value": value,
            "_relay_text": text,
        }
        for attribute, given in own.items():
            object.__setattr__(made, attribute, given)
        return made

    @classmethod
    def _mixed(cls) -> Any:
        return object

    @property
    def name(self) -> str | None:
        return self._relay_name

    @property
    def value(self) -> Any:
        return self._relay_value

    @property
    def relay_type(self) -> str:
        return self._relay_type

    def relay_state(self) -> tuple[Any, ...]:
        return (self._relay_type, self._relay_name, self._relay_value, self._relay_text)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, EnumSnapshot):
            return self._relay_type == other._relay_type and same(
                self._relay_value, other._relay_value
            )
        if isinstance(other, enum.Enum):  # the real one, where the handler can import it
            return type(other).__name__ == type(self).__name__ and same(
                self._relay_value, other.value
            )
        if isinstance(other, str) and isinstance(self._relay_value, str):
            return self._relay_value.upper() == other.upper()
        return same(self._relay_value, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        try:
            return hash(self._relay_value)
        except TypeError:  # an enum may well have lists for values
            return hash(self._relay_name)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} can't be set: {IMMUTABLE}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} can't be deleted: {IMMUTABLE}")

    def __str__(self) -> str:
        return self._relay_text

    def __format__(self, spec: str) -> str:
        return format(self._relay_text, spec)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}.{self._relay_name}: {self._relay_value!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return kind_of_snapshot(type(self)), self.relay_state()

    def __copy__(self) -> EnumSnapshot:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> EnumSnapshot:
        return self


class IntEnumSnapshot(EnumSnapshot, int):
    """A member of an enum that is an int too."""

    @classmethod
    def _mixed(cls) -> Any:
        return int

    def __format__(self, spec: str) -> str:
        return format(int(self), spec) if spec else self._relay_text

    __hash__ = EnumSnapshot.__hash__


class TextEnumSnapshot(EnumSnapshot, str):
    """A member of an enum that is a str too."""

    @classmethod
    def _mixed(cls) -> Any:
        return str

    __hash__ = EnumSnapshot.__hash__
