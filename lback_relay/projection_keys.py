"""How the keys of a map are projected, and by which texts each is judged to name a secret.

A key is data of the sender's, too: a member of an enum, a str of a class of its own, bytes as ASGI
has them. None of a key's own code runs here: neither its hash nor what it makes of ``==`` and
``str``.
"""

from __future__ import annotations

import datetime as dt
import enum
import pathlib
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from lback_relay.enum_snapshot import EnumSnapshot
from lback_relay.projection_walk import Walk, plain_text, stored_attributes, type_name
from lback_relay.redaction import redact_bytes, redact_text

_PLAIN_KEYS: Final = frozenset(
    {type(None), bool, int, float, Decimal, UUID, dt.date, dt.timedelta},
)
_PATHS: Final = (pathlib.PurePosixPath, pathlib.PureWindowsPath)
KEPT_KEYS: Final = _PLAIN_KEYS | {str, bytes, dt.datetime, dt.time, *_PATHS}
"""What a projected key, or an item of a projected set, may be."""
_NO_VALUE: Final = object()


def project_key(walk: Walk, key: Any) -> tuple[Any, tuple[str, ...]]:
    """Return a key as plain data, and the texts of which each may name a secret.

    The first text, if there is one, is the key's own. What can't be a key is named by its type.
    """
    kind = type(key)
    if kind is str:
        short = len(key) <= walk.max_string_length
        return redact_text(key) if short else walk.text(key, ""), (key,)
    if kind is bytes:
        return redact_bytes(key), (key.decode("latin-1"),)
    if kind is tuple:
        parts = [project_key(walk, item) for item in key]
        return tuple(data for data, _ in parts), tuple(text for _, texts in parts for text in texts)
    texts = [plain_text(key)]
    if issubclass(kind, enum.Enum):  # its member is found by its value
        stored = stored_attributes(key)
        value = stored.get("_value_", _NO_VALUE)
        texts = [plain_text(value), *texts, stored.get("_name_")]
        projected = walk.value(value, "")
    else:
        projected = walk.value(key, "")
    if isinstance(projected, EnumSnapshot):  # a handler sent it on
        texts = [plain_text(projected.value), *texts, projected.name]
        projected = projected.value
    if type(projected) in _PATHS:
        texts.append(str(projected))
    elif texts == [None]:
        texts.append(plain_text(projected))
    named = tuple(text for text in texts if type(text) is str)
    return (projected if type(projected) in KEPT_KEYS else f"<{type_name(kind)}>"), named
