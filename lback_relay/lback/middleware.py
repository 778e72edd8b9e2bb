"""The one line in a Lback project's settings: ``"lback_relay.lback.RelayMiddleware"``.

It does nothing to requests and responses. Lback makes its middlewares at the end of its start,
with what they ask for by name, in every process that starts the framework.
"""

from __future__ import annotations

import logging
from typing import Any

from lback.core.base_middleware import BaseMiddleware

from lback_relay.config import RelayConfig
from lback_relay.errors import RelayError
from lback_relay.lback.installed import install

logger = logging.getLogger(__name__)

REFUSED_EXIT: int = 3
"""What gunicorn's master takes for a worker that can't start: it halts instead of trying again."""


class RelayMiddleware(BaseMiddleware):  # type: ignore[misc] # the framework is untyped
    """Installs the relay of the project's ``RELAY_*`` settings.

    Put it first in ``MIDDLEWARES``: responses pass the list backwards, so that the first one is
    last, after the database middleware's commit.

    Args:
        config: Lback's settings, injected by name.
        user_manager: what sends Lback's mails, injected by name.
        db_manager: what has the project's database, injected by name.

    Raises:
        SystemExit: the settings can't be used. Lback would go on without a middleware that
            failed, and without the relay every signal and mail would be lost in silence.
    """

    def __init__(self, config: Any, user_manager: Any = None, db_manager: Any = None) -> None:
        try:
            checked = RelayConfig.from_settings(config)
            self.relay = install(checked, user_manager)
        except RelayError as error:
            logger.critical("The relay can't start: %s", error)
            raise SystemExit(REFUSED_EXIT) from error
        self._engine = getattr(db_manager, "engine", None)
        for warning in checked.warnings:
            logger.warning("%s", warning)

    def process_request(self, request: Any) -> Any:  # noqa: ARG002 - Lback's signature
        """Let the request pass; the first one of a process says that it serves, and may sweep."""
        if self._engine is not None:
            self.relay.watch_outbox(self._engine)
        return None

    def process_response(self, request: Any, response: Any) -> Any:  # noqa: ARG002
        """Let the response pass."""
        return response
