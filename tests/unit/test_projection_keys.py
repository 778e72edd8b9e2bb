"""Keys of maps: each kind of key can name a secret, and none of a key's own code runs."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import pytest

from lback_relay.markers import Omitted, Redacted
from lback_relay.projection import Projection
from lback_relay.snapshot import EnumSnapshot


class Field(str, enum.Enum):
    """As a form's fields are declared; its text is not its value."""

    PASSWORD = "password"
    EMAIL = "email"

    def __str__(self) -> str:
        raise AssertionError("code of the key ran")


class Column(enum.Enum):
    """Members whose value is no text, or bytes."""

    PASSWORD = 1
    KEY = b"api_key"
    NAMES = ("a", "b")


class Quoted(str):
    """As sqlalchemy.sql.quoted_name is; its own code must not run once it is in the map."""

    __slots__ = ()
    armed = False

    def __hash__(self) -> int:
        assert not self.armed, "code of the key ran"
        return str.__hash__(self)

    def __eq__(self, other: object) -> bool:
        assert not self.armed, "code of the key ran"
        return str.__eq__(self, other)

    def __str__(self) -> str:
        raise AssertionError("code of the key ran")

    __repr__ = __str__

    def __getattribute__(self, name: str) -> Any:
        if name == "armed":
            return Quoted.armed
        raise AssertionError("code of the key ran")


class Raw(bytes):
    """Bytes of the application's own."""

    def decode(self, *_: Any) -> str:
        raise AssertionError("code of the key ran")


@pytest.fixture
def quoted() -> Iterator[dict[str, Any]]:
    """Return a map with keys that raise from now on."""
    made: dict[str, Any] = {Quoted("password"): "hunter2", Quoted("email"): "e", "id": 7}
    Quoted.armed = True
    yield made
    Quoted.armed = False


def project(value: Any, *reveal: str, **options: Any) -> Any:
    """Project one value as the kwarg ``x``."""
    return Projection(reveal=reveal, **options).payload({"x": value})["x"]


@pytest.mark.parametrize(
    ("key", "name", "path"),
    [
        (Field.PASSWORD, "password", "x.password"),
        (Column.PASSWORD, 1, "x.1"),
        (Column.KEY, b"api_key", "x.api_key"),
        (b"password", b"password", "x.password"),
        (b"authorization", b"authorization", "x.authorization"),
        (b"X-API-Key", b"X-API-Key", "x.X-API-Key"),
        (Raw(b"cookie"), b"cookie", "x.cookie"),
        (("user", "password"), ("user", "password"), "x.?"),
        (("user", (b"token",)), ("user", (b"token",)), "x.?"),
        (PurePosixPath("/run/db_password"), PurePosixPath("/run/db_password"), "x.?"),
        (EnumSnapshot("a.Field", "TOKEN", "t", "Field.TOKEN"), "t", "x.t"),
        (EnumSnapshot("a.Field", "T", "token", "Field.T"), "token", "x.token"),
    ],
    ids=repr,
)
def test_a_key_of_any_kind_names_a_secret(key: Any, name: Any, path: str) -> None:
    """By its text, by what it is projected to, and by the name of an enum's member."""
    projected = project({key: "hunter2", "id": 7})
    assert projected == {name: Redacted(path), "id": 7}
    assert type(next(iter(projected))) is type(name)
    assert project({key: "hunter2"}, path) == {name: "hunter2"}


@pytest.mark.parametrize(
    "key", [Field.EMAIL, b"email", Raw(b"email"), ("email",), Column.NAMES], ids=repr
)
def test_an_innocent_key_of_any_kind_is_left_alone(key: Any) -> None:
    """Redaction is for secrets."""
    assert list(project({key: "e"}).values()) == ["e"]


def test_a_keys_own_code_does_not_run(quoted: dict[str, Any]) -> None:
    """Not in a map, a subclass of dict, a view of a map, nor among a signal's own names."""
    expected = {"password": Redacted("x.password"), "email": "e", "id": 7}

    class Table(dict[Any, Any]):
        """A dict of the application's own."""

    for value in (quoted, Table(quoted), MappingProxyType(quoted)):
        projected = project(value)
        assert projected == expected
        assert {type(name) for name in projected} == {str}
    payload = Projection().payload(quoted)
    assert payload == {"password": Redacted("password"), "email": "e", "id": 7}
    assert {type(name) for name in payload} == {str}


@pytest.mark.parametrize(
    ("given", "secret"),
    [
        ({b"code": b"abc", b"state": b"def"}, b"code"),
        ({b"code": "4/0AX4XfWj"}, b"code"),
        ({b"code": b"4/0AX4XfWj"}, b"code"),
        ({b"code": "abc", "error": "refused"}, b"code"),
        ({b"session_id": "s", "key": "k", b"value": "v"}, b"value"),
        ({b"token": "t", b"payload": "p"}, b"payload"),
    ],
)
def test_bytes_are_neighbours_as_text_is(given: dict[Any, Any], secret: bytes) -> None:
    """An everyday name is a secret beside certain others, however they are written."""
    assert isinstance(project(given)[secret], Redacted)


def test_a_neighbour_whose_own_code_raises_is_one_still() -> None:
    """It is compared by its text."""
    given = {Quoted("code"): "abc", Quoted("state"): "def"}
    Quoted.armed = True
    try:
        projected = project(given)
    finally:
        Quoted.armed = False
    assert projected == {"code": Redacted("x.code"), "state": Redacted("x.state")}


def test_bytes_keys_lose_their_secrets() -> None:
    """As keys of text do, and none is lost."""
    projected = project({b"a=1&token=hunter2": 1, b"a=1&token=hunter3": 2, "b": 3})
    assert projected == {
        b"a=1&token=[redacted]": Redacted("x.a=1&token=[redacted]"),
        b"a=1&token=[redacted]'": Redacted("x.a=1&token=[redacted]'"),
        "b": 3,
    }


def test_a_class_whose_hash_raises_breaks_neither_map_nor_payload() -> None:
    """As a key it is named; as a value it is omitted, and what stands beside it stays."""

    class Meta(type):
        def __hash__(cls) -> int:
            raise RuntimeError

        def __eq__(cls, other: object) -> bool:
            raise RuntimeError

    class Unhashable(metaclass=Meta):
        pass

    values = {"a": Unhashable(), "b": [1], "x": {Unhashable(): 1}}
    for sent in (values, dict(reversed(values.items()))):  # whatever is met first
        payload = Projection().payload(sent)
        assert isinstance(payload["a"], Omitted)
        assert payload["b"] == [1]
        assert [name.rpartition(".")[2] for name in payload["x"]] == ["Unhashable>"]
