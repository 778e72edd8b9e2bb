"""Dramatiq as its guide sets it up: one process, eight threads (its default number).

Chosen: ``dramatiq_queue_prefetch`` ("Advanced topics", set by the driver) as large as many short
actors want it; no middleware but the default's that acknowledge, retry and shut down, for which its
Redis broker takes a list; no results.
"""

from __future__ import annotations

from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Retries, ShutdownNotifications
from marks import URL, handle

broker = RedisBroker(url=URL, middleware=[ShutdownNotifications(), Retries()])
dramatiq.set_broker(broker)


@dramatiq.actor
def user_registered(**payload: Any) -> None:
    """Handle one."""
    handle(payload)


def send(payload: dict[str, Any]) -> None:
    """Send one."""
    user_registered.send(**payload)
