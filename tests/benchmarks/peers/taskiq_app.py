"""Taskiq with its stream broker, the one of its Redis brokers that acknowledges.

Chosen from its documentation: reading from the stream's beginning (``consumer_id``), a large
``xread_count``, the msgpack serializer, no result backend, ``--no-parse`` (no pydantic on
arguments), one worker process; uvloop is installed and used by itself.
"""

from __future__ import annotations

from typing import Any

from marks import URL, handle
from taskiq.serializers import MSGPackSerializer
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(URL, consumer_id="0", xread_count=1000).with_serializer(
    MSGPackSerializer()
)


@broker.task(task_name="user_registered")
async def user_registered(**payload: Any) -> None:
    """Handle one."""
    handle(payload)


async def open_sender() -> None:
    """Connect."""
    await broker.startup()


async def send(payload: dict[str, Any]) -> None:
    """Send one."""
    await user_registered.kiq(**payload)


async def close_sender() -> None:
    """Disconnect."""
    await broker.shutdown()
