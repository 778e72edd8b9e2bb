"""Lback's e-mail sender, relayed: a mail becomes a signal that is published after the commit.

Lback sends the registration mail inside the open transaction, by SMTP and without a timeout, and
ignores whether it went. Here ``send_email`` returns at once; the worker's
:mod:`lback_relay.lback.email_handler` sends it, and tries again until it has gone.
"""

from __future__ import annotations

import logging
from typing import Final

from lback.utils.email_sender import EmailSender

from lback_relay.config import EMAIL_SIGNAL
from lback_relay.relay import Relay
from lback_relay.transaction import last_session

logger = logging.getLogger(__name__)

ENVELOPE_BYTES: Final = 1024
"""Room for all of an envelope but the mail."""


def can_be_relayed(sender: object) -> bool:
    """Return whether this is Lback's own sender: what the worker can do in its place."""
    return type(sender) is EmailSender


class RelayedEmailSender(EmailSender):  # type: ignore[misc] # the framework is untyped
    """Takes the place of Lback's ``EmailSender``, and has all of its attributes and methods.

    Attributes:
        direct: the sender that it replaced.

    Args:
        relay: what relays the mails.
        direct: Lback's own sender; mails that can't be relayed are sent by it, at once.
    """

    def __init__(self, relay: Relay, direct: EmailSender) -> None:
        # All that Lback's constructor does is to keep its arguments. A patched method is none.
        given = {name: value for name, value in vars(direct).items() if not callable(value)}
        self.__dict__.update(given)
        self.direct = direct
        self._relay = relay

    def send_email(self, to_email: str, subject: str, body: str, is_html: bool = False) -> bool:
        """Relay one mail, to be sent after the commit of the transaction that this thread is in.

        On a rollback it is forgotten. A mail that can't be relayed, because it is larger than
        ``max_payload_bytes``, is sent at once instead, as Lback would have done: none is lost.

        Returns: True; what Lback's sender returns for a mail that was sent at once.
        """
        payload = {"to_email": to_email, "subject": subject, "body": body, "is_html": is_html}
        if not all(isinstance(payload[name], str) for name in ("to_email", "subject", "body")):
            logger.error("A mail was not sent: to_email, subject and body must all be text")
            return False
        if self._fits(to_email, subject, body) and self._relay.relay(
            EMAIL_SIGNAL, self, payload, session=last_session()
        ):
            return True
        logger.warning(
            "A mail was sent within the request, for it could not be relayed; if it is too large, "
            "raise RELAY_MAX_PAYLOAD_BYTES (%d)",
            self._relay.config.max_payload_bytes,
            extra={"relay_signal": EMAIL_SIGNAL},
        )
        return bool(self.direct.send_email(to_email, subject, body, is_html))

    def _send_email(self, to_email: str, subject: str, body: str, is_html: bool = False) -> bool:
        """Do what the framework's ready-made mails call, and what its own sender lacks."""
        return self.send_email(to_email, subject, body, is_html)

    def _fits(self, *texts: str) -> bool:
        """Return whether the mail fits into an envelope whole; else its body would be omitted."""
        size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
        return size + ENVELOPE_BYTES <= self._relay.config.max_payload_bytes

    def __repr__(self) -> str:
        return f"<RelayedEmailSender in place of {type(self.direct).__name__}>"
