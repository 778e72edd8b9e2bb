"""The middleware, what it installs, and the e-mail sender; with the framework's own classes.

They are imported here, never started: the framework itself runs in processes of its own
(``tests/integration/test_lback_*.py``).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from lback_relay import Relay, RelayConfig
from lback_relay.config import EMAIL_SIGNAL
from lback_relay.lback import RelayMiddleware, current_relay, dispatchers
from lback_relay.lback.installed import install, uninstall
from lback_relay.testing import RecordingPublisher, recording_relay

pytestmark = pytest.mark.lback

EmailSender: Any = pytest.importorskip("lback.utils.email_sender").EmailSender
RelayedEmailSender: Any = pytest.importorskip("lback_relay.lback.email_sender").RelayedEmailSender


@pytest.fixture
def users() -> Iterator[SimpleNamespace]:
    """What holds Lback's e-mail sender; everything is uninstalled afterwards."""
    sender = EmailSender(
        smtp_server="127.0.0.1",
        smtp_port=1,
        smtp_username="shop@example.org",
        smtp_password="pw",
        sender_email="shop@example.org",
        sender_name="Shop",
    )
    users = SimpleNamespace(email_sender=sender)
    yield users
    uninstall(users)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment wins over settings; there must be nothing in it."""
    for name in [name for name in os.environ if name.startswith("LBACK_RELAY_")]:
        monkeypatch.delenv(name)


def config(**settings: Any) -> SimpleNamespace:
    """Return Lback's config object, as far as the relay reads it; its broker is away."""
    away = {"RELAY_URL": "redis://127.0.0.1:1/0", "RELAY_FLUSH_TIMEOUT_S": 0.3}
    return SimpleNamespace(DEBUG=True, MIDDLEWARES=[], **away, **settings)


def test_the_middleware_relays_both_dispatchers(users: SimpleNamespace) -> None:
    """The one that Lback sends on, and the one that its documentation names."""
    registries = [dict(dispatcher._registry) for dispatcher in dispatchers()]
    middleware = RelayMiddleware(config(RELAY_SIGNALS=["order_paid"]), users)
    assert current_relay() is middleware.relay
    for dispatcher in dispatchers():
        (receiver,) = dispatcher._registry["order_paid"]
        assert receiver.__name__ == "relay_order_paid"
    uninstall(users)
    assert current_relay() is None
    assert [dict(dispatcher._registry) for dispatcher in dispatchers()] == registries


def test_the_middleware_lets_everything_pass(users: SimpleNamespace) -> None:
    """Requests and responses are none of its business."""
    middleware = RelayMiddleware(config(RELAY_SIGNALS=["order_paid"]), users)
    response = object()
    assert middleware.process_request(object()) is None
    assert middleware.process_response(object(), response) is response


def test_a_second_start_relays_nothing_twice(users: SimpleNamespace) -> None:
    """The relay stays the same one; so does what the mails are sent by."""
    settings = config(RELAY_SIGNALS=["order_paid"], RELAY_EMAIL=True)
    first = RelayMiddleware(settings, users)
    direct = users.email_sender.direct
    second = RelayMiddleware(settings, users)
    assert first.relay is second.relay
    assert users.email_sender.direct is direct
    for dispatcher in dispatchers():
        assert len(dispatcher._registry["order_paid"]) == 1


def test_another_config_takes_the_place_of_the_one_before(users: SimpleNamespace) -> None:
    """Settings that changed between two starts."""
    RelayMiddleware(config(RELAY_SIGNALS=["order_paid"], RELAY_EMAIL=True), users)
    RelayMiddleware(config(RELAY_SIGNALS=["order_sent"]), users)
    assert type(users.email_sender) is EmailSender
    for dispatcher in dispatchers():
        assert "order_paid" not in dispatcher._registry
        assert len(dispatcher._registry["order_sent"]) == 1


