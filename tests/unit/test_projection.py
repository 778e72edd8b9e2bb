# ruff: noqa: DTZ001 - Lback's own datetimes are naive
"""Plain values, secrets, reveal and limits of the projection; nothing live but what is hostile."""

from __future__ import annotations

import collections
import dataclasses
import enum
import threading
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from lback_relay.markers import Omitted, Redacted
from lback_relay.projection import MAX_KNOWN_TYPES, Projection, _found, _function_for
from lback_relay.projection_walk import MAX_CHARACTERS, MAX_DEPTH, MAX_VALUES
from lback_relay.snapshot import EntitySnapshot, ReferenceSnapshot, SenderSnapshot

HASH = "$2b$12$" + "a" * 53


def project(value: Any, *reveal: str, **options: Any) -> Any:
    """Project one value as the kwarg ``x``."""
    return Projection(reveal=reveal, **options).payload({"x": value})["x"]


def explanation(marker: Any) -> str:
    """Return what an Omitted or Redacted value says."""
    assert isinstance(marker, Omitted | Redacted)
    return marker.relay_explanation


def name_of(value: object) -> str:
    """Return the name of a value's type, whatever the type makes of it."""
    name: str = type.__dict__["__qualname__"].__get__(type(value))
    return name


class Color(enum.Enum):
    """A plain enum."""

    RED = "red"


PLAIN = [
    None,
    True,
    0,
    -(10**40),
    1.5,
    "text",
    "",
    b"bytes",
    Decimal("1.50"),
    UUID(int=7),
    date(2026, 1, 2),
    datetime(2026, 1, 2, 3, 4),
    datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc),
    datetime(2026, 7, 2, 3, 4, tzinfo=ZoneInfo("Europe/Berlin")),
    time(3, 4, 5),
    timedelta(days=1, microseconds=2),
    PurePosixPath("/srv/data"),
    PureWindowsPath("C:/data"),
    [1, "a", None, [2]],
    (1, ("a",)),
    {1, "a", (2, 3)},
    frozenset({1, "a"}),
    {"a": 1, 2: {"b": [3]}, (1, "x"): 2, None: 3, b"k": 4, Decimal(1): 5},
]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_data_stay_what_they_are(value: Any) -> None:
    """Equal, and of the same type."""
    projected = project(value)
    assert projected == value
    assert type(projected) is type(value)


def test_naive_datetimes_stay_naive() -> None:
    """Lback's are naive UTC; a zone would be a guess."""
    assert project(datetime(2026, 1, 2)).tzinfo is None


class Text(str):
    """As markupsafe.Markup is."""

    __slots__ = ()

    def __str__(self) -> str:
        raise AssertionError("code of the subclass ran")


class Number(int):
    """An int of the application's own."""


class Real(float):
    """As numpy.float64 is."""


class Pair(NamedTuple):
    """A named tuple."""

    left: int
    right: int


class Late(datetime):
    """As freezegun's and pendulum's are."""


class Day(date):
    """A date of the application's own."""


class Hour(time):
    """A time of the application's own."""


class Span(timedelta):
    """A timedelta of the application's own."""


class Money(Decimal):
    """A Decimal of the application's own."""


