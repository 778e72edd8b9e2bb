"""The one relay of this process, and what installing it changes in a running Lback application.

Lback builds its middlewares more than once in some processes; the second time must not relay
everything twice.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from lback_relay.config import RelayConfig
from lback_relay.lback.email_sender import RelayedEmailSender, can_be_relayed
from lback_relay.relay import Relay

logger = logging.getLogger(__name__)

_lock = threading.Lock()
_current: Relay | None = None


def current_relay() -> Relay | None:
    """Return the relay that is installed in this process, if there is one."""
    return _current


def install(config: RelayConfig, users: Any = None) -> Relay:
    """Relay what ``config`` says, on both of Lback's dispatchers, and return the relay.

    Installing the same config again changes nothing; another config replaces the one before.

    Args:
        config: which signals, and whether the registration e-mail.
        users: what sends Lback's mails (``lback.core.server.user_manager``); None leaves them.
    """
    global _current  # noqa: PLW0603 - one relay per process is the point
    with _lock:
        if _current is not None and _current.config != config:
            _current.close()
            _current = None
        relay = _current if _current is not None else Relay(config)
        relay.attach()
        _install_sender(relay, users)
        _current = relay
    return relay


def uninstall(users: Any = None) -> None:
    """Detach and close this process's relay, and put Lback's own e-mail sender back."""
    global _current  # noqa: PLW0603
    with _lock:
        if _current is not None:
            _current.close()
            _current = None
        _restore_sender(users)


def _install_sender(relay: Relay, users: Any) -> None:
    _restore_sender(users)
    if not relay.config.email:
        return
    sender = getattr(users, "email_sender", None)
    if not can_be_relayed(sender):
        logger.warning(
            "RELAY_EMAIL has no effect: mails are sent by %s and not by Lback's own sender, and "
            "the worker could not send them in its way; unset RELAY_EMAIL",
            type(sender).__name__,
        )
        return
    users.email_sender = RelayedEmailSender(relay, sender)


def _restore_sender(users: Any) -> None:
    sender = getattr(users, "email_sender", None)
    if isinstance(sender, RelayedEmailSender):
        users.email_sender = sender.direct
