"""What the shop's workers do: name this module on the worker's command line.

A handler is called as a local receiver is, in another process and after the commit.
"""

import logging
from typing import Any

from lback_relay import EntitySnapshot, HandlerContext, remote_dispatcher

logger = logging.getLogger(__name__)


@remote_dispatcher.receiver("user_registered", max_attempts=8)
def welcome(sender: Any, user: EntitySnapshot, context: HandlerContext, **_: Any) -> None:
    """Say who has joined. A shop would open a basket, tell its newsletter, or call a webhook."""
    logger.info(
        "%s: welcome, %s (user %s, attempt %s)",
        type(sender).__name__,
        user.username,
        user.id,
        context.attempt,
    )
