"""Our handlers, for the real ``lback-signal-worker``: as empty as the peers'.

The environment says how many signals (``BENCH_SIGNALS``) and handlers of each (``BENCH_HANDLERS``),
and whether they are async (``BENCH_ASYNC``).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from benchmarks.peers.marks import handle
from benchmarks.signals import signal_names

from lback_relay import remote_dispatcher


def _plain() -> Callable[..., Any]:
    def handler(sender: Any, **payload: Any) -> None:
        handle(payload)

    return handler


def _async() -> Callable[..., Any]:
    async def handler(sender: Any, **payload: Any) -> None:
        handle(payload)

    return handler


for _signal in signal_names(int(os.environ.get("BENCH_SIGNALS", "1"))):
    for _number in range(int(os.environ.get("BENCH_HANDLERS", "1"))):
        remote_dispatcher.connect(
            _signal,
            _async() if os.environ.get("BENCH_ASYNC") else _plain(),
            name=f"handler-{_number}",
        )
