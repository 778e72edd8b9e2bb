"""What lback-framework 1.0.3 makes of a project's settings: its SMTP server and its database.

The worker needs both and must not start the framework. The rules are those of
``lback/core/config.py``, its surprises included; a test holds them to it. A name's value comes
from the environment, else from settings.py (what JSON can hold: the framework goes through a JSON
file), else from the framework's defaults.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lback_relay.errors import ConfigError

_DEFAULTS: Final[Mapping[str, Any]] = {
    "DATABASE_ECHO": "False",
    "DB_ENGINE": "sqlite",
    "DB_HOST": "localhost",
    "DB_NAME": "db",
    "DB_PASSWORD_ENCRYPTED": "",
    "DB_PORT": "5432",
    "DB_USER": "admin",
    "EMAIL_PASSWORD": "",
    "EMAIL_USERNAME": "",
    "SENDER_NAME": "",
    "SMTP_PORT": "587",
    "SMTP_SERVER": "",
}
_SERVERS: Final = {"postgresql": "PostgreSQL", "mysql": "MySQL"}
_PLACE: Final = (
    "in settings.py (run the worker in the project's folder, or with --settings FILE) or in the "
    "environment"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpSettings:
    """How the project sends mail.

    Attributes:
        server: host name or address.
        port: its port.
        username: the login, and the address that mails come from.
        password: "" means that the server wants no login.
        sender_name: shown beside the address.
    """

    server: str
    port: int
    username: str
    password: str = field(default="", repr=False)
    sender_name: str = ""


def smtp_settings(settings: object, environ: Mapping[str, str] = os.environ) -> SmtpSettings:
    """Return the SMTP server of a project.

    Args:
        settings: its settings, as :func:`~lback_relay.lback.settings.load_settings` returns them.
        environ: the environment, which wins.

    Raises:
        ConfigError: no server is named, or no login, or the port is no port; lists every problem.
    """
    values = _Values(settings, environ)
    given = getattr(settings, "EMAIL_CONFIG", None)  # it takes the place of all the others
    if not isinstance(given, Mapping):
        given = {
            "smtp_server": values.get("SMTP_SERVER"),
            "smtp_port": values.get("SMTP_PORT"),
            "username": values.get("EMAIL_USERNAME"),
            "password": values.get("EMAIL_PASSWORD"),
            "sender_name": values.get("SENDER_NAME"),
        }
    problems = []
    if not given.get("smtp_server"):
        problems.append(f"SMTP_SERVER: is not set; set it {_PLACE}")
    if not given.get("username"):
        problems.append(
            f"EMAIL_USERNAME: is not set, and mails come from this address; set it {_PLACE}"
        )
    port = _integer(given.get("smtp_port"))
    if port is None or not 0 < port < 65_536:
        problems.append("SMTP_PORT: must be a whole number from 1 to 65535")
    if problems or port is None:
        raise ConfigError(problems, source="the project's mail settings")
    return SmtpSettings(
        server=str(given["smtp_server"]),
        port=port,
        username=str(given["username"]),
        password=str(given.get("password") or ""),
        sender_name=str(given.get("sender_name") or ""),
    )


def database_url(settings: object, environ: Mapping[str, str] = os.environ) -> str:
    """Return the database URL that the framework gives to SQLAlchemy. It may hold the password.

    Args:
        settings: the project's settings.
        environ: the environment, which wins.

    Raises:
        ConfigError: the engine is none of the framework's, or a server's login is incomplete.
    """
    values = _Values(settings, environ)
    engine = str(values.get("DB_ENGINE")).lower()
    if engine in ("sqlite", "sqlite3"):
        url = values.get("DATABASE_URL")
        return str(url) if url else f"sqlite:///{values.get('DB_NAME') or 'db.db'}"
    if engine not in _SERVERS:
        problem = f"DB_ENGINE: must be sqlite3, postgresql or mysql, not {engine!r}"
        raise ConfigError([problem], source="the project's database settings")
    parts = {
        "DB_USER": values.get("DB_USER"),
        "DB_PASSWORD_ENCRYPTED": _decrypted(
            values.get("DB_PASSWORD_ENCRYPTED"), values.get("ENCRYPTION_KEY")
        ),
        "DB_HOST": values.get("DB_HOST"),
        "DB_PORT": _integer(values.get("DB_PORT")),
        "DB_NAME": values.get("DB_NAME"),
    }
    problems = [
        f"{name}: {_SERVERS[engine]} needs it, and it is "
        + (
            "not set"
            if name != "DB_PASSWORD_ENCRYPTED"
            else "not set, or not encrypted with ENCRYPTION_KEY"
        )
        for name, value in parts.items()
        if not value
    ]
    if problems:
        raise ConfigError(problems, source="the project's database settings")
    user, password, host, port, name = parts.values()
    return f"{engine}://{user}:{password}@{host}:{port}/{name}"


def database_echo(settings: object, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether SQL statements are logged."""
    return str(_Values(settings, environ).get("DATABASE_ECHO")).lower() in ("true", "1", "t")


class _Values:
    """The framework's look-up of one name."""

    def __init__(self, settings: object, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ

    def get(self, name: str) -> Any:
        if name in self._environ:
            return self._environ[name]
        value = getattr(self._settings, name, None)
        if value is not None and _fits_json(value):
            return value
        return _DEFAULTS.get(name)


def _fits_json(value: object) -> bool:
    # A pathlib.Path as DB_NAME, for one, never reaches the framework's database.
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _integer(value: object) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None


def _decrypted(value: object, key: object) -> str | None:
    if not value or not key:
        return None
    from cryptography.fernet import Fernet, InvalidToken

    try:
        return Fernet(str(key).encode()).decrypt(str(value).encode()).decode()
    except (InvalidToken, ValueError):
        return None


def absolute_sqlite(url: str, root: Path) -> str:
    """Make a relative SQLite path absolute: the framework's current folder is the project's."""
    prefix = "sqlite:///"
    path = url.removeprefix(prefix)
    if path == url or not path or path.startswith(("/", ":memory:", "file:")):
        return url
    return f"{prefix}{root / path}"
