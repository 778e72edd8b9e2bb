"""The worker reads a project's mail server and database as the framework does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lback_relay.errors import ConfigError
from lback_relay.lback.framework_settings import (
    absolute_sqlite,
    database_echo,
    database_url,
    smtp_settings,
)

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


def encrypted(text: str) -> str:
    """Return the text as ``DB_PASSWORD_ENCRYPTED`` holds it."""
    fernet = pytest.importorskip("cryptography.fernet")
    token: bytes = fernet.Fernet(KEY.encode()).encrypt(text.encode())
    return token.decode()


CASES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "nothing": ({}, {}),
    "mail": (
        {
            "SMTP_SERVER": "mail.example.org",
            "SMTP_PORT": 2525,
            "EMAIL_USERNAME": "shop@example.org",
            "EMAIL_PASSWORD": "pw",
            "SENDER_NAME": "Shop",
        },
        {},
    ),
    "the environment wins": (
        {"SMTP_SERVER": "a", "SMTP_PORT": "25", "DB_NAME": "a.db", "DATABASE_ECHO": True},
        {"SMTP_SERVER": "b", "SMTP_PORT": "26", "DB_NAME": "b.db", "DATABASE_ECHO": "no"},
    ),
    "also when it is empty": ({"EMAIL_PASSWORD": "pw", "DB_NAME": "a.db"}, {"EMAIL_PASSWORD": ""}),
    "sqlite by URL": ({"DB_ENGINE": "SQLite3", "DATABASE_URL": "sqlite:////srv/a.db"}, {}),
    "no name": ({"DB_ENGINE": "sqlite", "DB_NAME": ""}, {}),
    "no string": ({"DB_NAME": Path("/srv/a.db"), "DATABASE_ECHO": 1}, {}),
    "postgresql": (
        {
            "DB_ENGINE": "postgresql",
            "DB_USER": "shop",
            "DB_HOST": "db",
            "DB_PORT": 5433,
            "DB_NAME": "shop",
            "ENCRYPTION_KEY": KEY,
            "DB_PASSWORD_ENCRYPTED": "ENCRYPT",
        },
        {},
    ),
    "mysql": (
        {"DB_ENGINE": "mysql", "ENCRYPTION_KEY": KEY, "DB_PASSWORD_ENCRYPTED": "ENCRYPT"},
        {"DB_PORT": "3306", "DB_NAME": "x"},
    ),
}

FRAMEWORK = """
import json, sys
from lback.core.config import Config
from lback.core.config_manager import sync_settings_to_config
sync_settings_to_config("settings.py", "config.json")
config = Config()
print(json.dumps([config.EMAIL_CONFIG, config.DATABASE_URI, config.DATABASE_ECHO]))
"""


@pytest.mark.lback
@pytest.mark.parametrize("case", sorted(CASES))
def test_it_agrees_with_the_framework(case: str, tmp_path: Path) -> None:
    """The framework's own Config, in a project with the same settings and environment."""
    values, environ = CASES[case]
    values = {
        name: encrypted("s3cret") if value == "ENCRYPT" else value for name, value in values.items()
    }
    lines = [f"{name} = {value!r}\n" for name, value in values.items()]
    (tmp_path / "settings.py").write_text("from pathlib import PosixPath\n" + "".join(lines))
    ran = subprocess.run(
        [sys.executable, "-c", FRAMEWORK],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", **environ},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    email, url, echo = json.loads(ran.stdout.splitlines()[-1])
    settings = SimpleNamespace(**values)
    assert database_url(settings, environ) == url
    assert database_echo(settings, environ) == echo
    if not email["smtp_server"]:
        return
    complete = {"EMAIL_USERNAME": "x", **vars(settings)}
    smtp = smtp_settings(SimpleNamespace(**complete), environ)
    assert (smtp.server, smtp.port) == (email["smtp_server"], email["smtp_port"])
    assert smtp.username == (email["username"] or "x")
    assert smtp.password == email["password"]
    assert smtp.sender_name == email["sender_name"]


def test_missing_mail_settings_are_named_all_at_once() -> None:
    """With the places where they may stand."""
    with pytest.raises(ConfigError) as error:
        smtp_settings(SimpleNamespace(SMTP_PORT="smtp"), {})
    assert [problem.partition(":")[0] for problem in error.value.problems] == [
        "SMTP_SERVER",
        "EMAIL_USERNAME",
        "SMTP_PORT",
    ]
    assert "--settings FILE" in str(error.value)


def test_a_projects_own_email_config_takes_the_place_of_the_names() -> None:
    """The framework overwrites what it made of them, because the name is in upper case."""
    given = {
        "smtp_server": "mail",
        "smtp_port": 25,
        "username": "a@example.org",
        "password": None,
        "sender_name": None,
    }
    smtp = smtp_settings(SimpleNamespace(EMAIL_CONFIG=given, SMTP_SERVER="other"), {})
    assert (smtp.server, smtp.port, smtp.username) == ("mail", 25, "a@example.org")
    assert (smtp.password, smtp.sender_name) == ("", "")


def test_the_password_is_not_shown() -> None:
    """Not even in a traceback that prints the settings."""
    settings = SimpleNamespace(SMTP_SERVER="a", EMAIL_USERNAME="b", EMAIL_PASSWORD="hunter2")
    assert "hunter2" not in repr(smtp_settings(settings, {}))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"DB_ENGINE": "oracle"}, "DB_ENGINE"),
        ({"DB_ENGINE": "postgresql"}, "DB_PASSWORD_ENCRYPTED"),
        (
            {
                "DB_ENGINE": "mysql",
                "DB_PASSWORD_ENCRYPTED": "no token",
                "ENCRYPTION_KEY": KEY,
                "DB_HOST": "",
            },
            "DB_HOST",
        ),
        (
            {"DB_ENGINE": "mysql", "DB_PASSWORD_ENCRYPTED": "x", "ENCRYPTION_KEY": "short"},
            "ENCRYPTION_KEY",
        ),
    ],
)
def test_a_database_that_can_not_be_used_is_refused(settings: dict[str, str], named: str) -> None:
    """With the setting's name; a password is never in the text."""
    with pytest.raises(ConfigError, match=named):
        database_url(SimpleNamespace(**settings), {})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///shop.db", "sqlite:////srv/shop/shop.db"),
        ("sqlite:////data/shop.db", "sqlite:////data/shop.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("sqlite://", "sqlite://"),
        ("postgresql://a:b@c:1/d", "postgresql://a:b@c:1/d"),
    ],
)
def test_a_relative_sqlite_file_is_the_projects(url: str, expected: str) -> None:
    """A worker may run anywhere; the framework runs in the project's folder."""
    assert absolute_sqlite(url, Path("/srv/shop")) == expected
