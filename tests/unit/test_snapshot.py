"""Snapshots, used as handlers use what they got when they were local receivers."""

from __future__ import annotations

import copy
import inspect
import pickle
import sys
import traceback
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Integer
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lback_relay.errors import ValueNotRelayed
from lback_relay.markers import Omitted, Redacted
from lback_relay.snapshot import (
    EntitySnapshot,
    ExceptionSnapshot,
    ObjectSnapshot,
    ReferenceSnapshot,
    RequestSnapshot,
    ResponseSnapshot,
    SenderSnapshot,
    Snapshot,
)
from lback_relay.snapshot_base import named_type


class Base(DeclarativeBase):
    """The tables of this test."""


class Outer:
    """Holds a mapped class."""

    class Account(Base):
        """A row with a key."""

        __tablename__ = "account"
        id: Mapped[int] = mapped_column(Integer, primary_key=True)


class SessionStub:
    """Remembers what was asked for, as ``Session.get`` takes it."""

    def get(self, model: type, identity: tuple[Any, ...]) -> tuple[type, tuple[Any, ...]]:
        return model, identity


def user(**attributes: Any) -> Any:
    """Return a snapshot of a registered user."""
    given = {"id": 7, "email": "ada@example.org", "password": Redacted("user.password")}
    return EntitySnapshot("lback.models.user.User", {**given, **attributes}, (7,))


SNAPSHOTS = [
    user(),
    SenderSnapshot("lback.utils.user_manager.UserManager"),
    ObjectSnapshot("shop.Point", {"x": 1, "y": [2]}),
    ReferenceSnapshot("builtins.type", "shop.views", "Cart.Item"),
    RequestSnapshot("lback.core.types.Request", {"path": "/", "method": "GET"}),
    ResponseSnapshot("lback.core.response.Response", {"status_code": 404}),
    ExceptionSnapshot("shop.Refused", ("no",), {"code": 3}, ("a.py:1 in f",)),
]


def ids(value: Any) -> str:
    return type(value).__name__


# every kind -----------------------------------------------------------------------------------


@pytest.mark.parametrize("snapshot", SNAPSHOTS, ids=ids)
def test_the_type_bears_the_name_of_the_original(snapshot: Any) -> None:
    """Receivers print and compare ``type(x).__name__``; the first one is Lback's own example."""
    assert type(snapshot).__name__ == snapshot.relay_type.rpartition(".")[2]
    assert isinstance(snapshot, Snapshot)


@pytest.mark.parametrize("snapshot", SNAPSHOTS, ids=ids)
def test_a_copy_is_equal(snapshot: Any) -> None:
    """copy, deepcopy and pickle, as multiprocessing and caches use them."""
    for duplicate in [
        copy.copy(snapshot),
        copy.deepcopy(snapshot),
        pickle.loads(pickle.dumps(snapshot)),
    ]:
        assert duplicate == snapshot
        assert hash(duplicate) == hash(snapshot)
        assert type(duplicate).__name__ == type(snapshot).__name__
        assert repr(duplicate) == repr(snapshot)


@pytest.mark.parametrize("snapshot", SNAPSHOTS, ids=ids)
def test_a_snapshot_can_not_be_changed(snapshot: Any) -> None:
    """It shows what was sent; a handler that writes to it has taken it for the row."""
    with pytest.raises(AttributeError, match="snapshot of what was sent and can't be changed"):
        snapshot.email = "eve@example.org"
    with pytest.raises(AttributeError, match="can't be changed"):
        del snapshot.email
    snapshot.relay_values.clear()
    vars(snapshot).clear()
    assert snapshot == copy.copy(snapshot)


@pytest.mark.parametrize("snapshot", SNAPSHOTS, ids=ids)
def test_a_missing_attribute_is_missing_as_python_knows_it(snapshot: Any) -> None:
    """getattr with a default and hasattr work, and the error names the attribute."""
    assert getattr(snapshot, "missing", "default") == "default"
    assert not hasattr(snapshot, "missing")
    assert not hasattr(snapshot, "_private")
    with pytest.raises(ValueNotRelayed, match=r"\.missing was not relayed"):
        _ = snapshot.missing


@pytest.mark.parametrize("snapshot", SNAPSHOTS, ids=ids)
def test_relayed_attributes_are_listed(snapshot: Any) -> None:
    """dir and vars show what is there, and inspection does not fail."""
    assert set(vars(snapshot)) == set(snapshot.relay_values)
    assert set(snapshot.relay_values) <= set(dir(snapshot))
    assert inspect.getmembers(snapshot)


