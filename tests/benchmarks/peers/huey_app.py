"""Huey as its guide sets it up: Redis with blocking reads (the default), no results, eight threads.

Chosen: ``results=False``, which stores nothing for each; ``-n`` (no periodic tasks).
"""

from __future__ import annotations

from typing import Any

from huey import RedisHuey
from marks import URL, handle

huey = RedisHuey("bench", url=URL, results=False)


@huey.task()
def user_registered(**payload: Any) -> None:
    """Handle one."""
    handle(payload)


def send(payload: dict[str, Any]) -> None:
    """Send one."""
    user_registered(**payload)