class Key(UUID):
    """A UUID of the application's own."""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Text("text"), "text"),
        (Number(7), 7),
        (Real(1.5), 1.5),
        (Pair(1, 2), (1, 2)),
        (Late(2026, 1, 2, 3), datetime(2026, 1, 2, 3)),
        (Day(2026, 1, 2), date(2026, 1, 2)),
        (Hour(3, 4), time(3, 4)),
        (Span(days=1), timedelta(days=1)),
        (Money("1.50"), Decimal("1.50")),
        (Key(int=7), UUID(int=7)),
        (Path("/srv/data"), PurePosixPath("/srv/data")),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.defaultdict(int, a=1), {"a": 1}),
        (collections.UserDict(a=1), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (collections.deque([1, 2]), [1, 2]),
        ({"a": 1}.keys(), ["a"]),
        ({"a": 1}.values(), [1]),
        ({"a": 1}.items(), [("a", 1)]),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab"), b"ab"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_subclass_becomes_what_it_extends(value: Any, expected: Any) -> None:
    """A handler need not have the class; none of its code runs."""
    projected = project(value)
    assert projected == expected
    assert type(projected) is type(expected)


class Strange(tzinfo):
    """A zone that no other process knows."""

    def utcoffset(self, _: datetime | None) -> timedelta:
        return timedelta(hours=5, minutes=45)

    def dst(self, _: datetime | None) -> None:
        return None

    def tzname(self, _: datetime | None) -> str:
        return "strange"


def test_a_foreign_zone_becomes_its_offset() -> None:
    """pytz and dateutil have classes of their own; the instant is what counts."""
    fixed = timezone(timedelta(hours=5, minutes=45))
    assert project(datetime(2026, 1, 2, tzinfo=Strange())).tzinfo == fixed
    assert project(time(1, 2, tzinfo=Strange())) == time(1, 2, tzinfo=fixed)


def test_the_payload_shares_nothing_that_can_change() -> None:
    """The framework changes some dicts after it has sent them."""
    inner = {"b": [1]}
    payload = Projection().payload({"x": inner})
    inner["b"].append(2)
    inner["c"] = [3]
    assert payload == {"x": {"b": [1]}}


def test_keys_that_are_not_plain_are_named_by_their_type() -> None:
    """A handler can't have the key itself."""
    name = "<builtins.builtin_function_or_method>"
    assert project({print: 1, len: 2}) == {name: 1, f"{name}'": 2}
    assert project({Color.RED: 1}) == {"red": 1}
    assert set(project({Path("/a"): 1, Text("t"): 2})) == {PurePosixPath("/a"), "t"}


def test_keys_lose_their_secrets_and_none_is_lost() -> None:
    """A dict keyed by tokens keeps its size."""
    key = "eyJhbGciOiJI.eyJzdWIiOiIx"
    projected = project({key + ".a": 1, key + ".b": 2})
    assert projected == {"[redacted]": 1, "[redacted]'": 2}


# --- secrets ------------------------------------------------------------------------------------


def test_a_secret_name_is_redacted_at_any_depth() -> None:
    """In attributes, dict keys and lists alike, and says how to reveal it."""
    payload = Projection().payload(
        {"token": "t", "update_data": {"password": "p", "email": "e"}, "rows": [{"api_key": "k"}]}
    )
    assert payload["token"] == Redacted("token")
    assert payload["update_data"]["password"] == Redacted("update_data.password")
    assert payload["update_data"]["email"] == "e"
    assert payload["rows"][0]["api_key"] == Redacted("rows.0.api_key")
    assert '"reveal": ["rows.0.api_key"]' in explanation(payload["rows"][0]["api_key"])


def test_none_and_booleans_tell_no_secret() -> None:
    """``if user.auth_token is None`` works in a handler."""
    given = {"auth_token": None, "password": False, "requires_auth": True}
    assert Projection().payload(given) == given


@pytest.mark.parametrize(
    ("kwargs", "secret"),
    [
        ({"session_id": "s", "key": "csrf_token", "value": "v"}, "value"),
        ({"payload": {"user_id": 1}, "token": "t"}, "payload"),
        ({"code": "abcdef", "token_data": {}}, "code"),
        ({"code": "abcdef", "error": "refused"}, "code"),
        ({"authorize_url": "https://x.org", "state": "abc", "scope": "a"}, "state"),
        ({"code": "4/0AX4XfWj"}, "code"),
    ],
)
def test_everyday_names_are_secrets_beside_certain_others(
    kwargs: dict[str, Any], secret: str
) -> None:
    """The projection does not know the signal; the names of its kwargs tell."""
    assert Projection().payload(kwargs)[secret] == Redacted(secret)
    assert Projection().payload({"data": kwargs})["data"][secret] == Redacted(f"data.{secret}")


def test_everyday_names_stay_by_themselves() -> None:
    """An application's own signals have them too."""
    kwargs = {"code": "E42", "value": 3, "payload": {"a": 1}}
    assert Projection().payload(kwargs) == kwargs
    assert Projection().payload({"state": "paid"}) == {"state": "paid"}


def test_text_loses_what_looks_like_a_secret() -> None:
    """Anywhere: in text, bytes, paths, and items of collections."""
    url = "postgres://bob:hunter2@db/x"
    assert "hunter2" not in project(url)
    assert b"hunter2" not in project(url.encode())
    assert HASH not in project([HASH])[0]
    assert "0123456789abcdef" not in str(project(PurePosixPath("/reset/0123456789abcdef")))
    assert "abc" not in project("/verify?token=abc")


# --- reveal -------------------------------------------------------------------------------------


def test_reveal_opens_exactly_one_path() -> None:
    """Its neighbours, and the same name elsewhere, stay closed."""
    kwargs = {"user": {"token": "a", "password": "b"}, "other": {"token": "c"}, "token": "d"}
    payload = Projection(reveal=["user.token"]).payload(kwargs)
    assert payload["user"] == {"token": "a", "password": Redacted("user.password")}
    assert payload["other"] == {"token": Redacted("other.token")}
    assert payload["token"] == Redacted("token")


def test_reveal_opens_a_path_within_a_secret() -> None:
    """Of what holds it only the names are seen."""
    given = {
        "token_data": {
            "access_token": "a",
            "scope": "s",
            "more": {"n": 1},
            "list": ["l"],
            "ok": True,
        }
    }
    payload = Projection(reveal=["token_data.access_token"]).payload(given)
    assert payload["token_data"] == {
        "access_token": "a",
        "scope": Redacted("token_data.scope"),
        "more": Redacted("token_data.more"),
        "list": Redacted("token_data.list"),
        "ok": True,
    }
    deep = Projection(reveal=["token_data.more.n"]).payload(given)
    assert deep["token_data"]["more"] == {"n": 1}
    assert deep["token_data"]["scope"] == Redacted("token_data.scope")


def test_a_revealed_container_keeps_its_own_secrets() -> None:
    """They need paths of their own."""
    payload = Projection(reveal=["tokens"]).payload({"tokens": {"kind": "a", "password": "b"}})
    assert payload["tokens"] == {"kind": "a", "password": Redacted("tokens.password")}


@pytest.mark.parametrize("value", ["text", Text("t"), 7, b"b", 1.5, UUID(int=1), Path("/a")])
def test_a_path_beyond_a_plain_value_reveals_nothing(value: Any) -> None:
    """There is nothing in it that the path could mean."""
    assert Projection(reveal=["pin.x"]).payload({"pin": value}) == {"pin": Redacted("pin")}


def test_paths_know_no_case_and_lists_have_indices() -> None:
    """Header names come in any case."""
    kwargs = {"headers": {"COOKIE": "a=b", "X-Token": "x"}, "rows": [{"token": 1}, {"token": 2}]}
    payload = Projection(reveal=["headers.Cookie", "rows.1.token"]).payload(kwargs)
    assert payload["headers"] == {"COOKIE": "a=b", "X-Token": Redacted("headers.X-Token")}
    assert payload["rows"] == [{"token": Redacted("rows.0.token")}, {"token": 2}]


def test_revealed_text_is_left_alone() -> None:
    """A mail's body holds the very link that a handler must send."""
    body = "Click https://shop/verify?token=abc"
    assert Projection(reveal=["body"]).payload({"body": body}) == {"body": body}
    assert Projection(reveal=["body"]).payload({"body": body.encode()}) == {"body": body.encode()}
    assert "abc" not in Projection(reveal=["subject"]).payload({"body": body})["body"]


# --- limits -------------------------------------------------------------------------------------


def test_long_text_is_cut_and_says_so() -> None:
    """The handler sees how much there was."""
    projected = project("ä" * 100_000, max_string_length=1000)
    assert projected == "ä" * 1000 + "… [cut by lback_relay: 100000 characters]"
    assert project("a" * 20, "x", max_string_length=16).startswith("a" * 16 + "… [cut")
    assert project("a" * 16, max_string_length=16) == "a" * 16


@pytest.mark.parametrize("before", range(940, 1010, 7))
def test_a_secret_across_the_cut_is_seen(before: int) -> None:
    """It would not be known by the half of it."""
    text = "x" * before + " postgres://bob:hunter2hunter2hunter2@db/x " + "y " * 2000
    projected = project(text, max_string_length=1000)
    assert "hunter2" not in projected
    assert len(projected) < 1100


def test_long_bytes_are_omitted() -> None:
    """Half a picture is none."""
    assert "max_string_length (100)" in explanation(project(b"a" * 101, max_string_length=100))


def test_all_text_together_has_a_limit() -> None:
    """A list of the same long text is small in memory and without end on the wire."""
    text = "x" * 1_000_000
    projected = project([text] * 40, max_string_length=1_000_000)
    assert sum(map(len, projected)) < MAX_CHARACTERS + 40 * 100
    assert projected[-1] == "… [cut by lback_relay: 1000000 characters]"


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset, collections.deque])
def test_too_many_items_are_cut_and_counted(kind: Any) -> None:
    """The last item says how many are missing."""
    projected = project(kind(range(MAX_VALUES + 5)))
    assert len(projected) == MAX_VALUES + 1
    [marker] = [item for item in projected if isinstance(item, Omitted)]
    assert "5 more values are too many" in explanation(marker)


