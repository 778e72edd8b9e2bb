"""Named tuples: each item is judged by its field's name, and stays in its place."""

from __future__ import annotations

import collections
from typing import Any, NamedTuple
from urllib.parse import urldefrag, urlparse, urlsplit

import pytest
from sqlalchemy.engine import make_url

from lback_relay.markers import Omitted, Redacted
from lback_relay.projection import Projection
from lback_relay.projection_walk import MAX_VALUES


class Login(NamedTuple):
    """What a form was filled in with."""

    user: Any
    password: Any


class Admin(Login):
    """Whose base has the fields."""


class Callback(NamedTuple):
    """What an OAuth server sends back."""

    code: str
    state: str


class Long(Login):
    """Longer than its fields say; of what it answers with, nothing is asked."""

    def __new__(cls, *items: Any) -> Any:
        return tuple.__new__(cls, items)

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError("code of the tuple ran")

    def __iter__(self) -> Any:
        raise AssertionError("code of the tuple ran")

    def __len__(self) -> int:
        raise AssertionError("code of the tuple ran")


def project(value: Any, *reveal: str) -> Any:
    """Project one value as the kwarg ``x``."""
    return Projection(reveal=reveal).payload({"x": value})["x"]


@pytest.mark.parametrize(
    "kind",
    [Login, Admin, Long, collections.namedtuple("Old", ["user", "password"])],  # noqa: PYI024
)
def test_a_field_names_a_secret(kind: Any) -> None:
    """However the class was made; a handler gets a plain tuple with the items in their places."""
    projected = project(kind("bob", "hunter2"))
    assert type(projected) is tuple
    assert projected == ("bob", Redacted("x.password"))


def test_a_field_is_revealed_by_its_name_or_its_index() -> None:
    """And so is what lies within."""
    login = Login("bob", "hunter2")
    assert project(login, "x.password") == ("bob", "hunter2")
    assert project(login, "x.1") == ("bob", "hunter2")
    assert project(login, "x.user") == ("bob", Redacted("x.password"))
    nested = Login("bob", {"raw": "a", "salt": "b"})
    for name in ("password", "1"):
        raw = project(nested, f"x.{name}.raw")[1]
        assert raw == {"raw": "a", "salt": Redacted(f"x.{name}.salt")}
    inner = Login({"token": "t"}, None)
    assert project(inner) == ({"token": Redacted("x.user.token")}, None)
    assert project(inner, "x.0.token") == project(inner, "x.user.token") == ({"token": "t"}, None)


def test_fields_are_judged_by_their_neighbours_too() -> None:
    """As a map's keys are."""
    assert project(Callback("a", "b")) == (Redacted("x.code"), Redacted("x.state"))


def test_the_items_beyond_the_fields_are_items() -> None:
    """They have an index alone; what is too much is counted."""
    projected = project(Long("bob", "hunter2", {"token": "t"}, "postgres://u:hunter2@h"))
    assert projected[1:3] == (Redacted("x.password"), {"token": Redacted("x.2.token")})
    assert projected[3] == "postgres://[redacted]@h"
    assert project(Long("bob")) == ("bob",)
    many = project(Long(*range(MAX_VALUES + 5)))
    assert len(many) == MAX_VALUES + 1
    assert isinstance(many[-1], Omitted)


@pytest.mark.parametrize("fields", [["user"], "user", ("user", 1), None, ("user", "user")])
def test_what_is_no_list_of_fields_is_not_used(fields: Any) -> None:
    """Only what namedtuple itself makes is known to name the items."""
    kind: Any = type("Odd", (tuple,), {"_fields": fields})
    assert project(kind(("a", "b"))) == ("a", "b")


def test_a_split_url_loses_its_user() -> None:
    """The URL as a text loses it too."""
    url = "https://bob:hunter2@host:81/a?token=hunter2&b=c#d"
    clean = ("https", "[redacted]@host:81", "/a", "token=[redacted]&b=c", "d")
    assert project(urlsplit(url)) == clean
    assert project(urlsplit(url.encode())) == tuple(part.encode() for part in clean)
    assert project(urlparse(url)) == (*clean[:3], "", *clean[3:])
    assert project(urlparse(url.encode()))[1] == b"[redacted]@host:81"
    assert "hunter2" not in str(project(urldefrag(url)))
    assert project(urlsplit("https://host/a")) == ("https", "host", "/a", "", "")
    assert project(urlsplit(url), "x.netloc")[1] == "bob:hunter2@host:81"
    assert project(urlsplit(url), "x.1")[1] == "bob:hunter2@host:81"


def test_the_url_of_an_engine_loses_its_password() -> None:
    """SQLAlchemy's is a named tuple."""
    url = make_url("postgresql://bob:hunter2@host:5432/shop?sslpassword=hunter3")
    projected = project(url)
    assert "hunter" not in str(projected)
    assert projected[:6] == ("postgresql", "bob", Redacted("x.password"), "host", 5432, "shop")


def test_a_sealed_tuple_stays_sealed() -> None:
    """Under a secret's name nothing is told but what is revealed."""
    payload = Projection(reveal=["token.user"]).payload({"token": Login("bob", "hunter2")})
    assert payload["token"] == ("bob", Redacted("token.password"))
    payload = Projection(reveal=["token.x"]).payload({"token": urlsplit("https://bob@h/")})
    assert payload["token"][1] == Redacted("token.netloc")


PAIRS = [
    ("X-Api-Key", "hunter2"),
    (b"authorization", b"opaque-hunter2"),
    ("password", ["hunter2"]),
    ("Set-Cookie", "sid=hunter2"),
]


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_the_first_of_a_pair_names_the_second(pair: tuple[Any, Any]) -> None:
    """So WSGI and ASGI have headers, and a map its items."""
    payload = Projection().payload({"headers": [pair, ("host", "shop.example.org")]})
    assert payload["headers"] == [(pair[0], Redacted("headers.0.1")), ("host", "shop.example.org")]
    revealing = Projection(reveal=["headers.0.1"])
    assert revealing.payload({"headers": [pair]})["headers"][0][1] == pair[1]


@pytest.mark.parametrize(
    "kept",
    [("token", None), ("token", True), ("token", "a", "b"), ["password", "last_login"], (7, "pin")],
    ids=str,
)
def test_what_is_no_pair_of_a_name_and_its_secret_stays(kept: Any) -> None:
    """A list of two names is no pair."""
    assert Projection().payload({"kept": kept})["kept"] == kept
