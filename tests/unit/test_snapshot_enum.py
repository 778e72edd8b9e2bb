"""Snapshots of enum members, compared as handlers compare the members themselves."""

from __future__ import annotations

import copy
import enum
import pickle
from http import HTTPStatus
from typing import Any

import pytest

from lback_relay.snapshot import EnumSnapshot, IntEnumSnapshot, TextEnumSnapshot


class Colour(enum.Enum):
    """Neither an int nor a str."""

    RED = (255, 0, 0)
    SHADES = ["dark", "light"]  # noqa: RUF012 - an enum's values may be unhashable


NOT_FOUND: Any = IntEnumSnapshot("http.HTTPStatus", "NOT_FOUND", 404, "404")
GET: Any = TextEnumSnapshot("shop.Method", "GET", "GET", "GET")
RED: Any = EnumSnapshot("shop.Colour", "RED", (255, 0, 0), "Colour.RED")
SHADES: Any = EnumSnapshot("shop.Colour", "SHADES", ["dark", "light"], "Colour.SHADES")
EVERY = [NOT_FOUND, GET, RED, SHADES]


@pytest.mark.parametrize("member", EVERY, ids=repr)
def test_a_member_has_its_name_value_and_type(member: Any) -> None:
    """And reads as the member did."""
    assert type(member).__name__ == member.relay_type.rpartition(".")[2]
    assert member == member.value
    assert member.name in repr(member)
    assert f"{member}" == str(member)


@pytest.mark.parametrize("member", EVERY, ids=repr)
def test_a_copy_of_a_member_is_equal(member: Any) -> None:
    """copy, deepcopy and pickle."""
    for duplicate in [copy.copy(member), copy.deepcopy(member), pickle.loads(pickle.dumps(member))]:
        assert duplicate == member
        assert hash(duplicate) == hash(member)
        assert repr(duplicate) == repr(member)


@pytest.mark.parametrize("member", EVERY, ids=repr)
def test_a_member_can_not_be_changed(member: Any) -> None:
    """It is a snapshot."""
    with pytest.raises(AttributeError, match="can't be"):
        member.name = "OTHER"
    with pytest.raises(AttributeError, match="can't be"):
        del member.relay_type


def test_a_status_compares_as_a_number() -> None:
    """``response.status_code >= 400`` is what receivers write."""
    assert NOT_FOUND >= 400
    assert NOT_FOUND == 404 == int(NOT_FOUND)
    assert NOT_FOUND != 200
    assert NOT_FOUND == HTTPStatus.NOT_FOUND
    assert NOT_FOUND != HTTPStatus.OK
    assert {404: "missing"}[NOT_FOUND] == "missing"
    assert f"{NOT_FOUND:05d} {NOT_FOUND}" == "00404 404"
    assert NOT_FOUND // 100 == 4


def test_a_method_compares_as_text_in_any_case() -> None:
    """As Lback's HTTPMethod does."""
    assert GET == "GET"
    assert GET == "get"
    assert GET != "POST"
    assert GET in ("GET", "HEAD")
    assert {"GET": 1}[GET] == 1
    assert GET.lower() == "get"
    plain = EnumSnapshot("lback.core.types.HTTPMethod", "GET", "GET", "GET")
    assert plain == "get"
    assert plain != 7


def test_a_member_equals_the_real_one_where_that_can_be_imported() -> None:
    """By the enum's name and the value."""
    assert Colour.RED == RED
    assert SHADES == Colour.SHADES
    assert RED != Colour.SHADES
    assert EnumSnapshot("shop.Paint", "RED", (255, 0, 0), "") != Colour.RED


def test_members_of_different_enums_differ() -> None:
    """Whatever their values."""
    assert EnumSnapshot("shop.Colour", "RED", (255, 0, 0), "another text") == RED
    assert EnumSnapshot("shop.Paint", "RED", (255, 0, 0), "Colour.RED") != RED
    assert RED != SHADES
