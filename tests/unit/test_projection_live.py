"""Exceptions, enums, dataclasses, functions, and objects like the framework's, as snapshots."""

from __future__ import annotations

import argparse
import enum
import functools
import http
import io
import types
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from lback_relay.markers import Omitted, Redacted
from lback_relay.projection import Projection
from lback_relay.projection_objects import MAX_FRAMES
from lback_relay.snapshot import (
    EnumSnapshot,
    ExceptionSnapshot,
    IntEnumSnapshot,
    ObjectSnapshot,
    ReferenceSnapshot,
    RequestSnapshot,
    ResponseSnapshot,
    TextEnumSnapshot,
)


def project(value: Any, *reveal: str, name: str = "x") -> Any:
    """Project one value as a kwarg."""
    return Projection(reveal=reveal).payload({name: value})[name]


# --- exceptions -----------------------------------------------------------------------------------


class Refused(Exception):
    """An exception of the application's own."""

    def __init__(self, message: str, **values: Any) -> None:
        super().__init__(message, 7)
        self.message = message
        self.__dict__.update(values)

    @property
    def args(self) -> Any:  # type: ignore[override]
        raise AssertionError("code of the exception ran")


def raised(error: BaseException, depth: int = 0) -> BaseException:
    """Return the exception with a traceback."""
    try:
        if depth:
            raised_inside(error, depth)
        raise error
    except BaseException as caught:
        return caught


def raised_inside(error: BaseException, depth: int) -> None:
    """Raise from so many calls further in."""
    if depth > 1:
        raised_inside(error, depth - 1)
    raise error


def test_an_exception_keeps_args_attributes_and_frames() -> None:
    """Private attributes stay; secrets go."""
    snapshot = project(raised(Refused("no", auth_token="planted", _inner=1)))
    assert isinstance(snapshot, ExceptionSnapshot)
    assert type(snapshot).__name__ == "Refused"
    assert snapshot.args == ("no", 7)
    assert snapshot.relay_values == {"message": "no", "auth_token": Redacted("x.auth_token")}
    assert snapshot.relay_frames[-1].startswith(__file__)
    assert snapshot.relay_frames[-1].endswith("in raised")


def test_only_the_innermost_frames_are_kept() -> None:
    """A recursion's traceback is a thousand lines."""
    frames = project(raised(ValueError(), depth=50)).relay_frames
    assert len(frames) == MAX_FRAMES
    assert frames[-1].endswith("in raised_inside")


def test_secrets_in_an_exceptions_text_are_redacted() -> None:
    """Drivers print URLs, and PostgreSQL the row."""
    url = project(ValueError("can't connect to postgres://bob:planted@db/x")).args[0]
    assert "planted" not in url
    message = 'duplicate key "users_token"\nDETAIL:  Key (token)=(planted) already exists.\n'
    snapshot = project(Refused("x", pgerror=message))
    assert "planted" not in snapshot.pgerror
    assert project(ValueError(message)).args[0].startswith('duplicate key "users_token"\nDETAIL:')
    assert "planted" not in project(ValueError(message)).args[0]


@pytest.mark.parametrize(
    "message",
    [
        "(1062, \"Duplicate entry 'planted' for key 'users.auth_token'\")",
        "Cannot insert duplicate key. The duplicate key value is (planted). (2627)",
        "failed [SQL: INSERT INTO users (a) VALUES (?)]\n[parameters: ('planted',)]",
    ],
)
def test_other_databases_tell_of_the_row_too(message: str) -> None:
    """And so does whoever wraps SQLAlchemy's text."""
    projected = project(RuntimeError(message)).args[0]
    assert "planted" not in projected
    assert "[redacted]" in projected


