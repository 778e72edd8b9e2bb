"""How rows of the database are projected: loaded columns and the primary key, and no SQL, ever.

SQLAlchemy is not imported: who has no entity need not have it, and whoever has one brings it. What
is used of it is stable and documented: ``_sa_class_manager`` and ``_sa_instance_state`` by which it
marks classes and instances, ``mapper.column_attrs``, ``state.key``. Values come from the instance's
``__dict__`` alone, where SQLAlchemy keeps what is loaded and from where it takes what has expired.
An attribute of an entity is never asked for: that would load it, which costs a query, fails on a
detached entity, and may flush the sender's half-made changes. Relationships are not relayed.
"""

from __future__ import annotations

import re
from typing import Any, Final

from lback_relay.projection_walk import (
    ProjectFunction,
    Walk,
    nested,
    stored_attributes,
    type_name,
)
from lback_relay.redaction import is_secret_name
from lback_relay.snapshot import EntitySnapshot

# A column whose type hides its value in the database is a secret under any name (EncryptedType and
# PasswordType of SQLAlchemy-Utils).
_SECRET_TYPE: Final = re.compile("(?i)encrypt|password")
# In Lback's table of web sessions the primary key is the cookie, and the data are behind it.
_SECRET_COLUMNS: Final = {"lback.models.session.Session": frozenset({"id", "data"})}


def entity_function(kind: type) -> ProjectFunction | None:
    """Return the function for a mapped class, or None for any other class.

    What the mapper knows is read once here, so that an entity costs one look into its ``__dict__``
    per column.
    """
    manager = next(
        (vars(base)["_sa_class_manager"] for base in kind.__mro__ if _is_mapped(base)), None
    )
    if manager is None:
        return None
    name = type_name(kind)
    columns, keys = _columns(manager.mapper, _SECRET_COLUMNS.get(name, frozenset()))
    names = tuple(key for key, _ in columns)
    secrets = frozenset(key for key, secret in columns if secret)
    count = len(names)
    secret_keys = tuple(key for key in names if key in secrets and key in keys)

    @nested
    def entity(walk: Walk, value: Any, path: str) -> Any:
        loaded = stored_attributes(value)
        values = {key: loaded[key] for key in names if key in loaded}
        # Most entities have all their columns loaded, and no secret in their key.
        walk.members(path, values, secrets if len(values) == count else secrets & values.keys())
        identity = getattr(loaded.get("_sa_instance_state"), "key", None)
        if identity is None or (
            secret_keys and not all(walk.is_revealed(f"{path}.{key}") for key in secret_keys)
        ):
            return EntitySnapshot(name, values)
        key_path = f"{path}.relay_identity"
        parts = enumerate(identity[1])
        key = tuple([walk.member(key_path, index, part, False) for index, part in parts])
        return EntitySnapshot(name, values, key)

    return entity


def _is_mapped(kind: type) -> bool:
    return "_sa_class_manager" in vars(kind)


def _columns(mapper: Any, secret: frozenset[str]) -> tuple[tuple[tuple[str, bool], ...], set[str]]:
    """Return the columns' attribute names, each with whether it is a secret; and the keys'."""
    primary = {id(column) for column in mapper.primary_key}  # a column's == makes SQL
    columns = []
    keys = set()
    for attribute in mapper.column_attrs:
        columns.append((attribute.key, attribute.key in secret or _is_secret(attribute)))
        if any(id(column) in primary for column in attribute.columns):
            keys.add(attribute.key)
    return tuple(columns), keys


def _is_secret(attribute: Any) -> bool:
    return is_secret_name(attribute.key) or any(
        is_secret_name(str(getattr(column, "name", None) or ""))
        or _SECRET_TYPE.search(type(column.type).__name__)
        for column in attribute.columns
    )
