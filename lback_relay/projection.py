"""Live kwargs to payload: what a signal was sent with becomes plain data, snapshots and markers.

The rules, in the order in which they are tried:

- None and booleans stay.
- What a name says is a secret (:func:`~lback_relay.redaction.is_secret_name`) is
  :class:`~lback_relay.markers.Redacted`; so are ``code`` and ``state`` of an OAuth exchange, the
  ``value`` put into a web session, and the ``payload`` beside a ``token``. An item of a named tuple
  is judged by its field's name; a key of any type by the text that it holds.
- Plain values are copied: numbers, dates, Decimals, UUIDs, paths (without their file system), text,
  bytes, and lists, tuples, sets and dicts of such. Text loses what looks like a secret
  (:func:`~lback_relay.redaction.redact_text`); beyond ``max_string_length`` it ends with
  ``… [cut by lback_relay: 1048576 characters]``, and longer bytes are omitted.
- Entities, exceptions, enums, requests, responses, dataclasses (an ObjectSnapshot of their fields),
  namespaces, classes and functions become snapshots (:mod:`lback_relay.snapshot`).
- Anything else is :class:`~lback_relay.markers.Omitted`, and so is what contains itself, lies too
  deep, or is too much.

``reveal`` opens single values by their paths: ``user.email_verification_token``,
``request.headers.cookie``, ``users.0.auth_token``, ``token_data.access_token``. Paths are compared
without regard to case, as header names are. A revealed value that holds others is relayed by the
rules above, and its own secrets need paths of their own.

No database is read, no property and no method of a live object runs, and no value whatsoever raises
out of here. Neither the framework nor SQLAlchemy is imported: their classes are known by name.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from lback_relay import projection_objects as objects
from lback_relay.enum_snapshot import EnumSnapshot
from lback_relay.markers import Marker
from lback_relay.projection_entity import entity_function
from lback_relay.projection_named import named_tuple_function
from lback_relay.projection_plain import EXACT, EXTENDED, as_it_is, secrets_of
from lback_relay.projection_walk import (
    ProjectFunction,
    Walk,
    is_secret_key,
    plain_text,
    secrets_by_neighbours,
    type_name,
)
from lback_relay.projection_web import web_function
from lback_relay.snapshot import SenderSnapshot, Snapshot

MAX_KNOWN_TYPES: Final = 4096


class Projection:
    """The rules for one relayed signal. Made once, used for each send, by any thread.

    Args:
        reveal: paths of values that are relayed although they look secret.
        max_string_length: characters of one text; the rest is cut and marked.
    """

    __slots__ = ("_max_string_length", "_opened", "_reveal")

    def __init__(self, *, reveal: Sequence[str] = (), max_string_length: int = 65_536) -> None:
        self._reveal = frozenset(path.lower() for path in reveal)
        self._opened = frozenset(
            path[:end] for path in self._reveal for end in range(len(path)) if path[end] == "."
        )
        self._max_string_length = max_string_length

    def payload(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a handler gets for the kwargs of one ``send``.

        Never raises for any value, does no I/O, and shares nothing that can change with them.
        """
        return self.packable_payload(kwargs)[0]

    def packable_payload(self, kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """Return the payload, and whether it is :attr:`Walk.packable`; False is no proof."""
        walk = self._walk()
        payload = dict(kwargs)
        secrets = secrets_of(payload)
        if secrets is not None:
            walk.members("", payload, secrets)
            return payload, walk.packable
        # A keyword may be of a subclass of str, whose own code must not run.
        named = {plain_text(name) or "": value for name, value in payload.items()}
        by_neighbours = secrets_by_neighbours(named)
        payload = {
            name: walk.member("", name, value, is_secret_key(name, by_neighbours))
            for name, value in named.items()
        }
        return payload, False

    def sender(self, sender: Any) -> Any:
        """Return what a handler gets as ``sender``.

        Plain data, members of enums, classes and functions are projected as in a payload; of
        anything else the type's name is left.
        """
        kind: Any = type(sender)
        try:
            snapshot = _snapshot_of(kind)
        except Exception:  # noqa: BLE001 - even a class may be hostile
            return SenderSnapshot(type_name(kind))
        return snapshot if snapshot is not None else self._walk().value(sender, "sender")

    def _walk(self) -> Walk:
        return Walk(_function_for, self._reveal, self._opened, self._max_string_length)


_KEPT_SENDERS: Final = (
    *(kind for kind, _ in EXTENDED),
    *(enum.Enum, type, *objects.FUNCTIONS, Snapshot, EnumSnapshot, Marker),
)


@lru_cache(maxsize=1024)
def _snapshot_of(kind: type) -> SenderSnapshot | None:
    """Return what stands for all senders of a type; None for those that are projected."""
    if kind in EXACT or issubclass(kind, _KEPT_SENDERS):
        return None
    made: SenderSnapshot = SenderSnapshot(type_name(kind))
    return made


_found: dict[type, ProjectFunction] = {}


def _function_for(kind: type) -> ProjectFunction:
    """Return the function that projects values of a type, found once for each type."""
    function = EXACT.get(kind) or _found.get(kind)
    if function is None:
        if len(_found) >= MAX_KNOWN_TYPES:  # classes made on the fly must not pile up
            _found.clear()
        function = _found[kind] = _find_function(kind)
    return function


def _find_function(kind: type) -> ProjectFunction:
    # By the type, never isinstance: that asks the object's __class__, which may be a property.
    for extended, function in _FIRST:
        if issubclass(kind, extended):
            return function
    found = entity_function(kind) or web_function(kind) or named_tuple_function(kind)
    if found is not None:
        return found
    for extended, function in _THEN:
        if issubclass(kind, extended):
            return function
    return objects.dataclass_function(kind) or objects.omitted_function(kind)


_FIRST: Final[tuple[tuple[Any, ProjectFunction], ...]] = (
    ((Snapshot, EnumSnapshot, Marker), as_it_is),  # a handler sent on what it was given
    (enum.Enum, objects.enum_member),
)
_THEN: Final[tuple[tuple[Any, ProjectFunction], ...]] = (
    (BaseException, objects.exception),
    *EXTENDED,
    (type, objects.class_reference),
    (objects.FUNCTIONS, objects.function_reference),
    (objects.NAMESPACES, objects.namespace),
)
