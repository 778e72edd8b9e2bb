"""Markers: they can be carried about, and explain themselves as soon as they are used."""

from __future__ import annotations

import copy
import math
import operator
import os
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from lback_relay.errors import RelayError, ValueNotRelayed
from lback_relay.markers import Marker, Omitted, Redacted, UnknownValue

PASSWORD: Any = Redacted("user.password")
SESSION: Any = Omitted("session", "sqlalchemy.orm.Session", "it is live", "open one of your own")
FUTURE: Any = UnknownValue(99, b"\x01")
EVERY = [PASSWORD, SESSION, FUTURE]

USES: dict[str, Callable[[Any], Any]] = {
    "attribute": lambda marker: marker.upper,
    "method": lambda marker: marker.query("User"),
    "set attribute": lambda marker: setattr(marker, "x", 1),
    "delete attribute": lambda marker: delattr(marker, "x"),
    "str": str,
    "format": "{}".format,
    "percent": lambda marker: f"{marker}",
    "concatenate": lambda marker: marker + "x",
    "concatenate to": lambda marker: "x" + marker,
    "truth": bool,
    "not": operator.not_,
    "len": len,
    "iterate": list,
    "next": next,
    "reversed": reversed,
    "contains": lambda marker: "x" in marker,
    "item": lambda marker: marker["x"],
    "set item": lambda marker: operator.setitem(marker, "x", 1),
    "delete item": lambda marker: operator.delitem(marker, "x"),
    "call": lambda marker: marker(),
    "int": int,
    "float": float,
    "complex": complex,
    "index": operator.index,
    "round": round,
    "floor": math.floor,
    "bytes": bytes,
    "path": os.fspath,
    "open": open,
    "less": lambda marker: marker < 1,
    "at least": lambda marker: marker >= 1,
    "equal": lambda marker: marker == "secret",
    "equal to": lambda marker: marker == "secret",
    "not equal": lambda marker: marker != "secret",
    "negative": operator.neg,
    "power": lambda marker: marker**2,
    "or": lambda marker: marker | {},
    "with": lambda marker: marker.__enter__(),
    "unpack": lambda marker: [*marker],
}


@pytest.mark.parametrize("marker", EVERY, ids=lambda marker: type(marker).__name__)
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_every_use_explains_the_marker(use: Callable[[Any], Any], marker: Any) -> None:
    """The sentence names the value; no use gives a wrong result silently."""
    with pytest.raises(TypeError) as info:
        use(marker)
    if not isinstance(info.value, ValueNotRelayed):
        pytest.fail(f"not explained: {info.value}")
    assert str(info.value) == marker.relay_explanation


async def awaiting(marker: Any) -> Any:
    return await marker


def test_awaiting_explains_the_marker() -> None:
    """Async handlers are told too."""
    with pytest.raises(ValueNotRelayed):
        awaiting(SESSION).send(None)


def test_the_sentences_name_the_value_the_reason_and_the_remedy() -> None:
    """They are all that a handler's author sees."""
    assert PASSWORD.relay_explanation == (
        "'user.password' was not relayed because it looks like a secret; where the handler needs "
        'it, add "reveal": ["user.password"] to this signal in RELAY_SIGNALS'
    )
    assert SESSION.relay_explanation == (
        "'session' (sqlalchemy.orm.Session) was not relayed: it is live; open one of your own"
    )
    assert Omitted("a", "", "why").relay_explanation == "'a' was not relayed: why"
    assert FUTURE.relay_explanation == (
        "a value (extension type 99) was not relayed: a newer version of lback_relay wrote it; "
        "bring this process to the version of the one that sends"
    )
    assert Marker("a.b").relay_explanation == "'a.b' was not relayed"


@pytest.mark.parametrize("marker", EVERY, ids=lambda marker: type(marker).__name__)
def test_a_marker_can_be_carried_about(marker: Any) -> None:
    """Shown, copied, pickled, hashed, compared with markers, tested with isinstance and getattr."""
    assert marker.relay_explanation in repr(marker)
    for duplicate in [copy.copy(marker), copy.deepcopy(marker), pickle.loads(pickle.dumps(marker))]:
        assert duplicate == marker
        assert hash(duplicate) == hash(marker)
    assert marker in [Redacted("other"), marker]
    assert marker != Redacted("other")
    assert isinstance(marker, Marker)
    assert not hasattr(marker, "email")
    assert getattr(marker, "email", "default") == "default"
    assert marker is not None


def test_the_error_is_one_that_duck_typing_expects() -> None:
    """hasattr needs an AttributeError, operators a TypeError, the worker a RelayError."""
    assert issubclass(ValueNotRelayed, AttributeError)
    assert issubclass(ValueNotRelayed, TypeError)
    assert issubclass(ValueNotRelayed, RelayError)
