"""Celery as its guide "Optimizing" sets it up for many short tasks.

Chosen there: a large prefetch multiplier (it names 64 and 128), transient delivery, acknowledging
early (the default). From elsewhere in its documentation: msgpack ("Serializers"), no results and no
rate limits ("Tasks", on performance), the threads pool, since the default one forks and the
comparison is within one process; no gossip, mingle, heartbeat and task events, each of which only
costs where there is one worker.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from marks import URL, handle

app = Celery("celery_app", broker=URL)
app.conf.update(
    task_serializer="msgpack",
    accept_content=["msgpack"],
    task_ignore_result=True,
    worker_prefetch_multiplier=128,
    worker_disable_rate_limits=True,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
    task_default_delivery_mode="transient",
)


@app.task(name="user_registered")
def user_registered(**payload: Any) -> None:
    """Handle one."""
    handle(payload)


def send(payload: dict[str, Any]) -> None:
    """Send one."""
    user_registered.apply_async(kwargs=payload)
