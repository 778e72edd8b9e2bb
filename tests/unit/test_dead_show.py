"""How dead letters are counted and shown, and what is not shown of them."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from pathlib import PurePosixPath

import pytest
from support.letters import NOW_MS, a_letter
from support.runs import an_envelope

from lback_relay.cli.dead_show import as_json, as_text, flattened, plain, shape
from lback_relay.cli.dead_tally import Tally
from lback_relay.codec import encode
from lback_relay.snapshot import (
    EntitySnapshot,
    EnumSnapshot,
    Omitted,
    Redacted,
    SenderSnapshot,
    TextEnumSnapshot,
)

# counting --------------------------------------------------------------------------------------


def test_a_tally_counts_all_and_keeps_the_newest() -> None:
    """By signal, group, handler and reason, in whatever order they come."""
    tally = Tally(2)
    for number in (3, 1, 4, 2):
        tally.add(a_letter(f"{NOW_MS - 60_000 * number}-0", handler=f"h{number % 2}"))
    assert tally.letters == 4
    assert [row.entry_id for row in tally.newest] == [
        f"{NOW_MS - 60_000}-0",
        f"{NOW_MS - 120_000}-0",
    ]
    assert [line.split() for line in tally.count_lines(NOW_MS)][1:] == [
        ["user_registered", "mailers", "h0", "attempts", "2", "4", "m", "2", "m"],
        ["user_registered", "mailers", "h1", "attempts", "2", "3", "m", "1", "m"],
    ]
    shown = tally.as_json()
    assert json.loads(json.dumps(shown)) == shown
    assert shown["counts"][0]["letters"] == 2
    assert [row["handler"] for row in shown["newest"]] == ["h1", "h0"]
    same_ms = Tally(10)
    for number in (9, 11, 10):
        same_ms.add(a_letter(f"5-{number}"))
    assert [row.entry_id for row in same_ms.newest] == ["5-11", "5-10", "5-9"]
    nothing = Tally(0)
    nothing.add(a_letter())
    assert nothing.newest == []


def test_errors_in_the_list_are_one_line_that_fits() -> None:
    """With secrets and control characters taken out."""
    tally = Tally(10)
    tally.add(a_letter("3-0", error="E: \x1b[31m" + "long " * 100))
    tally.add(a_letter("2-0", error="E: first\nsecond"))
    tally.add(a_letter("1-0", error="E: redis://:hunter2@host/0", handler="", reason=""))
    header, long, two, url = tally.newest_lines(NOW_MS, 140)
    assert header.endswith("  attempts  error")
    assert len(long) == 140
    assert "\\x1b[31mlong" in long
    assert long.endswith("…")
    assert two.endswith("E: first …")
    assert "hunter2" not in url
    assert " -  " in url


# showing ---------------------------------------------------------------------------------------

USER = EntitySnapshot(
    "shop.models.User",
    {
        "id": 7,
        "email": "ada@example.org",
        "password": Redacted("user.password"),
        "role": TextEnumSnapshot("shop.Role", "ADMIN", "admin", "Role.ADMIN"),
        "address": EntitySnapshot("shop.models.Address", {"city": "London"}, (1,)),
        "settings": {"ada-key": 1},
    },
    (7,),
)
PAYLOAD = {
    "user": USER,
    "session": Omitted("session", "sqlalchemy.orm.Session", "a session can't travel"),
    "token": "revealed-secret",
    "raw": b"\x00\x01",
    "nothing": None,
    "numbers": [1, 2, 3],
}
VALUES = ("ada@example.org", "London", "ada-key", "revealed-secret", "admin", "ADMIN")


def test_a_payload_is_shown_by_names_and_kinds() -> None:
    """Paths are those that reveal takes; no value is in it, nor a dict's key."""
    shown = {path: shape(value) for path, value, _ in flattened(PAYLOAD)}
    assert shown == {
        "user": "User, a snapshot",
        "user.id": "int",
        "user.email": "15 characters",
        "user.password": "redacted",
        "user.role": "Role, an enum",
        "user.address": "Address, a snapshot",
        "user.address.city": "6 characters",
        "user.settings": "dict of 1",
        "session": "omitted: a session can't travel",
        "token": "15 characters",
        "raw": "2 bytes",
        "nothing": "None",
        "numbers": "list of 3",
    }


