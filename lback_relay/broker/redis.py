"""The broker on Redis (6.2 and newer) and Valkey (7.2 and newer), by one code path.

Each role is a module of its own: ``publishing``, ``reading``, ``settling``, ``keeping``,
``looking``, ``dead``, ``inspection``, ``subscription``; ``connections`` carries their calls,
``scripts/*.lua`` are the steps that must be one, ``keys`` and ``records`` say what lies where.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lback_relay.broker.base import Subscription
from lback_relay.broker.connections import Connections
from lback_relay.broker.dead import DeadLetters
from lback_relay.broker.inspection import Inspecting
from lback_relay.broker.keeping import Keeping
from lback_relay.broker.keys import Keys
from lback_relay.broker.looking import Looking
from lback_relay.broker.publishing import Publishing
from lback_relay.broker.reading import Reading
from lback_relay.broker.settling import Settling
from lback_relay.broker.subscription import RedisSubscription


class RedisBroker(Publishing, Reading, Settling, Keeping, Looking, DeadLetters, Inspecting):
    """See :class:`lback_relay.broker.base.Broker`. Opens nothing before its first call.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        namespace: first part of every key and channel.
        timeout_s: how long connecting and answering may each take, where a call does not block.
        client_name: shown by ``CLIENT LIST``.
        client_factory: makes the client instead (``memory://``).
        busy_poll: as in :func:`lback_relay.broker.connect`.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "lback",
        timeout_s: float = 5.0,
        client_name: str = "",
        client_factory: Callable[..., Any] | None = None,
        busy_poll: bool = False,
    ) -> None:
        connections = Connections(
            url,
            timeout_s=timeout_s,
            client_name=client_name,
            client_factory=client_factory,
            busy_poll=busy_poll,
        )
        super().__init__(connections, Keys(namespace))

    def __repr__(self) -> str:
        return f"RedisBroker({self._redis.place!r})"

    def ping(self) -> None:
        """See :meth:`lback_relay.broker.base.Broker.ping`."""
        self._redis.call("PING")

    def close(self) -> None:
        """See :meth:`lback_relay.broker.base.Broker.close`."""
        self._redis.close()

    def subscribe(self, signals: Sequence[str]) -> Subscription:
        """See :meth:`lback_relay.broker.base.Broker.subscribe`."""
        return RedisSubscription(self._redis, self._keys, signals)
