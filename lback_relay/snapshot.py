"""What a handler gets for a live object: immutable copies that answer as the object would.

Each snapshot's type is a subclass, made on the fly, that bears the name of the original's type:
``type(sender).__name__`` gives in a handler what it gives in a receiver. Snapshots compare by
value, know nothing of how they were made or travel, and do no I/O but in
:meth:`EntitySnapshot.load`. What was not relayed is a marker (:mod:`lback_relay.markers`) or
raises :class:`~lback_relay.errors.ValueNotRelayed` when asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, ClassVar, Final, NoReturn, cast

from lback_relay.enum_snapshot import EnumSnapshot, IntEnumSnapshot, TextEnumSnapshot
from lback_relay.errors import ValueNotRelayed
from lback_relay.markers import Marker, Omitted, Redacted
from lback_relay.snapshot_base import Snapshot, named_type, same, short_name

__all__ = [
    "EntitySnapshot",
    "EnumSnapshot",
    "ExceptionSnapshot",
    "IntEnumSnapshot",
    "ObjectSnapshot",
    "Omitted",
    "Redacted",
    "ReferenceSnapshot",
    "RequestSnapshot",
    "ResponseSnapshot",
    "SenderSnapshot",
    "Snapshot",
    "TextEnumSnapshot",
    "same",
    "short_name",
]

_SLOTS: Final = ("_relay_type", "_relay_values")


class SenderSnapshot(Snapshot):
    """The sender of a signal where it was a live object: its type's name and nothing else."""

    __slots__ = _SLOTS
    _what: ClassVar[str] = "of a sender that is a live object only the type's name travels"

    def relay_state(self) -> tuple[Any, ...]:
        return (self._relay_type,)

    def __repr__(self) -> str:
        return f"<{self._relay_type} (sender of a relayed signal)>"


class ObjectSnapshot(Snapshot):
    """A dataclass instance, an argparse or a simple namespace: its fields."""

    __slots__ = _SLOTS

    def __contains__(self, name: object) -> bool:
        return name in self._relay_values  # as argparse.Namespace has it


class ReferenceSnapshot(Snapshot):
    """A class or function that was passed by a signal: its names. It can't be called."""

    __slots__ = _SLOTS
    _what: ClassVar[str] = "of a class or function only its names travel"

    def __init__(self, relay_type: str, module: str, qualname: str) -> None:
        names = {
            "__module__": module,
            "__name__": qualname.rpartition(".")[2],
            "__qualname__": qualname,
        }
        super().__init__(relay_type, names)

    def __getattribute__(self, name: str) -> Any:
        # The type has these names too, and would answer with its own module.
        if name in ("__module__", "__name__", "__qualname__"):
            return self._relay_values[name]
        return object.__getattribute__(self, name)

    def relay_state(self) -> tuple[Any, ...]:
        return (self._relay_type, self.__module__, self._relay_values["__qualname__"])

    def __call__(self, *_: object, **__: object) -> NoReturn:
        raise ValueNotRelayed(
            f"{self._dotted()} can't be called here: {self._what}; import it in the handler's "
            "module"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._dotted()} (relayed by name)>"

    def _dotted(self) -> str:
        return f"{self.__module__}.{self._relay_values['__qualname__']}"


class ResponseSnapshot(Snapshot):
    """A response: ``status_code``, ``headers``, and ``body`` where it was revealed."""

    __slots__ = _SLOTS


class RequestSnapshot(Snapshot):
    """A request: what was parsed of it (method, path, headers, query, user …), and no body.

    The accessors of Lback's Request that only combine those are here too.
    """

    __slots__ = _SLOTS

    @property
    def GET(self) -> Any:  # noqa: N802 - the framework's name
        return self.query_params

    @property
    def POST(self) -> Any:  # noqa: N802 - the framework's name
        return (self.parsed_body or {}) if self.method == "POST" else {}

    @property
    def DATA(self) -> Any:  # noqa: N802 - the framework's name
        return (self.parsed_body or {}) if self.method in ("POST", "PUT", "PATCH") else {}

    @property
    def get_host(self) -> str:
        return str(self.headers.get("HOST") or self.headers.get("X-FORWARDED-HOST") or "")

    def get_context(self, key: str, default: object = None) -> Any:
        """Return what a middleware or the router put on the request, where it was relayed."""
        return self._relay_values.get(key, default)


