"""The worker's mail handler against mail servers that take, refuse, hang and misbehave."""

from __future__ import annotations

import importlib
import smtplib
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.smtp_server import SmtpServer, smtp_server, smtp_settings

from lback_relay.config import EMAIL_SIGNAL
from lback_relay.errors import ConfigError, Reject
from lback_relay.lback.framework_settings import SmtpSettings
from lback_relay.lback.settings import set_project
from lback_relay.markers import Omitted
from lback_relay.remote import HandlerContext, remote_dispatcher

MODULE = "lback_relay.lback.email_handler"
CONTEXT = HandlerContext(
    envelope_id="0190163d-8694-739b-aea5-966c26f8ad91",
    signal=EMAIL_SIGNAL,
    group="g",
    handler="lback_relay.email",
    attempt=1,
    max_attempts=10,
    sent_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
)


@contextmanager
def handler_of(folder: Path, settings: dict[str, Any]) -> Iterator[ModuleType]:
    """Import the module as a worker does that runs for a project with these settings."""
    file = folder / "settings.py"
    file.write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()))
    set_project(file)
    sys.modules.pop(MODULE, None)
    try:
        yield importlib.import_module(MODULE)
    finally:
        set_project(None)
        sys.modules.pop(MODULE, None)
        for handler in remote_dispatcher.handlers(EMAIL_SIGNAL):
            remote_dispatcher.disconnect(EMAIL_SIGNAL, handler.function)


