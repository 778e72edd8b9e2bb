"""The handler that sends relayed mails: name this module on the worker's command line.

Importing it registers the handler and reads the project's SMTP settings, so that a worker without
them does not start. It sends as Lback does (STARTTLS, then the login), but with a timeout, a
``Message-ID`` made of the envelope's id, so that a mail sent twice can be recognized, and it tries
again until the server has taken the mail, ten attempts in all, with waits of 43 minutes at most.
"""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, Final

from lback_relay.config import EMAIL_SIGNAL
from lback_relay.errors import Reject
from lback_relay.lback.framework_settings import SmtpSettings, smtp_settings
from lback_relay.lback.settings import project_settings
from lback_relay.markers import Marker
from lback_relay.remote import HandlerContext, remote_dispatcher

STEP_TIMEOUT_S: Final = 30.0
"""The longest wait for the mail server in each step."""
MAX_ATTEMPTS: Final = 10
BACKOFF_BASE_S: Final = 5.0
BACKOFF_MAX_S: Final = 1800.0

_SMTP: Final = smtp_settings(project_settings())


class NoEncryption(Exception):
    """The mail server offers no STARTTLS, and the password must not travel in the clear."""


@remote_dispatcher.receiver(
    EMAIL_SIGNAL,
    name="lback_relay.email",
    max_attempts=MAX_ATTEMPTS,
    backoff_base_s=BACKOFF_BASE_S,
    backoff_max_s=BACKOFF_MAX_S,
    delivery="queue",
)
def send_requested_email(
    sender: Any,  # noqa: ARG001 - every handler gets it
    *,
    to_email: str,
    subject: str,
    body: str,
    context: HandlerContext,
    is_html: bool = False,
    **_: Any,
) -> None:
    """Send one mail.

    Raises:
        Reject: no further attempt can succeed: the recipient is refused for good, or the mail did
            not arrive here whole.
    """
    for name, value in (("to_email", to_email), ("subject", subject), ("body", body)):
        if not isinstance(value, str):
            why = value.relay_explanation if isinstance(value, Marker) else type(value).__name__
            raise Reject(f"{name} is no text: {why}")
    message = make_message(
        _SMTP, to_email=to_email, subject=subject, body=body, is_html=is_html, context=context
    )
    try:
        deliver(_SMTP, message, to_email)
    except smtplib.SMTPRecipientsRefused as error:
        code, _text = next(iter(error.recipients.values()), (0, b""))
        if 500 <= code < 600:
            raise Reject(f"the mail server refuses the recipient for good ({code})") from error
        raise


def make_message(
    smtp: SmtpSettings,
    *,
    to_email: str,
    subject: str,
    body: str,
    is_html: bool,
    context: HandlerContext,
) -> EmailMessage:
    """Return the mail, the same for every attempt.

    Raises:
        Reject: the recipient's address can't stand in a header.
    """
    message = EmailMessage()
    user, _, domain = smtp.username.rpartition("@")
    message["From"] = Address(smtp.sender_name, user or domain, domain if user else "")
    try:
        message["To"] = to_email
    except ValueError as error:
        raise Reject("to_email is no address: it has a line break in it") from error
    message["Subject"] = " ".join(subject.splitlines())
    message["Date"] = format_datetime(context.sent_at)
    message["Message-ID"] = f"<{context.envelope_id}@{domain if user else 'lback-relay'}>"
    message.set_content(body, subtype="html" if is_html else "plain")
    return message


def deliver(
    smtp: SmtpSettings, message: EmailMessage, to_email: str, *, timeout_s: float = STEP_TIMEOUT_S
) -> None:
    """Hand a mail to the server.

    Raises:
        OSError, smtplib.SMTPException: it did not take it.
        NoEncryption: there is a password, and no way to encrypt it.
    """
    server = smtplib.SMTP(smtp.server, smtp.port, timeout=timeout_s)
    try:
        server.ehlo_or_helo_if_needed()
        if server.has_extn("starttls"):
            # Lback accepts any certificate, and projects with their own rely on that.
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            server.starttls(context=context)
        elif smtp.password:
            raise NoEncryption(
                f"{smtp.server}:{smtp.port} offers no STARTTLS, and the password is not sent "
                "unencrypted; use another server or port, or an empty EMAIL_PASSWORD"
            )
        if smtp.password:
            server.login(smtp.username, smtp.password)
        server.send_message(message, from_addr=smtp.username, to_addrs=[to_email])
        # The server has the mail. However it takes the goodbye, the mail must not be sent again.
        with contextlib.suppress(OSError, smtplib.SMTPException):
            server.quit()
    finally:
        server.close()