def test_settings_that_can_not_be_used_stop_the_process(
    users: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    """Lback would log an exception and go on without the relay; SystemExit it lets through."""
    with pytest.raises(SystemExit) as stopped:
        RelayMiddleware(config(RELAY_SIGNALS={"a": {"delivery": "brodcast"}}), users)
    assert stopped.value.code == 3
    (record,) = caplog.records
    assert record.levelno == logging.CRITICAL
    assert "did you mean 'broadcast'" in record.message
    assert current_relay() is None


def test_warnings_of_the_config_are_logged(
    users: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    """A signal that is never sent, for one."""
    RelayMiddleware(config(RELAY_SIGNALS=["user_login_successful"]), users)
    assert "RELAY_SIGNALS.user_login_successful" in caplog.text
    assert "user_logged_in is" in caplog.text


def test_the_email_sender_is_left_alone_unless_wanted(users: SimpleNamespace) -> None:
    """RELAY_EMAIL is off by default."""
    before = users.email_sender
    RelayMiddleware(config(RELAY_SIGNALS=["order_paid"]), users)
    assert users.email_sender is before


def test_a_projects_own_email_sender_is_left_alone(
    users: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker could not send as it does; the user is told."""
    own = type("Own", (EmailSender,), {})("x", 1, "x", "x", "x")
    users.email_sender = own
    RelayMiddleware(config(RELAY_EMAIL=True), users)
    assert users.email_sender is own
    assert "RELAY_EMAIL has no effect" in caplog.text


def test_without_users_only_signals_are_relayed() -> None:
    """A program may install the relay and leave the mails alone."""
    config = RelayConfig.from_mapping({"signals": ["order_paid"], "email": False}, environ={})
    relay = install(config)
    assert install(config) is relay
    uninstall()
    uninstall()
    assert current_relay() is None


class Mails:
    """A relayed sender whose relay records, and whose direct sender records too."""

    def __init__(self, **options: Any) -> None:
        given = {"signals": {}, "email": True, **options}
        self.publisher = RecordingPublisher()
        self.relay = Relay(RelayConfig.from_mapping(given, environ={}), publisher=self.publisher)
        self.direct = EmailSender(
            "127.0.0.1", 25, "shop@example.org", "pw", "shop@example.org", sender_name="Shop"
        )
        self.sent: list[tuple[Any, ...]] = []
        self.direct.send_email = self._send  # as a test of the framework's own would
        self.sender = RelayedEmailSender(self.relay, self.direct)

    def _send(self, *mail: Any) -> bool:
        self.sent.append(mail)
        return False

    @property
    def payloads(self) -> list[dict[str, Any]]:
        """What was relayed."""
        return [dict(envelope.payload) for envelope in self.publisher.envelopes]


def test_a_mail_becomes_a_signal() -> None:
    """Whole: its link, which looks like a secret, is what the mail is for."""
    mails = Mails()
    body = "Hello,\nhttp://shop/verify-email/?token=Zx81kPq77rTt23 password: x\n" * 3000
    assert mails.sender.send_email(
        to_email="ada@example.org", subject="Reset token=abcdef123456", body=body
    )
    assert len(body) > 2 * mails.relay.config.max_string_length
    assert mails.payloads == [
        {
            "to_email": "ada@example.org",
            "subject": "Reset token=abcdef123456",
            "body": body,
            "is_html": False,
        }
    ]
    (envelope,) = mails.publisher.envelopes
    assert envelope.signal == EMAIL_SIGNAL
    assert type(envelope.sender).__name__ == "RelayedEmailSender"
    assert mails.sent == []


def test_it_looks_like_the_sender_that_it_replaced() -> None:
    """Code reads its attributes and asks for its type."""
    mails = Mails()
    assert isinstance(mails.sender, EmailSender)
    assert mails.sender.sender_email == "shop@example.org"
    assert (mails.sender.smtp_port, mails.sender.use_tls) == (25, True)
    assert "pw" not in repr(mails.sender)


def test_the_ready_made_mails_work() -> None:
    """In Lback's own sender they call a method that does not exist."""
    mails = Mails()
    sender = mails.sender
    assert sender.send_verification_email("a@x.org", "Ada", "http://shop/v/1")
    assert sender.send_password_reset_email("a@x.org", "Ada", "http://shop/r/1")
    assert sender.send_generic_email("a@x.org", "Subject", "Body")
    first, second, third = mails.payloads
    assert "http://shop/v/1" in first["body"]
    assert "http://shop/r/1" in second["body"]
    assert (first["is_html"], second["is_html"], third["is_html"]) == (True, True, False)


def test_a_mail_that_is_too_large_is_sent_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """An envelope would come without its body; the answer is the direct sender's."""
    mails = Mails(max_payload_bytes=4096)
    body = "ü" * 1600
    assert mails.sender.send_email("a@x.org", "Hi", body) is False
    assert mails.sent == [("a@x.org", "Hi", body, False)]
    assert mails.payloads == []
    assert "RELAY_MAX_PAYLOAD_BYTES (4096)" in caplog.text
    assert mails.sender.send_email("a@x.org", "Hi", body[:1400]) is True
    assert mails.payloads[0]["body"] == body[:1400]


def test_a_mail_that_can_not_be_relayed_is_sent_at_once() -> None:
    """Whatever the reason."""
    mails = Mails()
    mails.publisher.publish = None  # type: ignore[method-assign,assignment]
    mails.sender.send_email("a@x.org", "Hi", "Body")
    assert mails.sent == [("a@x.org", "Hi", "Body", False)]


def test_a_mail_that_is_no_text_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """As Lback's sender would: logged, and answered with False."""
    mails = Mails()
    assert mails.sender.send_email("a@x.org", "Hi", None) is False
    assert "must all be text" in caplog.text
    assert mails.payloads == []
    assert mails.sent == []


def test_a_mail_waits_for_the_commit_of_the_threads_transaction(users: SimpleNamespace) -> None:
    """Lback gives its sender no session; the one in use by this thread is waited for."""
    import sqlalchemy
    from sqlalchemy.orm import Session

    RelayMiddleware(config(RELAY_EMAIL=True), users)
    relay = current_relay()
    assert relay is not None
    engine = sqlalchemy.create_engine("sqlite://")
    with recording(relay) as recorded, Session(engine) as session:
        session.execute(sqlalchemy.text("SELECT 1"))
        users.email_sender.send_email("a@x.org", "forgotten", "Body")
        session.rollback()
        session.execute(sqlalchemy.text("SELECT 1"))
        users.email_sender.send_email("a@x.org", "committed", "Body")
        assert recorded.envelopes == []
        session.commit()
        users.email_sender.send_email("a@x.org", "at once", "Body")
    engine.dispose()
    subjects = [envelope.payload["subject"] for envelope in recorded.envelopes]
    assert subjects == ["committed", "at once"]


@contextmanager
def recording(relay: Relay) -> Iterator[RecordingPublisher]:
    """Let an installed relay record instead of publishing."""
    publisher = RecordingPublisher()
    (sender,) = relay._senders.values()
    before, sender._publisher = sender._publisher, publisher
    try:
        yield publisher
    finally:
        sender._publisher = before


def test_a_recording_relay_attaches_to_lback_by_itself() -> None:
    """For the tests of a Lback project."""
    sending, documented = dispatchers()
    with recording_relay(["order_paid"]) as recorded:
        sending.send("order_paid", None, order=1)
        documented.send("order_paid", None, order=2)
    sending.send("order_paid", None, order=3)
    assert [envelope.payload["order"] for envelope in recorded.envelopes] == [1, 2]


def test_the_package_has_no_other_names() -> None:
    """Its names are made when they are asked for."""
    import lback_relay.lback

    with pytest.raises(AttributeError, match="Middleware"):
        lback_relay.lback.Middleware  # noqa: B018
