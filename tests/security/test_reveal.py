"""``reveal`` opens one path: every other secret of the payload stays closed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NamedTuple

from security.support.attacks import AttackTable

from lback_relay.codec import encode
from lback_relay.envelope import Envelope, new_envelope_id
from lback_relay.projection import Projection

OPENED = "revealing one secret opens another"


@dataclass
class Account:
    """Something with attributes, one of which is a secret."""

    name: str
    auth_token: str


class Login(NamedTuple):
    """Something with fields, one of which is a secret."""

    name: str
    password: str


def payload() -> tuple[dict[str, Any], dict[str, str]]:
    """Return kwargs that hold secrets everywhere, and the secret that lies at each path."""
    paths = [
        "token",
        "user.password",
        "user.password_hint_token",
        "user.profile.password",
        "users.0.password",
        "users.1.password",
        "users.1.tokens.0",
        "account.auth_token",
        "request_headers.Cookie",
        "request_headers.Authorization",
        "Token2.token",
        "login.password",
        "scope.authorization",
    ]
    at = {path: f"c0ffee-{number:02d}-{'x' * 8}" for number, path in enumerate(paths)}
    kwargs = {
        "token": at["token"],
        "user": {
            "password": at["user.password"],
            "password_hint_token": at["user.password_hint_token"],
            "profile": {"password": at["user.profile.password"]},
        },
        "users": [
            {"password": at["users.0.password"]},
            {"password": at["users.1.password"], "tokens": [at["users.1.tokens.0"]]},
        ],
        "account": Account("ada", at["account.auth_token"]),
        "request_headers": {
            "Cookie": at["request_headers.Cookie"],
            "Authorization": at["request_headers.Authorization"],
        },
        "Token2": {"token": at["Token2.token"]},
        "login": Login("ada", at["login.password"]),
        "scope": {b"authorization": at["scope.authorization"].encode()},
    }
    return kwargs, at


def sent(kwargs: dict[str, Any], *reveal: str) -> bytes:
    """Return the bytes that leave the process."""
    made = Projection(reveal=reveal).payload(kwargs)
    return encode(Envelope(new_envelope_id(), "any", None, made, datetime.now(timezone.utc)))


def test_one_path_is_opened_and_no_other(attack_table: AttackTable) -> None:
    """Each secret in its turn, by its own path, in another case, and by what is no path of its."""
    kwargs, at = payload()
    tried = stopped = 0
    for path, secret in at.items():
        for reveal in (path, path.upper()):
            encoded = sent(kwargs, reveal)
            assert secret.encode() in encoded, f"{reveal} reveals what lies there"
            others = [other for other in at.values() if other != secret]
            tried += len(others)
            stopped += sum(other.encode() not in encoded for other in others)
    nearly = [
        # A list of secrets is one: to reveal users.1.tokens reveals its items.
        *{path.rpartition(".")[0] for path in at} - {"", "users.1.tokens"},
        *{path.rpartition(".")[2] for path in at} - {"token"},
        *("*", "user.*", "users.*.password", "user", ".", "user.password.", ".token", "users.00"),
    ]
    for reveal in nearly:
        encoded = sent(kwargs, reveal)
        tried += len(at)
        stopped += sum(secret.encode() not in encoded for secret in at.values())
    attack_table.record(OPENED, tried, stopped)
    assert stopped == tried
