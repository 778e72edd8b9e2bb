"""RQ with its ``SimpleWorker``, which its "Notes on Performance" call six times as fast.

Chosen: no fork for each job, no kept results (``result_ttl=0``), a quiet worker.
"""

from __future__ import annotations

from typing import Any

from marks import URL, handle
from redis import Redis
from rq import Queue

queue = Queue("bench", connection=Redis.from_url(URL))


def user_registered(**payload: Any) -> None:
    """Handle one."""
    handle(payload)


def send(payload: dict[str, Any]) -> None:
    """Send one."""
    queue.enqueue_call("rq_app.user_registered", kwargs=payload, result_ttl=0)