def test_the_parameters_of_a_statement_are_redacted() -> None:
    """SQLAlchemy keeps them by position: which is a secret can't be told."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection, pytest.raises(OperationalError) as caught:
        connection.execute(text("insert into nowhere values (:a)"), {"a": "planted"})
    engine.dispose()
    snapshot = project(caught.value)
    assert "planted" not in repr(snapshot.relay_values)
    assert snapshot.relay_values["params"] == Redacted("x.params")
    assert "no such table" in snapshot.args[0]


def test_causes_and_contexts_are_kept() -> None:
    """As a traceback would show them."""
    error = ValueError("outer")
    error.__cause__ = KeyError("inner")
    cause = project(error).__cause__
    assert type(cause).__name__ == "KeyError"
    assert cause.args == ("inner",)
    error = ValueError("outer")
    error.__context__ = KeyError("inner")
    assert project(error).__cause__.args == ("inner",)
    error.__suppress_context__ = True
    assert project(error).__cause__ is None


def test_exceptions_that_cause_each_other_end() -> None:
    """Python allows it."""
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert project(one).__cause__.__cause__ is None
    one.args = (one,)
    assert isinstance(project(one).args[0], Omitted)


def test_attributes_that_python_keeps_elsewhere() -> None:
    """An OSError's number and file, an exit's code."""
    error = FileNotFoundError(2, "No such file", "/srv/x")
    assert project(error).errno == 2
    assert project(error).filename == "/srv/x"
    assert project(SystemExit(3)).code == 3


# --- enums, dataclasses, functions ----------------------------------------------------------------


class Method(enum.Enum):
    """As Lback's HTTPMethod is."""

    GET = "GET"

    def __str__(self) -> str:
        return self.value


class Word(str, enum.Enum):
    """A str too."""

    A = "a"


class Flags(enum.IntFlag):
    """Its combinations have no name of their own on Python 3.10."""

    A = 1
    B = 2


class Odd(enum.Enum):
    """Its values are not plain."""

    LOCK = object()


def test_members_of_enums() -> None:
    """They read, and compare, as they did."""
    method = project(Method.GET)
    assert isinstance(method, EnumSnapshot)
    assert (method.name, method.value, str(method)) == ("GET", "GET", "GET")
    assert method == "get"
    status = project(http.HTTPStatus.NOT_FOUND)
    assert isinstance(status, IntEnumSnapshot)
    assert status >= 400
    assert isinstance(project(Word.A), TextEnumSnapshot)
    assert project(Word.A) == "a"
    assert project(Flags.A | Flags.B).value == 3
    assert isinstance(project(Odd.LOCK).value, Omitted)
    assert project({Method.GET}) == {"GET"}


@dataclass
class Order:
    """A dataclass with all that one may have."""

    number: int
    card_token: str
    lines: list[Any] = field(default_factory=list)
    count: ClassVar[int] = 7

    def __post_init__(self) -> None:
        self.extra = "no field"


@dataclass
class Slim:
    """A dataclass with slots."""

    __slots__ = ("number", "unset")
    number: int
    unset: int

    def __init__(self) -> None:
        self.number = 1


def test_dataclasses_are_snapshots_of_their_fields() -> None:
    """Not dicts: ``order.number`` works."""
    order = Order(1, "planted")
    order.lines.append(order)
    snapshot = project(order)
    assert isinstance(snapshot, ObjectSnapshot)
    assert type(snapshot).__name__ == "Order"
    assert set(snapshot.relay_values) == {"number", "card_token", "lines"}
    assert snapshot.relay_values["card_token"] == Redacted("x.card_token")
    assert isinstance(snapshot.lines[0], Omitted)
    assert project(Slim()).relay_values == {"number": 1}


def test_namespaces_keep_what_was_put_in() -> None:
    """manage.py's commands send their arguments."""
    arguments = argparse.Namespace(command="x", password="planted", func=project, _private=1)
    snapshot = project(arguments)
    assert snapshot.command == "x"
    assert snapshot.relay_values["password"] == Redacted("x.password")
    assert snapshot.func.__name__ == "project"
    assert set(snapshot.relay_values) == {"command", "password", "func"}
    assert project(types.SimpleNamespace(a=1)).a == 1


def test_classes_and_functions_keep_their_names() -> None:
    """``view.__name__`` works; calling does not."""
    for value, name in (
        (Order, "Order"),
        (project, "project"),
        (len, "len"),
        ("".join, "join"),
        (Refused("x").with_traceback, "with_traceback"),
        (Method, "Method"),
    ):
        snapshot = project(value)
        assert isinstance(snapshot, ReferenceSnapshot)
        assert snapshot.__name__ == name
    assert project(Order).__module__ == __name__
    assert isinstance(project(functools.partial(project)), Omitted)


# --- as the framework's ---------------------------------------------------------------------------