class EntitySnapshot(Snapshot):
    """A row of the database as it was in memory when the signal was sent.

    ``identity``, ``model`` and ``load`` give way to columns of the same name; ``relay_identity``,
    ``relay_type`` and ``relay_load`` are always there.
    """

    __slots__ = (*_SLOTS, "_relay_identity")
    _relay_identity: tuple[Any, ...] | None

    def __init__(
        self,
        relay_type: str,
        values: Mapping[str, Any],
        identity: tuple[Any, ...] | None = None,
    ) -> None:
        object.__setattr__(self, "_relay_type", relay_type)
        object.__setattr__(self, "_relay_values", dict(values))
        object.__setattr__(self, "_relay_identity", identity)

    @property
    def relay_identity(self) -> tuple[Any, ...] | None:
        """The primary key's values, or None where the row had none yet (or it is a secret)."""
        return self._relay_identity

    @property
    def identity(self) -> Any:
        return self._relay_values.get("identity", self._relay_identity)

    @property
    def model(self) -> Any:
        return self._relay_values.get("model", self._relay_type)

    @property
    def load(self) -> Any:
        return self._relay_values.get("load", self.relay_load)

    def relay_load(self, session: Any, model: type | None = None) -> Any:
        """Return the row as it is in the database now, or None when it is gone.

        Args:
            session: a SQLAlchemy Session, such as ``worker_session()`` opens.
            model: the mapped class; needed only where its module is not imported in this process.

        Raises:
            ValueNotRelayed: the primary key or the model is not known here.
        """
        if self._relay_identity is None:
            raise ValueNotRelayed(
                f"this {type(self).__name__} can't be loaded: it had no primary key when the "
                "signal was sent, or its key is a secret; use a signal sent after the flush"
            )
        return session.get(model or _mapped_class(self._relay_type), self._relay_identity)

    def relay_state(self) -> tuple[Any, ...]:
        return (self._relay_type, self._relay_values, self._relay_identity)

    def _missing(self, name: str) -> str:
        listed = ", ".join(sorted(self._relay_values)) or "nothing"
        return (
            f"{type(self).__name__}.{name} was not relayed: only columns that were in memory when "
            f"the signal was sent are (relayed: {listed}); load the row in the handler: "
            "`with lback_relay.lback.database.worker_session() as session: row = "
            "entity.load(session)`"
        )


class ExceptionSnapshot(Snapshot, Exception):
    """An exception: ``args``, its public attributes, its cause, and where it was raised.

    It is an Exception, so that it can be raised, logged, and shown as any other; its type is not
    the original's, which may not even be importable here, so ``isinstance`` and ``except`` tell
    nothing. Use ``type(exception).__name__``.

    Attributes:
        relay_frames: ``file:line in function`` of the raising calls, innermost last; no values.
    """

    # No __slots__: BaseException brings its own __dict__, which holds nothing here.
    _what: ClassVar[str] = "it was no public attribute of the exception"

    def __new__(cls, relay_type: str, *_: Any, **__: Any) -> Any:
        named = named_type(cls, relay_type)
        return Exception.__new__(named)

    def __init__(
        self,
        relay_type: str,
        args: tuple[Any, ...] = (),
        values: Mapping[str, Any] | None = None,
        frames: tuple[str, ...] = (),
        cause: ExceptionSnapshot | None = None,
    ) -> None:
        Snapshot.__init__(self, relay_type, values)
        BaseException.__setattr__(self, "args", tuple(args))
        BaseException.__setattr__(self, "_relay_frames", tuple(frames))
        BaseException.__setattr__(self, "__cause__", cause)

    @property
    def relay_frames(self) -> tuple[str, ...]:
        return cast("tuple[str, ...]", BaseException.__getattribute__(self, "_relay_frames"))

    def relay_state(self) -> tuple[Any, ...]:
        cause = self.__cause__ if isinstance(self.__cause__, ExceptionSnapshot) else None
        return (self._relay_type, self.args, self._relay_values, self.relay_frames, cause)

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("__"):  # raising sets __traceback__ and its like
            Snapshot.__setattr__(self, name, value)
        BaseException.__setattr__(self, name, value)

    def __str__(self) -> str:
        shown = [_text(value) for value in self.args]
        if self._relay_type == "builtins.KeyError" and len(shown) == 1:
            return repr(self.args[0])
        if len(shown) == 1:
            return shown[0]
        if shown:
            return f"({', '.join(repr(value) for value in self.args)})"
        message = self._relay_values.get("message")
        return message if isinstance(message, str) else ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(repr(value) for value in self.args)})"

    __hash__ = Snapshot.__hash__


def _text(value: object) -> str:
    return repr(value) if isinstance(value, Marker) else str(value)


def _mapped_class(dotted: str) -> type:
    """Find an imported, mapped class by its dotted name. Never imports anything."""
    module_name, _, qualname = dotted.rpartition(".")
    parts = [qualname]
    while module_name and module_name not in sys.modules:
        module_name, _, part = module_name.rpartition(".")
        parts.insert(0, part)
    found: Any = sys.modules.get(module_name)
    for part in parts:
        found = getattr(found, part, None)
    inspect = getattr(sys.modules.get("sqlalchemy"), "inspect", None)
    if isinstance(found, type) and inspect and inspect(found, raiseerr=False) is not None:
        return found
    raise ValueNotRelayed(
        f"the model {dotted} is not known in this process: import it in the handler's module, or "
        "pass the mapped class: entity.load(session, Model)"
    )