@pytest.fixture(autouse=True)
def no_mail_settings_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the machine's own mail settings away: the environment wins."""
    for name in ("SMTP_SERVER", "SMTP_PORT", "EMAIL_USERNAME", "EMAIL_PASSWORD", "SENDER_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[SmtpServer]:
    """A mail server that takes everything, by STARTTLS and AUTH alone."""
    with smtp_server() as server:
        yield server


def send(module: ModuleType, **changes: Any) -> None:
    """Call the handler as the worker does."""
    payload = {"to_email": "ada@example.org", "subject": "Hi", "body": "Hello", "is_html": False}
    module.send_requested_email(sender=None, context=CONTEXT, **{**payload, **changes})


def test_a_mail_is_sent_with_the_projects_settings(server: SmtpServer, tmp_path: Path) -> None:
    """Its Message-ID is the envelope's id, the same at every attempt."""
    body = "Hello Ada,\n\nhttp://shop/verify/?token=abc123def456&x=ü\n"
    with handler_of(tmp_path, smtp_settings(server)) as module:
        send(module, body=body, subject="Grüße\nBcc: eve@example.org")
        send(module, body=body, subject="Grüße\nBcc: eve@example.org")
    first, second = server.mails
    assert first.to == ("ada@example.org",)
    assert (first.sender, first.login) == ("shop@example.org",) * 2
    assert first.body.replace("\r\n", "\n") == body
    assert first.subject == "Grüße Bcc: eve@example.org"
    assert first.message_id == second.message_id == f"<{CONTEXT.envelope_id}@example.org>"


def test_the_mail_looks_as_lbacks_own(tmp_path: Path, server: SmtpServer) -> None:
    """From, To, Date and type."""
    smtp = SmtpSettings(server="x", port=1, username="apikey", sender_name="Söhne, Inc.")
    with handler_of(tmp_path, smtp_settings(server)) as module:
        mail = module.make_message(
            smtp,
            to_email="Ada <ada@example.org>",
            subject="Hi",
            body="<p>Hello</p>",
            is_html=True,
            context=CONTEXT,
        )
    assert str(mail["From"]) == '"Söhne, Inc." <apikey>'
    assert str(mail["To"]) == "Ada <ada@example.org>"
    assert str(mail["Date"]) == "Fri, 02 Jan 2026 03:04:05 +0000"
    assert mail["Message-ID"] == f"<{CONTEXT.envelope_id}@lback-relay>"
    assert mail.get_content_type() == "text/html"


def test_the_handler_is_registered_with_patience(tmp_path: Path, server: SmtpServer) -> None:
    """A mail server that is away for a while costs no mail."""
    with handler_of(tmp_path, smtp_settings(server)):
        (handler,) = remote_dispatcher.handlers(EMAIL_SIGNAL)
    assert handler.options.max_attempts == 10
    assert handler.context_parameter == "context"
    assert handler.takes_queue
    assert not handler.takes_broadcast()


def test_without_mail_settings_the_module_can_not_be_imported(tmp_path: Path) -> None:
    """So that the worker says so at its start, and not mail by mail."""
    with (
        pytest.raises(ConfigError, match="SMTP_SERVER: is not set"),
        handler_of(tmp_path, {}),
    ):
        pass


@pytest.mark.parametrize("mode", ["refuse", "reject", "hang"])
def test_a_mail_that_was_not_taken_is_an_error_to_be_tried_again(
    mode: Any, server: SmtpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the server does; no wait is without end."""
    server.switch(mode)
    with handler_of(tmp_path, smtp_settings(server)) as module:
        deliver = module.deliver
        monkeypatch.setattr(module, "deliver", lambda *given: deliver(*given, timeout_s=0.3))
        with pytest.raises((OSError, smtplib.SMTPException)):
            send(module)
        monkeypatch.setattr(module, "deliver", deliver)
        server.switch("deliver")
        send(module)
    assert len(server.mails) == 1


@pytest.mark.parametrize("name", ["to_email", "subject", "body"])
def test_a_mail_that_did_not_arrive_whole_is_not_sent(
    name: str, server: SmtpServer, tmp_path: Path
) -> None:
    """A marker in the place of its text says why."""
    marker = Omitted(name, "str", "it is too long")
    with (
        handler_of(tmp_path, smtp_settings(server)) as module,
        pytest.raises(Reject, match="too long"),
    ):
        send(module, **{name: marker})
    assert server.mails == ()


def test_a_recipient_with_a_line_break_is_rejected(server: SmtpServer, tmp_path: Path) -> None:
    """It would add headers of its own."""
    with (
        handler_of(tmp_path, smtp_settings(server)) as module,
        pytest.raises(Reject, match="line break"),
    ):
        send(module, to_email="a@example.org\nBcc: eve@example.org")


class Scripted:
    """A mail server that says what it is told to."""

    def __init__(self, **replies: str) -> None:
        self.replies = {"ehlo": "250 x", "data": "354 go", "quit": "221 bye", **replies}
        self.heard: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.port = self._socket.getsockname()[1]

    def __enter__(self) -> Scripted:  # noqa: PYI034 - Self came with Python 3.11
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(30)
        self._socket.close()

    def _serve(self) -> None:
        self._socket.settimeout(30)
        connection, _ = self._socket.accept()
        with connection, connection.makefile("rwb") as stream:
            self._say(stream, "220 hello")
            for line in stream:
                verb = line.decode().split()[0].lower()
                self.heard.append(verb)
                if verb == "data":
                    self._say(stream, self.replies["data"])
                    while stream.readline() != b".\r\n":
                        pass
                    verb = "."
                self._say(stream, self.replies.get(verb, "250 ok"))
                if verb == "quit":
                    return

    def _say(self, stream: Any, reply: str) -> None:
        stream.write(f"{reply}\r\n".encode())
        stream.flush()


def plain_settings(port: int, password: str = "") -> dict[str, Any]:
    """Return settings for a scripted server."""
    return {
        "SMTP_SERVER": "127.0.0.1",
        "SMTP_PORT": port,
        "EMAIL_USERNAME": "shop@example.org",
        "EMAIL_PASSWORD": password,
    }


def test_a_password_is_never_sent_in_the_clear(tmp_path: Path) -> None:
    """A server without STARTTLS gets no login and no mail."""
    with (
        Scripted(ehlo="250-x\r\n250 AUTH PLAIN LOGIN") as server,
        handler_of(tmp_path, plain_settings(server.port, "hunter2")) as module,
        pytest.raises(module.NoEncryption, match="no STARTTLS") as error,
    ):
        send(module)
    assert "hunter2" not in str(error.value)
    assert server.heard == ["ehlo"]


def test_without_a_password_a_plain_server_will_do(tmp_path: Path) -> None:
    """Such as a mail catcher for development."""
    with (
        Scripted() as server,
        handler_of(tmp_path, plain_settings(server.port)) as module,
    ):
        send(module)
    assert server.heard == ["ehlo", "mail", "rcpt", "data", "quit"]


def test_a_recipient_refused_for_good_is_not_tried_again(tmp_path: Path) -> None:
    """The dead letter says why; the address is not in it."""
    with (
        Scripted(rcpt="550 no such user") as server,
        handler_of(tmp_path, plain_settings(server.port)) as module,
        pytest.raises(Reject, match="550"),
    ):
        send(module)


def test_a_recipient_refused_for_now_is_tried_again(tmp_path: Path) -> None:
    """Greylisting, a full mailbox."""
    with (
        Scripted(rcpt="451 later") as server,
        handler_of(tmp_path, plain_settings(server.port)) as module,
        pytest.raises(smtplib.SMTPRecipientsRefused),
    ):
        send(module)


def test_a_mail_that_was_taken_is_done_however_the_server_says_goodbye(tmp_path: Path) -> None:
    """An error at QUIT must not send it again."""
    with (
        Scripted(quit="421 shutting down") as server,
        handler_of(tmp_path, plain_settings(server.port)) as module,
    ):
        send(module)
    assert "data" in server.heard