def test_snapshots_are_equal_by_kind_type_and_content() -> None:
    """Two relays of the same thing are equal; anything else is not."""
    assert user() == user()
    assert user() != user(id=8)
    assert user() != user(password="in clear")
    assert EntitySnapshot("m.A", {}) != EntitySnapshot("m.B", {})
    assert EntitySnapshot("m.A", {}, (1,)) != EntitySnapshot("m.A", {}, (2,))
    assert RequestSnapshot("m.A", {}) != ResponseSnapshot("m.A", {})
    assert user() != "lback.models.user.User"
    assert len({user(), user(), user(id=8)}) == 2


def test_type_names_from_the_wire_are_bounded_and_usable() -> None:
    """A type's name may be any text there; here it must be one that Python takes."""
    for given, name in [
        ("", "SenderSnapshot"),
        ("no_dots", "no_dots"),
        ("ends.", "ends."),
        ("m.nul\0", "nul?"),
        ("m.half \ud800", "half ?"),
        ("x" * 5000, "x" * 200),
    ]:
        made = SenderSnapshot(given)
        assert type(made).__name__ == name
        assert made.relay_type == given
    assert named_type(SenderSnapshot, "a.B") is named_type(SenderSnapshot, "a.B")


# the sender -----------------------------------------------------------------------------------


def test_a_sender_explains_what_it_is() -> None:
    """Whoever calls a method of the sender learns why it is not there."""
    sender = SenderSnapshot("lback.utils.user_manager.UserManager")
    assert repr(sender) == "<lback.utils.user_manager.UserManager (sender of a relayed signal)>"
    with pytest.raises(ValueNotRelayed, match="only the type's name travels"):
        sender.get_user()


# entities -------------------------------------------------------------------------------------


def test_an_entity_has_its_columns() -> None:
    """What a local receiver reads of a user."""
    entity = user()
    assert entity.email == "ada@example.org"
    assert entity.identity == entity.relay_identity == (7,)
    assert entity.model == entity.relay_type == "lback.models.user.User"
    assert vars(entity)["id"] == 7
    assert "email='ada@example.org'" in repr(entity)
    with pytest.raises(ValueNotRelayed, match=r'"reveal": \["user.password"\]'):
        entity.password.startswith("$2b$")


def test_a_relationship_says_how_to_load_it() -> None:
    """What was not in memory is a query away, in the handler's own session."""
    with pytest.raises(ValueNotRelayed, match=r"User.groups was not relayed.*worker_session\(\)"):
        _ = user().groups


def test_columns_win_over_the_snapshots_own_names() -> None:
    """A column may be called ``model``; the relay_ names are always the snapshot's."""
    car = EntitySnapshot("m.Car", {"model": "T", "identity": "plate", "load": 3}, (1,))
    assert (car.model, car.identity, car.load) == ("T", "plate", 3)
    assert car.relay_load(SessionStub(), Outer.Account) == (Outer.Account, (1,))


