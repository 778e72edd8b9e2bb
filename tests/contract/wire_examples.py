"""What the golden vectors hold, as Python: name to (description, envelope)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final
from uuid import UUID

from lback_relay.envelope import Envelope
from lback_relay.markers import Omitted, Redacted, UnknownValue
from lback_relay.snapshot import (
    EntitySnapshot,
    EnumSnapshot,
    ExceptionSnapshot,
    IntEnumSnapshot,
    ObjectSnapshot,
    ReferenceSnapshot,
    RequestSnapshot,
    ResponseSnapshot,
    SenderSnapshot,
    TextEnumSnapshot,
)

_ID: Final = "019b7c2e-7a3d-7f00-8000-0123456789ab"
_SENT_AT: Final = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
_INDIA: Final = timezone(timedelta(hours=5, minutes=30))
_USER: Final = EntitySnapshot(
    "lback.models.user.User",
    {
        "id": 7,
        "username": "ada",
        "email": "ada@example.org",
        "password": Redacted("user.password"),
        "is_active": True,
        "auth_token": None,
        "created_at": datetime(2026, 1, 2, 3, 4, 5, 600000),  # noqa: DTZ001 - Lback's are naive
    },
    (7,),
)


def _values() -> Iterator[tuple[str, str, Any]]:
    """Yield (name, description, value) of the vectors that are about one value."""
    yield "plain", "msgpack's own types", [None, True, False, 0, -1, 1.5, "naïve 🎉", b"\x00\xff"]
    yield "integers", "the ends of msgpack's integers", [-(2**63), 2**64 - 1, 127, 128, -32, -33]
    yield "floats", "numbers that JSON lacks", [float("inf"), float("-inf"), -0.0, 1e300]
    yield "containers", "an array and a map in each other", {"a": [1, {"b": []}], "": {}}
    yield "surrogate", "text with half a surrogate pair", "before \ud83d after"
    yield "big_integer", "integers beyond 64 bits", [2**64, -(2**63) - 1, 2**200, -(2**71)]
    yield (
        "datetime",
        "naive, UTC, with an offset, and without microseconds",
        [
            datetime(2026, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001
            _SENT_AT,
            datetime(2026, 1, 2, 3, 4, 5, tzinfo=_INDIA),
            datetime(1, 1, 1),  # noqa: DTZ001
        ],
    )
    yield "date", "calendar dates", [date(2026, 1, 2), date.max]
    yield "time", "times of day", [time(1, 2, 3, 4), time(23, 59), time(8, tzinfo=timezone.utc)]
    yield (
        "timedelta",
        "durations in microseconds",
        [timedelta(seconds=90), timedelta(days=-1, microseconds=1), timedelta.max],
    )
    yield "decimal", "decimal numbers", [Decimal("12.50"), Decimal("-0"), Decimal("1E+30")]
    yield "decimal_special", "infinity", Decimal("-Infinity")
    yield "uuid", "a UUID", UUID("12345678-1234-5678-1234-567812345678")
    yield (
        "path",
        "paths: pure POSIX, pure Windows, and one of the sending system",
        [PurePosixPath("/srv/data"), PureWindowsPath(r"C:\data"), Path("/srv/data")],
    )
    yield "tuple", "tuples, empty and in each other", (1, (), ("a", [2]))
    yield "set", "a set, sorted by its items' bytes", {1, "a", (2, "b")}
    yield "frozenset", "a frozen set", frozenset({3, 1, 2})
    yield "map", "a map with keys that are no text", {1: "one", "two": 2, (3, 4): None}
    yield "redacted", "a secret that was held back", Redacted("user.password")
    yield (
        "omitted",
        "a value that can't travel",
        Omitted("session", "sqlalchemy.orm.session.Session", "it is a session", "open another"),
    )
    yield "sender", "a sender's type", SenderSnapshot("lback.utils.user_manager.UserManager")
    yield "entity", "a row of the database", _USER
    yield "entity_without_identity", "a row that was not flushed", EntitySnapshot("m.Draft", {})
    yield (
        "request",
        "a request",
        RequestSnapshot(
            "lback.core.types.Request",
            {
                "method": TextEnumSnapshot("lback.core.types.HTTPMethod", "GET", "GET", "GET"),
                "path": "/missing/",
                "headers": {"HOST": "example.org", "COOKIE": Redacted("request.headers.COOKIE")},
                "user": None,
            },
        ),
    )
    yield (
        "response",
        "a response",
        ResponseSnapshot(
            "lback.core.response.Response",
            {"status_code": IntEnumSnapshot("http.HTTPStatus", "NOT_FOUND", 404, "404")},
        ),
    )
    yield (
        "exception",
        "an exception with a cause",
        ExceptionSnapshot(
            "sqlalchemy.exc.IntegrityError",
            ("UNIQUE constraint failed", 19),
            {"code": "gkpj"},
            ("manager.py:60 in register", "orm.py:9 in flush"),
            ExceptionSnapshot("sqlite3.IntegrityError", ("UNIQUE constraint failed",)),
        ),
    )
    yield (
        "reference",
        "a function",
        ReferenceSnapshot("builtins.function", "shop.views", "Cart.add"),
    )
    yield "object", "a dataclass instance", ObjectSnapshot("shop.Point", {"x": 1, "y": (2, 3)})
    yield "enum", "a member of an enum", EnumSnapshot("shop.Size", "L", (4, 2), "Size.L")
    yield "enum_unnamed", "a combination of flags", EnumSnapshot("shop.Flag", None, 3, "Flag.A|B")
    yield "unknown_extension", "a type of some later version", [UnknownValue(100, b"\x01\x02")]


def _envelopes() -> Iterator[tuple[str, str, Envelope]]:
    """Yield (name, description, envelope) of the vectors that are about whole envelopes."""
    yield (
        "envelope_least",
        "an envelope with nothing in it",
        Envelope(id=_ID, signal="cache_cleared", sender=None, payload={}, sent_at=_SENT_AT),
    )
    yield (
        "envelope_user_registered",
        "Lback's registration signal",
        Envelope(
            id=_ID,
            signal="user_registered",
            sender=SenderSnapshot("lback.utils.user_manager.UserManager"),
            payload={
                "user": _USER,
                "session": Omitted(
                    "session",
                    "sqlalchemy.orm.session.Session",
                    "it is a session of the sending process",
                    "use worker_session()",
                ),
            },
            sent_at=_SENT_AT,
            origin="web-1:4711",
        ),
    )
    yield (
        "envelope_full",
        "both delivery modes, a trace, and fields of some later version",
        Envelope(
            id=_ID,
            signal="server_request_received",
            sender="wsgi_application",
            payload={"method": "GET", "path": "/"},
            sent_at=datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=timezone.utc),
            delivery=("queue", "broadcast"),
            origin="web-1:4711",
            trace={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
            extra={"priority": 3, "labels": ["a", UnknownValue(101, b"")]},
        ),
    )


EXAMPLES: Final[dict[str, tuple[str, Envelope]]] = {
    **{
        name: (
            text,
            Envelope(
                id=_ID, signal="example", sender=None, payload={"value": value}, sent_at=_SENT_AT
            ),
        )
        for name, text, value in _values()
    },
    **{name: (text, envelope) for name, text, envelope in _envelopes()},
}


SIGNED: Final[dict[str, tuple[str, str, tuple[str, ...], bool]]] = {
    "signed": ("a signed envelope", "envelope_user_registered", ("queue",), False),
    "signed_both_modes": (
        "signed for the queue and for broadcasts",
        "envelope_full",
        ("queue", "broadcast"),
        False,
    ),
    "encrypted": ("an encrypted envelope", "envelope_user_registered", ("queue",), True),
}
"""Vectors of signed envelopes: name to (description, which envelope, delivery, encrypted)."""

SIGNED_AT_S: Final = 1_767_323_045.678
KEY: Final = "hsxkm6oo:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
NONCE: Final = bytes(range(100, 112))
