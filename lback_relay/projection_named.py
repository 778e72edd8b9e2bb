"""How named tuples are projected: as tuples, of which each item is judged by its field's name.

What a handler gets stays a tuple with each item in its place. A path names an item by its field, as
it names an attribute, or by its index, where ``reveal`` has that.
"""

from __future__ import annotations

from typing import Any, Final

from lback_relay.projection_plain import project_items
from lback_relay.projection_walk import (
    NAMES_WITH_NEIGHBOURS,
    ProjectFunction,
    Walk,
    nested,
    plain_text,
    secrets_by_neighbours,
)
from lback_relay.redaction import REPLACEMENT, is_secret_name

# The descriptors themselves: a class's metaclass may answer with anything.
_bases: Final[Any] = type.__dict__["__mro__"]
_own: Final[Any] = type.__dict__["__dict__"]


def named_tuple_function(kind: type) -> ProjectFunction | None:
    """Return the function for a tuple whose class names its items in ``_fields``; else None."""
    if not issubclass(kind, tuple):
        return None
    owners = [_own.__get__(base) for base in _bases.__get__(kind)]
    fields = next((owner["_fields"] for owner in owners if "_fields" in owner), None)
    if type(fields) is not tuple or not all(type(field) is str for field in fields):
        return None
    if len(set(fields)) < len(fields):
        return None
    secrets = frozenset(field for field in fields if is_secret_name(field))
    neighbours = not frozenset(NAMES_WITH_NEIGHBOURS).isdisjoint(fields)

    @nested
    def named_tuple(walk: Walk, value: Any, path: str) -> Any:
        some = tuple.__getitem__(value, slice(0, walk.values_left))
        named = dict(zip(fields, some, strict=False))
        hidden = secrets
        if neighbours:
            hidden |= set(secrets_by_neighbours(named))
        walk.values_left -= len(named)
        projected = []
        for index, (field, item) in enumerate(named.items()):
            name = index if walk.is_named(f"{path}.{index}") else field
            if field == "netloc" and not walk.is_revealed(f"{path}.{name}"):
                item = _without_user(item)  # noqa: PLW2901
            projected.append(walk.member(path, name, item, field in hidden))
        # A class may make its tuples longer than it says.
        rest = some[len(named) :]
        count = tuple.__len__(value) - len(named)
        return (*projected, *project_items(walk, rest, count, path, len(named)))

    return named_tuple


def _without_user(netloc: Any) -> Any:
    """Return the host of ``user:password@host``, as urllib.parse splits it off a URL."""
    text = plain_text(netloc)
    if text is None or "@" not in text:
        return netloc
    clean = f"{REPLACEMENT}@{text.rpartition('@')[2]}"
    return clean if isinstance(netloc, str) else clean.encode("latin-1")