class Request:
    """What is used of ``lback.core.types.Request``; the real one is in the integration tests."""

    def __init__(self, **stored: Any) -> None:
        self.path = "/a"
        self.raw_path = "/a?token=planted"
        self.method = Method.GET
        self.headers = {"HOST": "shop", "COOKIE": "session_id=planted", "X-API-KEY": "planted"}
        self.cookies = {"theme": "planted", "session_id": "planted"}
        self._environ = {
            "REMOTE_ADDR": "1.2.3.4",
            "HTTP_COOKIE": "planted",
            "wsgi.input": io.BytesIO(),
        }
        self._initial_body: Any = b'{"password": "planted"}'
        self._parsed_body = {"password": "planted", "name": "planted"}
        self._context: dict[str, Any] = {
            "path_params": {"id": 3},
            "tenant": "t",
            "config": object(),
        }
        self._files: dict[str, Any] = {}
        self.__dict__.update(stored)

    @property
    def user(self) -> Any:
        raise AssertionError("a property ran")


class Response:
    """What is used of ``lback.core.response.Response``."""

    def __init__(self) -> None:
        self.body = "planted"
        self.status_code = 404
        self.headers = {
            "Content-Type": "text/html",
            "Set-Cookie": "planted",
            "Location": "/?token=planted",
        }


class Route:
    """What is used of ``lback.core.router.Route``."""

    def __init__(self) -> None:
        self.path = "/a"
        self.view = project
        self.requires_auth = True
        self._path_regex = "planted"


Request.__module__ = "lback.core.types"
Response.__module__ = "lback.core.response"
Route.__module__ = "lback.core.router"


class OwnRequest(Request):
    """A subclass, from elsewhere."""


def test_a_request_answers_as_it_would() -> None:
    """Without its body, its cookies, and its live parts."""
    request = project(OwnRequest(_context={"user": "bob"}), name="request")
    assert isinstance(request, RequestSnapshot)
    assert type(request).__name__ == "OwnRequest"
    assert request.user == "bob"
    request = project(Request(), name="request")
    assert "planted" not in repr(request)
    assert (request.path, request.method, request.user) == ("/a", "GET", None)
    assert request.headers["HOST"] == "shop"
    assert request.headers["COOKIE"] == Redacted("request.headers.COOKIE")
    assert set(request.cookies) == {"theme", "session_id"}
    assert request.cookies["theme"] == Redacted("request.cookies.theme")
    assert request.environ["REMOTE_ADDR"] == "1.2.3.4"
    assert isinstance(request.environ["wsgi.input"], Omitted)
    assert request.path_params == {"id": 3}
    assert request.get_context("tenant") == "t"
    assert "config" not in request.relay_values
    assert request.db_session is None


def test_bodies_are_relayed_where_they_are_revealed() -> None:
    """Whole, or one name of what was parsed."""
    marker = project(Request(), name="request").relay_values["parsed_body"]
    assert isinstance(marker, Omitted)
    assert '"reveal": ["request.parsed_body"]' in marker.relay_explanation
    request = project(Request(), "request.parsed_body", "request.body_text", name="request")
    assert request.parsed_body == {
        "password": Redacted("request.parsed_body.password"),
        "name": "planted",
    }
    assert request.body_text == '{"password": "planted"}'
    assert isinstance(request.relay_values["body_bytes"], Omitted)
    request = project(Request(_initial_body="ä"), "request.body_bytes", name="request")
    assert request.body_bytes == "ä".encode()
    request = project(Request(), "request.parsed_body.name", name="request")
    assert request.parsed_body["name"] == "planted"
    response = project(Response(), "response.body", name="response")
    assert response.body == "planted"


def test_a_request_that_is_not_complete() -> None:
    """Middlewares may send while it is being made."""
    request = project(Request.__new__(Request), name="request")
    assert request.cookies == {}
    assert request.parsed_body is None


def test_a_response_answers_as_it_would() -> None:
    """Without its body and its cookies."""
    response = project(Response(), name="response")
    assert isinstance(response, ResponseSnapshot)
    assert "planted" not in repr(response)
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "text/html"


def test_simple_objects_keep_what_is_useful() -> None:
    """A route its path and its view's name."""
    route = project(Route())
    assert route.relay_values == {
        "path": "/a",
        "requires_auth": True,
        "view": ReferenceSnapshot("builtins.function", __name__, "project"),
    }
