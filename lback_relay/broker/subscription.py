"""A subscription to broadcasts that notices a silent link and reconnects by itself.

What is sent while it is away is not heard: broadcasts are delivered at most once. Durations are
seconds on the monotonic clock.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import redis

from lback_relay.broker.connections import Connections
from lback_relay.broker.keys import Keys

PING_AFTER_S: Final = 5.0
"""Silence after which the broker is asked whether it is there."""
_LOOK_EVERY_S: Final = 0.5
"""Longest wait before looking whether the subscription was closed."""


class RedisSubscription:
    """See :class:`lback_relay.broker.base.Subscription`.

    Args:
        connections: to the broker.
        keys: of its namespace.
        signals: whose broadcasts are heard.

    Raises:
        BrokerError: the first connection failed.
    """

    def __init__(self, connections: Connections, keys: Keys, signals: Sequence[str]) -> None:
        self._connections = connections
        self._signals = {keys.broadcast(signal).encode(): signal for signal in signals}
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._pubsub: Any = None
        self._heard_at = 0.0
        self._pinged_at: float | None = None
        with self._lock:
            self._connect()

    def get(self, timeout_s: float) -> tuple[str, bytes] | None:
        """See :meth:`lback_relay.broker.base.Subscription.get`."""
        deadline = time.monotonic() + timeout_s
        if not self._signals:
            self._closed.wait(timeout_s)
            return None
        while not self._closed.is_set():
            left_s = max(0.0, deadline - time.monotonic())
            with self._lock:
                if self._closed.is_set():
                    break
                if self._pubsub is None:
                    self._connect()
                message = self._next(min(left_s, _LOOK_EVERY_S))
            if message is not None and message["type"] == "message":
                signal = self._signals.get(message["channel"])
                if signal is not None:
                    return signal, message["data"]
            if message is None and time.monotonic() >= deadline:
                break
        return None

    def close(self) -> None:
        """See :meth:`lback_relay.broker.base.Subscription.close`."""
        self._closed.set()
        with self._lock:
            self._drop()

    def _next(self, timeout_s: float) -> dict[str, Any] | None:
        """Return the next message of any kind, or None; ping when it has been silent for long."""
        try:
            message: dict[str, Any] | None = self._pubsub.get_message(timeout=timeout_s)
            now = time.monotonic()
            if message is not None:
                self._heard_at, self._pinged_at = now, None
            elif self._pinged_at is not None:
                self._check_silence(now)
            elif now - self._heard_at >= PING_AFTER_S:
                self._pinged_at = now
                self._pubsub.ping()
        except (redis.RedisError, OSError) as error:
            self._drop()
            raise self._connections.failure(error) from error
        return message

    def _check_silence(self, now: float) -> None:
        if self._pinged_at is not None and now - self._pinged_at > self._connections.timeout_s:
            raise redis.TimeoutError("the subscription's connection is silent")

    def _connect(self) -> None:
        """Subscribe, and wait until the broker has said that we are."""
        if not self._signals:
            return
        connections = self._connections
        deadline = time.monotonic() + connections.timeout_s
        try:
            self._pubsub = connections.client(connections.timeout_s).pubsub()
            self._pubsub.subscribe(*self._signals)
            missing = set(self._signals)
            while missing:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise redis.TimeoutError("no answer to SUBSCRIBE")
                message = self._pubsub.get_message(timeout=left_s)
                if message is not None and message["type"] == "subscribe":
                    missing.discard(message["channel"])
        except (redis.RedisError, OSError) as error:
            self._drop()
            raise connections.failure(error) from error
        self._heard_at, self._pinged_at = time.monotonic(), None

    def _drop(self) -> None:
        pubsub, self._pubsub = self._pubsub, None
        if pubsub is not None:
            with contextlib.suppress(redis.RedisError, OSError):
                pubsub.close()