def test_an_entity_loads_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the imported model, or by one that the handler gives."""
    monkeypatch.setitem(sys.modules, "bank.models", SimpleNamespace(Outer=Outer))
    account = EntitySnapshot("bank.models.Outer.Account", {"id": 3}, (3,))
    assert account.load(SessionStub()) == (Outer.Account, (3,))
    assert user().load(SessionStub(), Outer.Account) == (Outer.Account, (7,))


@pytest.mark.parametrize(
    "dotted", ["not_imported.Model", "collections.OrderedDict", "sys.path", "nothing", ""]
)
def test_only_an_imported_mapped_class_is_loaded(dotted: str) -> None:
    """A name off the wire imports nothing and reaches nothing else."""
    with pytest.raises(ValueNotRelayed, match=r"pass the mapped class: entity.load\(session"):
        EntitySnapshot(dotted, {}, (1,)).load(SessionStub())
    assert "not_imported" not in sys.modules


def test_an_entity_without_a_key_can_not_be_loaded() -> None:
    """It was sent before the flush; the error says which signal to use."""
    with pytest.raises(ValueNotRelayed, match="use a signal sent after the flush"):
        EntitySnapshot("m.Draft", {}).load(SessionStub())


# requests and responses -----------------------------------------------------------------------


def test_a_request_answers_as_the_framework_s_does() -> None:
    """Parsed parts, the accessors that combine them, and the context."""
    request = RequestSnapshot(
        "lback.core.types.Request",
        {
            "path": "/search/",
            "method": "POST",
            "headers": {"HOST": "example.org"},
            "query_params": {"q": ["x"]},
            "parsed_body": {"name": "Ada"},
            "user": None,
        },
    )
    assert request.path == "/search/"
    assert request.GET == {"q": ["x"]}
    assert request.POST == request.DATA == {"name": "Ada"}
    assert request.get_host == "example.org"
    assert request.get_context("user", "nobody") is None
    assert request.get_context("missing", "nobody") == "nobody"


def test_a_get_request_has_no_posted_data() -> None:
    """As in the framework, whatever body came with it."""
    request = RequestSnapshot(
        "m.Request",
        {"method": "GET", "parsed_body": {"a": 1}, "headers": {"X-FORWARDED-HOST": "h"}},
    )
    assert request.POST == request.DATA == {}
    assert request.get_host == "h"
    put = RequestSnapshot("m.Request", {"method": "PUT", "parsed_body": None, "headers": {}})
    assert (put.DATA, put.POST, put.get_host) == ({}, {}, "")


# exceptions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no such user"),
        ValueError(),
        ValueError("a", 2),
        KeyError("id"),
        KeyError("a", "b"),
        OSError(2, "No such file"),
    ],
    ids=repr,
)
def test_an_exception_shows_itself_as_the_original(error: Exception) -> None:
    """args, str and repr are the original's."""
    kind = type(error)
    snapshot = ExceptionSnapshot(f"{kind.__module__}.{kind.__qualname__}", error.args)
    assert snapshot.args == error.args
    assert repr(snapshot) == repr(error)
    if not isinstance(error, OSError):  # whose text is made of attributes
        assert str(snapshot) == str(error)


def test_an_exception_of_attributes_shows_its_message() -> None:
    """Classes that give nothing to Exception.__init__ often have a ``message``."""
    assert str(ExceptionSnapshot("m.E", (), {"message": "quota exceeded"})) == "quota exceeded"
    assert str(ExceptionSnapshot("m.E", (), {"message": 7})) == ""


def test_an_exception_with_a_redacted_argument_can_be_shown() -> None:
    """Logging an exception must not fail for what was held back."""
    assert "looks like a secret" in str(ExceptionSnapshot("m.E", (Redacted("exception.args.0"),)))


def test_an_exception_can_be_raised_caught_and_logged() -> None:
    """It is an Exception, with its cause, and takes notes and a traceback as any other."""
    cause = ExceptionSnapshot("builtins.KeyError", ("id",))
    error = ExceptionSnapshot("m.Refused", ("no",), {"code": 3}, ("a.py:1 in f",), cause)
    with pytest.raises(Exception, match="no") as info:
        raise error
    assert info.value is error
    assert error.__traceback__ is not None
    assert error.__cause__ is cause
    assert (error.code, error.relay_frames) == (3, ("a.py:1 in f",))
    shown = "".join(traceback.format_exception(error))
    assert "KeyError" in shown
    assert "Refused" in shown
    with pytest.raises(RuntimeError) as wrapped:
        raise RuntimeError("in the handler") from error
    assert wrapped.value.__cause__ is error


# references and objects -----------------------------------------------------------------------


def test_a_reference_has_the_names_of_the_function() -> None:
    """What receivers print of a view, and a word about why it can't be called."""
    view = ReferenceSnapshot("builtins.function", "shop.views", "Cart.add")
    assert (view.__name__, view.__qualname__, view.__module__) == ("add", "Cart.add", "shop.views")
    assert repr(view) == "<function shop.views.Cart.add (relayed by name)>"
    assert view != ReferenceSnapshot("builtins.function", "shop.views", "Cart.remove")
    with pytest.raises(ValueNotRelayed, match=r"shop.views.Cart.add can't be called here.*import"):
        view()


def test_an_object_has_its_fields() -> None:
    """Dataclass instances and namespaces."""
    point = ObjectSnapshot("shop.Point", {"x": 1, "y": Omitted("y", "m.T", "it is live")})
    assert point.x == 1
    assert "x" in point
    assert "z" not in point
    assert point == ObjectSnapshot("shop.Point", {"x": 1, "y": Omitted("y", "m.T", "it is live")})
