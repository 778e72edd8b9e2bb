"""The only package that knows Redis. :func:`connect` turns a URL into a broker.

``base.py`` is the contract, ``redis.py`` keeps it for Redis and Valkey, ``embedded.py`` starts a
real server for development, and ``memory://`` runs the same code against fakeredis, in process.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from lback_relay.broker.base import Broker, DeadLetter, Delivery, Retry, Settlement, Subscription
from lback_relay.errors import ConfigError
from lback_relay.url import check_url

__all__ = [
    "Broker",
    "DeadLetter",
    "Delivery",
    "Retry",
    "Settlement",
    "Subscription",
    "connect",
]


def connect(
    url: str,
    *,
    namespace: str = "lback",
    timeout_s: float = 5.0,
    client_name: str = "",
    busy_poll: bool = False,
) -> Broker:
    """Return the broker behind a URL. Nothing is opened before its first call.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``, ``embedded://`` or ``memory://``.
        namespace: first part of every key and channel.
        timeout_s: how long a call that does not block may take, connecting included.
        client_name: shown by ``CLIENT LIST``.
        busy_poll: whether a thread looks for a reply, for less than 0.1 ms, before it falls asleep:
            for callers who wait for each reply.

    Raises:
        ConfigError: the URL can't be used; for ``memory://`` also when fakeredis is missing.
        BrokerError: ``embedded://`` could not start its server.
    """
    problems = check_url(url)
    if problems:
        raise ConfigError(problems, source="broker URL")
    from lback_relay.broker.redis import RedisBroker

    parts = urlsplit(url)
    factory = None
    if parts.scheme == "memory":
        from lback_relay.broker.memory import memory_client_factory

        factory = memory_client_factory(parts.netloc + parts.path)
    elif parts.scheme == "embedded":
        from lback_relay.broker.embedded import shared_server_url

        url = shared_server_url(parts.path)
    return RedisBroker(
        url,
        namespace=namespace,
        timeout_s=timeout_s,
        client_name=client_name,
        client_factory=factory,
        busy_poll=busy_poll,
    )
