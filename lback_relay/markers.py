"""What stands where a value was not relayed: it explains itself as soon as a handler touches it.

A marker can be carried about, compared with other markers, hashed, copied and shown by ``repr``.
Anything that would use it as the value it stands for raises
:class:`~lback_relay.errors.ValueNotRelayed`, with the sentence that says which value, why, and
what to do. Knows no signal, no projection and no wire format.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

from lback_relay.errors import ValueNotRelayed

_EXPLAINING: Final = (  # noqa: SIM905 - one name a line would fill a page
    "__str__ __format__ __bytes__ __bool__ __len__ __iter__ __next__ __reversed__ __contains__ "
    "__getitem__ __setitem__ __delitem__ __call__ __int__ __float__ __complex__ __index__ "
    "__round__ __fspath__ __enter__ __exit__ __await__ __aiter__ __anext__ __aenter__ __aexit__ "
    "__lt__ __le__ __gt__ __ge__ __add__ __radd__ __sub__ __rsub__ __mul__ __rmul__ __mod__ "
    "__rmod__ __truediv__ __rtruediv__ __floordiv__ __rfloordiv__ __pow__ __rpow__ __and__ "
    "__rand__ __or__ __ror__ __xor__ __rxor__ __neg__ __pos__ __abs__ __invert__"
).split()


class Marker:
    """Base of :class:`Redacted` and :class:`Omitted`; isinstance tests are safe.

    Attributes:
        relay_path: dotted path of the value in the payload, such as ``user.password``.
    """

    __slots__ = ("relay_path",)

    relay_path: str

    def __init__(self, path: str) -> None:
        object.__setattr__(self, "relay_path", path)

    @property
    def relay_explanation(self) -> str:
        """The sentence that every use of the marker raises."""
        return f"{self.relay_path!r} was not relayed"

    def relay_state(self) -> tuple[Any, ...]:
        """Return what the marker is made of, as its constructor takes it."""
        return (self.relay_path,)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.relay_path}: {self.relay_explanation}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Marker):
            return type(self) is type(other) and self.relay_state() == other.relay_state()
        raise ValueNotRelayed(self.relay_explanation)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.relay_state()))

    def __getattr__(self, name: str) -> NoReturn:
        raise ValueNotRelayed(self.relay_explanation)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise ValueNotRelayed(self.relay_explanation)

    def __delattr__(self, name: str) -> NoReturn:
        raise ValueNotRelayed(self.relay_explanation)

    def __copy__(self) -> Marker:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Marker:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.relay_state()


def _explain(self: Marker, *_: object, **__: object) -> NoReturn:
    raise ValueNotRelayed(self.relay_explanation)


# Python looks special methods up on the type, never through __getattr__: each one by itself.
for _name in _EXPLAINING:
    setattr(Marker, _name, _explain)


class Redacted(Marker):
    """Stands for a value that was held back because its name says that it is a secret.

    Args:
        path: dotted path of the value, which is also what reveals it.
    """

    __slots__ = ()

    @property
    def relay_explanation(self) -> str:
        path = self.relay_path
        return (
            f"{path!r} was not relayed because it looks like a secret; where the handler needs it, "
            f'add "reveal": ["{path}"] to this signal in RELAY_SIGNALS'
        )


class Omitted(Marker):
    """Stands for a value that can't be relayed, or that is too much to relay.

    Args:
        path: dotted path of the value.
        type_name: dotted name of the value's type, such as ``sqlalchemy.orm.session.Session``.
        reason: why, to follow "was not relayed: ".
        remedy: what to do, or "".
    """

    __slots__ = ("relay_reason", "relay_remedy", "relay_type")

    relay_reason: str
    relay_remedy: str
    relay_type: str

    def __init__(self, path: str, type_name: str, reason: str, remedy: str = "") -> None:
        super().__init__(path)
        object.__setattr__(self, "relay_type", type_name)
        object.__setattr__(self, "relay_reason", reason)
        object.__setattr__(self, "relay_remedy", remedy)

    @property
    def relay_explanation(self) -> str:
        of_type = f" ({self.relay_type})" if self.relay_type else ""
        end = f"; {self.relay_remedy}" if self.relay_remedy else ""
        subject = repr(self.relay_path) if self.relay_path else "a value"
        return f"{subject}{of_type} was not relayed: {self.relay_reason}{end}"

    def relay_state(self) -> tuple[Any, ...]:
        return (self.relay_path, self.relay_type, self.relay_reason, self.relay_remedy)


class UnknownValue(Omitted):
    """Stands for a value of an extension type that only newer versions know.

    It keeps the bytes, so that the envelope can be encoded again without loss.
    """

    __slots__ = ("relay_code", "relay_data")

    relay_code: int
    relay_data: bytes

    def __init__(self, code: int, data: bytes) -> None:
        super().__init__(
            "",
            f"extension type {code}",
            "a newer version of lback_relay wrote it",
            "bring this process to the version of the one that sends",
        )
        object.__setattr__(self, "relay_code", code)
        object.__setattr__(self, "relay_data", data)

    def relay_state(self) -> tuple[Any, ...]:
        return (self.relay_code, self.relay_data)
