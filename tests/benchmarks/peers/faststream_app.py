"""FastStream with a Redis stream and a consumer group, which acknowledges.

Chosen from its documentation: many ``max_records`` for each read, no logger (its access log costs
two lines for each), ``apply_types=False`` (no pydantic on arguments), an async handler; uvloop is
installed and used by its command.
"""

from __future__ import annotations

from typing import Any

from faststream import AckPolicy, FastStream
from faststream.redis import RedisBroker, StreamSub
from marks import URL, handle

broker = RedisBroker(URL, logger=None, apply_types=False)
app = FastStream(broker, logger=None)


@broker.subscriber(
    stream=StreamSub(
        "user_registered", group="workers", consumer="one", last_id="0", max_records=1000
    ),
    ack_policy=AckPolicy.REJECT_ON_ERROR,
)
async def user_registered(payload: dict[str, Any]) -> None:
    """Handle one."""
    handle(payload)


async def open_sender() -> None:
    """Connect."""
    await broker.connect()


async def send(payload: dict[str, Any]) -> None:
    """Send one."""
    await broker.publish(payload, stream="user_registered")


async def close_sender() -> None:
    """Disconnect."""
    await broker.stop()
