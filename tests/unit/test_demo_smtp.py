"""The demo's SMTP server, spoken to by the standard library's client."""

from __future__ import annotations

import gc
import smtplib
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from email.message import EmailMessage

import pytest
from support.smtp_server import SmtpServer, smtp_server, smtp_settings

CLIENT_TIMEOUT_S = 10.0


@pytest.fixture
def server() -> Iterator[SmtpServer]:
    """A server that delivers at once."""
    with smtp_server() as running:
        yield running


def unverified() -> ssl.SSLContext:
    """A client context that takes a self-signed certificate, as Lback's sender does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def send(server: SmtpServer, *, to: str = "ann@example.org", login: str = "shop") -> None:
    """Send one mail as Lback does: STARTTLS, login, mail."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "shop@example.org", to, "Grüße"
    mail["Message-ID"] = f"<{to}>"
    mail.set_content("Schön, dass du da bist.\n")
    with smtplib.SMTP("127.0.0.1", server.port, timeout=CLIENT_TIMEOUT_S) as client:
        client.starttls(context=unverified())
        client.login(login, "any")
        client.send_message(mail)


def test_a_mail_is_recorded_with_all_that_identifies_it(server: SmtpServer) -> None:
    """Recipients, subject, body, message id and login are decoded text."""
    send(server, login="worker-1")
    (mail,) = server.mails
    assert mail.to == ("ann@example.org",)
    assert mail.sender == "shop@example.org"
    assert mail.subject == "Grüße"
    assert mail.body.strip() == "Schön, dass du da bist."
    assert mail.message_id == "<ann@example.org>"
    assert mail.login == "worker-1"
    assert mail.received_at.utcoffset() == timedelta(0)


def test_a_login_is_not_followed_by_a_warning(
    server: SmtpServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The server's library warns of its own doings at each login; a user of the demo can't help."""
    send(server)
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []


def test_nothing_is_taken_without_tls(server: SmtpServer) -> None:
    """A client that skips STARTTLS is turned away."""
    with smtplib.SMTP("127.0.0.1", server.port, timeout=CLIENT_TIMEOUT_S) as client:
        client.ehlo()
        assert client.has_extn("starttls")
        with pytest.raises(smtplib.SMTPException):
            client.sendmail("a@example.org", "b@example.org", "x")
    assert server.mails == ()


def test_nothing_is_taken_without_a_login(server: SmtpServer) -> None:
    """A client that skips AUTH is turned away."""
    with smtplib.SMTP("127.0.0.1", server.port, timeout=CLIENT_TIMEOUT_S) as client:
        client.starttls(context=unverified())
        client.ehlo()
        assert client.has_extn("auth")
        with pytest.raises(smtplib.SMTPSenderRefused):
            client.sendmail("a@example.org", "b@example.org", "x")
    assert server.mails == ()


def test_slow_deliveries_overlap() -> None:
    """Eight mails are all under way at once: none waits for another's delay."""
    with smtp_server(delay_s=1.0) as server, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: send(server, to=f"user{n}@example.org"), range(8)))
        instants = [mail.received_at for mail in server.mails]
    assert len(instants) == 8
    # One after another they would be spread over seven delays.
    assert max(instants) - min(instants) < timedelta(seconds=7)


def test_a_rejected_mail_is_a_temporary_error_and_is_not_recorded() -> None:
    """451 tells the client to try again; a mail after the switch is taken."""
    with smtp_server(mode="reject") as server:
        with pytest.raises(smtplib.SMTPSenderRefused) as refused:
            send(server)
        assert refused.value.smtp_code == 451
        assert server.mails == ()
        server.switch("deliver")
        send(server)
        assert len(server.mails) == 1


def test_refused_connections_are_taken_on_the_same_port_after_a_switch() -> None:
    """The port is kept while nothing listens on it."""
    with smtp_server(mode="refuse") as server:
        with pytest.raises(ConnectionRefusedError):
            send(server)
        server.switch("deliver")
        send(server)
        server.switch("refuse")
        with pytest.raises(ConnectionRefusedError):
            send(server)
        assert len(server.mails) == 1


def test_a_hanging_server_accepts_and_says_nothing() -> None:
    """The client's own timeout ends it, never an answer."""
    with smtp_server(mode="hang") as server:
        with pytest.raises(smtplib.SMTPServerDisconnected, match="timed out"):
            smtplib.SMTP("127.0.0.1", server.port, timeout=0.2)
        assert server.connections == 1
        assert server.mails == ()


def test_a_client_that_hangs_is_cut_by_a_switch() -> None:
    """Whoever waits for a greeting sees the connection end and can try again."""
    with smtp_server(mode="hang") as server, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(smtplib.SMTP, "127.0.0.1", server.port, timeout=CLIENT_TIMEOUT_S)
        server.wait_for_connections(1, CLIENT_TIMEOUT_S)
        server.switch("deliver")
        with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionResetError)):
            waiting.result()


def test_stopping_in_the_middle_of_a_delivery_leaves_no_thread() -> None:
    """A client in the middle of a slow mail is cut, and the mail is not recorded."""
    with ThreadPoolExecutor(1) as pool:
        with smtp_server(delay_s=60.0) as server:
            sending = pool.submit(send, server)
            server.wait_for_connections(1, CLIENT_TIMEOUT_S)
        with pytest.raises((smtplib.SMTPException, OSError)):
            sending.result()
    assert server.mails == ()
    assert not [thread for thread in threading.enumerate() if thread.name == "demo-smtp"]
    # What a cut connection leaves to the collector must not warn in another test.
    gc.collect()


def test_a_server_starts_again_after_it_was_stopped() -> None:
    """Stopping twice does nothing; starting twice is refused."""
    server = SmtpServer()
    server.start()
    with pytest.raises(RuntimeError, match="runs already"):
        server.start()
    server.stop()
    server.stop()
    with server:
        send(server)
    assert len(server.mails) == 1


def test_waiting_for_mails_ends_with_the_last_or_with_the_time() -> None:
    """True once they are there, False when the time is up."""
    with smtp_server(delay_s=0.1) as server:
        assert not server.wait_for_mails(1, timeout_s=0.0)
        send(server)
        assert server.wait_for_mails(1, timeout_s=5.0)
        assert not server.wait_for_mails(2, timeout_s=0.05)


@pytest.mark.parametrize(("option", "value"), [("delay_s", -1.0), ("mode", "slow")])
def test_a_wrong_option_is_refused(option: str, value: object) -> None:
    """The message names the option or the choices."""
    with pytest.raises(ValueError, match=r"delay_s|choose one of"):
        SmtpServer(**{option: value})  # type: ignore[arg-type]


def test_the_settings_point_at_the_server(server: SmtpServer) -> None:
    """EMAIL_USERNAME is never empty: Lback's sender logs in with it."""
    settings = smtp_settings(server, login="web@example.org")
    assert settings["SMTP_PORT"] == server.port
    assert settings["EMAIL_USERNAME"] == "web@example.org"