def test_too_many_keys_are_cut_and_counted() -> None:
    """So does a key of its own."""
    projected = project(dict.fromkeys(range(MAX_VALUES + 5), 0))
    assert "5 more values" in explanation(projected["…"])


def test_shared_values_have_a_limit_too() -> None:
    """Each level doubles what the one below holds: small in memory, endless as data."""
    value: Any = [1]
    for _ in range(30):
        value = [value, value]
    project(value)


def test_cycles_are_omitted() -> None:
    """In each kind of collection."""
    items: list[Any] = [1]
    items.append(items)
    table: dict[str, Any] = {"a": 1}
    table["self"] = (table,)
    assert "(a cycle)" in explanation(project(items)[1])
    assert "(a cycle)" in explanation(project(table)["self"][0])
    assert project([items, items])[1][0] == 1  # met again, but not within itself


def test_what_lies_too_deep_is_omitted() -> None:
    """The codec has a limit as well, of twice the depth."""
    value: Any = "bottom"
    for _ in range(1000):
        value = [value]
    projected = project(value)
    for _ in range(MAX_DEPTH):
        projected = projected[0]
    assert f"deeper than {MAX_DEPTH}" in explanation(projected)


# --- hostile objects ----------------------------------------------------------------------------


def hostile() -> Any:
    """Return an object of which, and of whose class, whatever is asked raises."""

    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            raise RuntimeError(name)

    class Hostile(metaclass=Meta):
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

        __repr__ = __str__ = __bool__ = __len__ = __iter__ = __hash__ = None  # type: ignore[assignment]

    return Hostile()


