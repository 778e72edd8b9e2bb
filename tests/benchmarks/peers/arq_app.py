"""arq: async only.

Chosen from its documentation: msgpack as the serializer (its own example), no kept results and no
log of results, many jobs at once, and a short ``poll_delay``: it polls, half a second by default.
"""

from __future__ import annotations

import functools
from typing import Any

import msgpack
from arq import create_pool
from arq.connections import RedisSettings
from marks import URL, handle

unpack = functools.partial(msgpack.unpackb, raw=False)
settings = RedisSettings.from_dsn(URL)


async def user_registered(_context: Any, **payload: Any) -> None:
    """Handle one."""
    handle(payload)


class WorkerSettings:
    """What the worker reads."""

    functions = (user_registered,)
    redis_settings = settings
    job_serializer = msgpack.packb
    job_deserializer = unpack
    keep_result = 0
    log_results = False
    max_jobs = 100
    poll_delay = 0.01


_open: list[Any] = []


async def open_sender() -> None:
    """Connect."""
    _open.append(await create_pool(settings, job_serializer=msgpack.packb, job_deserializer=unpack))


async def send(payload: dict[str, Any]) -> None:
    """Send one."""
    await _open[0].enqueue_job("user_registered", **payload)


async def close_sender() -> None:
    """Disconnect."""
    await _open[0].aclose()
