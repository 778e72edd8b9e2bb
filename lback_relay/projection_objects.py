"""How other live objects are projected: exceptions, enums, dataclasses, classes, functions.

What is none of these is an Omitted marker that says why and what to do instead. No code of an
object is run: attributes are read from its ``__dict__`` and its slots.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import types
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Final

from lback_relay.markers import Omitted
from lback_relay.projection_walk import (
    SHORT_PATH,
    ProjectFunction,
    Walk,
    nested,
    stored_attributes,
    type_name,
)
from lback_relay.redaction import is_secret_name
from lback_relay.snapshot import (
    EnumSnapshot,
    ExceptionSnapshot,
    IntEnumSnapshot,
    ObjectSnapshot,
    ReferenceSnapshot,
    TextEnumSnapshot,
)

MAX_FRAMES: Final = 20
"""Frames of one exception; the innermost are kept."""


def attributes(
    walk: Walk, values: Iterable[tuple[str, Any]], path: str, secrets: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Project named values as attributes of the object at ``path``."""
    return {
        name: walk.member(path, name, value, name in secrets or is_secret_name(name))
        for name, value in values
    }


def public(stored: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the attributes whose names do not begin with an underscore, as they are now."""
    for name, value in tuple(stored.items()):
        if type(name) is str and not name.startswith("_"):
            yield name, value


# --- exceptions ---------------------------------------------------------------------------------

# The descriptors themselves: an exception's class may have properties of these names.
_args: Final[Any] = BaseException.__dict__["args"]
_cause: Final[Any] = BaseException.__dict__["__cause__"]
_context: Final[Any] = BaseException.__dict__["__context__"]
_suppress: Final[Any] = BaseException.__dict__["__suppress_context__"]
_traceback: Final[Any] = BaseException.__dict__["__traceback__"]
_SECRETS: Final = frozenset({"params"})


@nested
def exception(walk: Walk, value: BaseException, path: str) -> Any:
    """Project an exception with its cause, its public attributes and where it was raised."""
    args_path = f"{path}.args" if path else "args"
    given = _args.__get__(value)
    args = tuple(walk.member(args_path, index, arg, False) for index, arg in enumerate(given))
    values = attributes(walk, _exception_attributes(value), path, _SECRETS)
    cause = _cause.__get__(value)
    if cause is None and not _suppress.__get__(value):
        cause = _context.__get__(value)
    projected = None if cause is None else walk.value(cause, f"{path}.__cause__")
    return ExceptionSnapshot(
        type_name(type(value)),
        args,
        values,
        _frames(_traceback.__get__(value)),
        projected if isinstance(projected, ExceptionSnapshot) else None,
    )


def _exception_attributes(value: BaseException) -> Iterator[tuple[str, Any]]:
    yield from public(stored_attributes(value))
    if isinstance(value, OSError):
        for name in ("errno", "strerror", "filename", "filename2"):
            yield name, OSError.__dict__[name].__get__(value)
    elif isinstance(value, SystemExit):
        yield "code", SystemExit.__dict__["code"].__get__(value)


def _frames(traceback: TracebackType | None) -> tuple[str, ...]:
    frames = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(f"{code.co_filename}:{traceback.tb_lineno} in {code.co_name}")
        traceback = traceback.tb_next
    return tuple(frames[-MAX_FRAMES:])


# --- enums, dataclasses, namespaces ---------------------------------------------------------------


def enum_member(walk: Walk, value: enum.Enum, path: str) -> Any:
    """Project a member of an enum; its text is what ``str`` gives, since members are constants."""
    kind = type(value)
    name = value._name_
    snapshot: Any = EnumSnapshot
    if issubclass(kind, int):
        snapshot = IntEnumSnapshot
    elif issubclass(kind, str):
        snapshot = TextEnumSnapshot
    return snapshot(type_name(kind), name, walk.value(value._value_, path), str(value))


def dataclass_function(kind: type) -> ProjectFunction | None:
    """Return the function for a dataclass: an ObjectSnapshot of its fields; else None."""
    declared = next(
        (
            vars(base)["__dataclass_fields__"]
            for base in kind.__mro__
            if "__dataclass_fields__" in vars(base)
        ),
        None,
    )
    if declared is None:
        return None
    fields = [
        field.name
        for field in declared.values()
        if getattr(field, "_field_type", None) is dataclasses._FIELD  # type: ignore[attr-defined]  # noqa: SLF001
    ]
    return object_function(type_name(kind), {name: name for name in fields}, _slots(kind))


def _slots(kind: type) -> dict[str, Any]:
    return {
        name: member
        for base in reversed(kind.__mro__)
        for name, member in vars(base).items()
        if isinstance(member, types.MemberDescriptorType)
    }


def object_function(
    name: str, names: dict[str, str], slots: dict[str, Any] | None = None
) -> ProjectFunction:
    """Return a function that projects these attributes of an object of this type.

    Args:
        name: the type's dotted name.
        names: the snapshot's attribute to where the object stores it.
        slots: descriptors of the attributes that are not in the object's ``__dict__``.
    """

    def stored(value: Any) -> Iterator[tuple[str, Any]]:
        found = stored_attributes(value)
        for attribute, where in names.items():
            if where in found:
                yield attribute, found[where]
            elif slots and where in slots:
                try:
                    yield attribute, slots[where].__get__(value)
                except AttributeError:  # a slot that was never set
                    continue

    @nested
    def project(walk: Walk, value: Any, path: str) -> Any:
        return ObjectSnapshot(name, attributes(walk, stored(value), path))

    return project


@nested
def namespace(walk: Walk, value: Any, path: str) -> Any:
    """Project ``argparse.Namespace`` and ``types.SimpleNamespace``: all that was put into it."""
    values = attributes(walk, public(stored_attributes(value)), path)
    return ObjectSnapshot(type_name(type(value)), values)


NAMESPACES: Final = (argparse.Namespace, types.SimpleNamespace)

# --- classes and functions ------------------------------------------------------------------------


def class_reference(_: Walk, value: type, __: str) -> ReferenceSnapshot:
    """Project a class: its name."""
    dotted = type_name(value)
    qualname: str = type.__dict__["__qualname__"].__get__(value)
    return ReferenceSnapshot(type_name(type(value)), dotted[: -len(qualname) - 1], qualname)


def function_reference(_: Walk, value: Any, __: str) -> ReferenceSnapshot:
    """Project a function or a method: its name."""
    module = getattr(value, "__module__", None)
    qualname = value.__qualname__
    return ReferenceSnapshot(
        type_name(type(value)), module if isinstance(module, str) else "", qualname
    )


FUNCTIONS: Final = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.MethodDescriptorType,
    types.MethodWrapperType,
    types.WrapperDescriptorType,
)

# --- what can't be relayed ------------------------------------------------------------------------

_SESSIONS: Final = frozenset({"Session", "AsyncSession", "scoped_session", "async_scoped_session"})
_OPEN_A_SESSION: Final = (
    "open one in the handler: `with lback_relay.lback.database.worker_session() as session:`"
)
_OPEN: Final = frozenset(
    [
        *("_asyncio", "_io", "_queue", "_socket", "_ssl", "_thread", "asyncio", "io", "queue"),
        *("select", "selectors", "socket", "ssl", "subprocess", "tempfile", "threading"),
    ]
)
_LAZY: Final = (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType)


MAX_KNOWN_PATHS: Final = 100


def omitted_function(kind: type) -> ProjectFunction:
    """Return the function for objects that are not relayed: it says why and what to do."""
    name = type_name(kind)
    reason, remedy = _explain(kind)

    known: dict[str, Omitted] = {}  # a marker can't change, and a session comes with most signals

    def omitted(_: Walk, __: Any, path: str) -> Omitted:
        marker = known.get(path)
        if marker is None:
            marker = Omitted(path, name, reason, remedy)
            if len(known) < MAX_KNOWN_PATHS and len(path) <= SHORT_PATH:
                known[path] = marker
        return marker

    return omitted


def _explain(kind: type) -> tuple[str, str]:
    names = [type_name(base).split(".") for base in kind.__mro__ if base is not object]
    if any(parts[0] == "sqlalchemy" and parts[-1] in _SESSIONS for parts in names):
        return "a database session can't leave its process", _OPEN_A_SESSION
    if any(parts[0] == "sqlalchemy" for parts in names):
        return "it works on the sender's database connection", "send the rows' values or keys"
    if any(parts[0] in _OPEN for parts in names):
        return "it is open in the sending process only", "send what it holds, or where it lies"
    if issubclass(kind, _LAZY) or "__next__" in vars(kind):
        return "it can be run once, by the sender", "send a list"
    return "it is a live object of the sending process", "send the values that the handler needs"