class Liar:
    """Says that it is a str."""

    @property
    def __class__(self) -> Any:
        return str

    @__class__.setter
    def __class__(self, _: Any) -> None:
        raise AssertionError


class Unnamed:
    """A class whose module is no text."""

    __module__ = 7  # type: ignore[assignment]


class Bare:
    """Has no ``__dict__``."""

    __slots__ = ("a",)


class BadKeys(dict[Any, Any]):
    """A dict whose methods raise."""

    def items(self) -> Any:
        raise AssertionError

    def __iter__(self) -> Any:
        raise AssertionError

    def __contains__(self, key: object) -> bool:
        raise AssertionError


class BadZone(Strange):
    """A zone that raises."""

    def utcoffset(self, _: datetime | None) -> timedelta:
        raise RuntimeError


@pytest.mark.parametrize("kind", [hostile, Liar, Unnamed, Bare, object], ids=range(5))
def test_an_unknown_object_is_omitted_and_not_asked(kind: Any) -> None:
    """Its type's name is all that is known of it."""
    value = kind()
    marker = project([value])[0]
    assert isinstance(marker, Omitted)
    assert marker.relay_type.endswith(name_of(value))
    assert marker.relay_path == "x.0"


def test_a_class_that_raises_when_it_is_looked_up() -> None:
    """As payload, and as sender."""

    class Meta(type):
        def __hash__(cls) -> int:
            raise RuntimeError

    class Unhashable(metaclass=Meta):
        pass

    marker = project([Unhashable()])[0]
    assert "raised RuntimeError" in explanation(marker)
    assert marker.relay_path == "x.0"
    assert type(Projection().sender(Unhashable())).__name__ == "Unhashable"
    assert isinstance(Projection().payload({"code": Liar(), "state": 1})["code"], Redacted)
    assert isinstance(Projection().payload({"code": Liar()})["code"], Omitted)


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["basic_user"],
        ["harmless", "https://u:hunter2@h/", "more"],
        ["password=hunter2"] * 3,
        ["a"] * 65,
        ["long " * 300, "b", "c"],
        ["text", 1, None],
        ["text", Text("<b>token=hunter2</b>"), "c"],
    ],
)
def test_a_list_of_texts_is_projected_as_any_other_collection(texts: list[Any]) -> None:
    """Short ones are judged together, and the list is a copy."""
    projected = project(texts)
    assert projected == list(project(collections.deque(texts)))
    assert list(map(type, projected)) == list(map(type, project(collections.deque(texts))))
    assert "hunter2" not in repr(projected)
    assert projected is not texts