def test_a_letter_is_shown_without_values_unless_asked_for() -> None:
    """As text and as JSON."""
    url = "smtp://mail:hunter2@mx/"
    traceback = f"{url}\n\tat \x07work\n"
    letter = a_letter(payload=PAYLOAD, error=f"E: {url}", traceback=traceback)
    text = "\n".join(as_text(letter, NOW_MS, values=False))
    data = json.dumps(as_json(letter, values=False))
    for value in VALUES:
        assert value not in text + data
    assert "hunter2" not in text + data
    for part in ("mailers", "welcome", "1 m ago", "events 7-0", "E: smtp://", "web:1"):
        assert part in text
    assert text.endswith("@mx/\n      at \\x07work")
    text = "\n".join(as_text(letter, NOW_MS, values=True))
    data = json.dumps(as_json(letter, values=True))
    for value in VALUES:
        assert value in text
        assert value in data
    assert "<Redacted user.password: " in text


def test_an_empty_payload_and_a_bare_letter_are_shown() -> None:
    """What is not known is said."""
    lines = as_text(
        a_letter(payload={}, handler="", reason="", error="", source=""), NOW_MS, values=True
    )
    assert lines[-2:] == ["payload", "  nothing"]
    assert "  handler   none was reached" in lines
    assert "  reason    unknown" in lines
    assert "  error" in lines


def test_bytes_that_can_not_be_read_are_shown_as_hex() -> None:
    """The head alone, unless all is asked for: what follows is data."""
    letter = a_letter(encoded=b"LR\x02\x00" + b"ada@example.org" * 4)
    text = "\n".join(as_text(letter, NOW_MS, values=False))
    assert "version 2" in text
    assert "4c 52 02 00 61 64 61" in text
    assert text.endswith("and 48 more bytes (--values)")
    assert as_json(letter, values=False)["hex"] == letter.encoded[:16].hex()
    lines = as_text(letter, NOW_MS, values=True)
    assert bytes.fromhex("".join(lines[-2:])) == letter.encoded
    assert as_json(letter, values=True)["hex"] == letter.encoded.hex()
    assert as_json(letter, values=True)["envelope"] is None


@pytest.mark.parametrize(
    ("sender", "shown"),
    [
        (SenderSnapshot("lback.core.UserManager"), "lback.core.UserManager"),
        ("wsgi_application", "wsgi_application"),
        (["ada"], "list of 1"),
    ],
)
def test_a_sender_is_shown_by_its_name(sender: object, shown: str) -> None:
    """One that is neither a type nor a word is data."""
    envelope = an_envelope()._replace(sender=sender, trace={"traceparent": "00-1"})
    letter = a_letter(encoded=encode(envelope))
    assert as_json(letter, values=False)["envelope"]["sender"] == shown
    assert "  trace     traceparent 00-1" in as_text(letter, NOW_MS, values=False)


def test_values_become_json_or_their_repr() -> None:
    """JSON has no infinity, no dates and no other keys than texts."""
    at = datetime(2026, 1, 1, tzinfo=timezone.utc)
    given = {"a": [1, 1.5, math.inf, None, True], "b": (at, PurePosixPath("/x")), "c": {1: 2}}
    assert plain(given) == {
        "a": [1, 1.5, "inf", None, True],
        "b": [repr(at), "PurePosixPath('/x')"],
        "c": "{1: 2}",
    }
    assert plain(EnumSnapshot("m.Color", "RED", 1, "Color.RED")) == "<Color.RED: 1>"
