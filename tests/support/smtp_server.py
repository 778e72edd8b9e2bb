"""The demo's SMTP server for tests, and the settings that point a Lback project at it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lback_relay.demo.smtp import HOST, Mode, ReceivedMail, SmtpServer

__all__ = ["ReceivedMail", "SmtpServer", "smtp_server", "smtp_settings"]


@contextmanager
def smtp_server(*, delay_s: float = 0.0, mode: Mode = "deliver") -> Iterator[SmtpServer]:
    """Run a server with STARTTLS and AUTH on a free port of 127.0.0.1 (``.port``, ``.mails``)."""
    with SmtpServer(delay_s=delay_s, mode=mode) as server:
        yield server


def smtp_settings(server: SmtpServer, *, login: str = "shop@example.org") -> dict[str, object]:
    """Return the settings of a Lback project whose mail goes to ``server``."""
    return {
        "SMTP_SERVER": HOST,
        "SMTP_PORT": server.port,
        "EMAIL_USERNAME": login,
        "EMAIL_PASSWORD": "any",
        "SENDER_NAME": "Shop",
    }