def test_texts_in_lists_count_as_any_other_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many short lists hold many values."""
    monkeypatch.setattr("lback_relay.projection_walk.MAX_VALUES", 6)
    projected = Projection().payload({"a": ["1", "2"], "b": ["3", "4", "5"], "c": ["6", "7"]})
    assert projected["a"] == ["1", "2"]
    assert projected["b"] == ["3", "4", "5"]
    assert projected["c"][0] == "6"
    assert isinstance(projected["c"][1], Omitted)


def test_what_raises_when_it_is_read_is_omitted() -> None:
    """The signal is relayed without it."""
    with memoryview(b"ab") as released:
        pass
    assert "raised ValueError" in explanation(project(released))
    assert "raised RuntimeError" in explanation(project(datetime(2026, 1, 2, tzinfo=BadZone())))


def test_methods_of_a_dict_subclass_do_not_run() -> None:
    """A werkzeug MultiDict would answer with one value of several."""
    assert project(BadKeys(a=1, code="b")) == {"a": 1, "code": "b"}


def test_generators_are_not_run() -> None:
    """The sender wants to run them."""
    values = iter([1, 2])
    marker = project(number for number in values)
    assert "send a list" in explanation(marker)
    assert list(values) == [1, 2]
    assert "send a list" in explanation(project(zip([1], [2], strict=True)))


def test_open_things_are_omitted_with_a_remedy() -> None:
    """Files, locks and threads do not travel."""
    with Path(__file__).open() as file:
        for value in (file, threading.Lock(), threading.current_thread()):
            assert "sending process only" in explanation(project(value))


def test_types_made_on_the_fly_do_not_pile_up() -> None:
    """The cache of types is emptied when it is full."""
    for number in range(MAX_KNOWN_TYPES + 10):
        _function_for(type(f"Made{number}", (), {}))
    assert len(_found) <= MAX_KNOWN_TYPES
    assert project("a") == "a"


def test_what_was_relayed_once_is_relayed_again() -> None:
    """A handler may send on what it was given."""
    user = EntitySnapshot("shop.User", {"a": 1}, (1,))
    given = {"user": user, "gone": Omitted("a", "b", "c"), "x": [Redacted("d")]}
    assert Projection().payload(given) == given


# --- sender -------------------------------------------------------------------------------------


@dataclasses.dataclass
class Sender:
    """A live sender."""

    name: str = "a"


@pytest.mark.parametrize("sender", ["wsgi_application", None, 7, ("a", 1)])
def test_a_plain_sender_stays(sender: Any) -> None:
    """Lback's server sends with its name."""
    assert Projection().sender(sender) == sender


def test_a_live_sender_keeps_its_types_name() -> None:
    """``type(sender).__name__`` gives what it gives in a receiver."""
    for live in (Sender(), hostile(), ValueError("x")):
        projected = Projection().sender(live)
        assert isinstance(projected, SenderSnapshot)
        assert type(projected).__name__ == name_of(live).rpartition(".")[2]


def test_a_class_as_sender_keeps_its_own_name() -> None:
    """``sender.__name__``, as Django's receivers have it."""
    projected = Projection().sender(Sender)
    assert isinstance(projected, ReferenceSnapshot)
    assert projected.__name__ == "Sender"
    assert type(projected).__name__ == "type"
