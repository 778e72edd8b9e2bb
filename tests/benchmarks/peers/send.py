"""Send with one peer: ``python send.py MODULE COUNT [RATE]``; prints what it took as JSON.

Without a rate as quickly as it goes, one by one, as code does that sends one signal; with one so
many a second, each with the instant of its sending. Runs in the peer's virtual environment.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from marks import PAYLOAD

WARM_UP = 20


def payloads(count: int, rate: float | None) -> Iterator[tuple[float, dict[str, Any]]]:
    """Yield how long to wait, and the payload."""
    began_at = time.monotonic()
    for number in range(count):
        if rate is None:
            yield 0.0, PAYLOAD
            continue
        wait_s = began_at + number / rate - time.monotonic()
        yield max(0.0, wait_s), {**PAYLOAD, "sent_at": 0.0}


def send_all(module: Any, count: int, rate: float | None) -> None:
    """Send with a peer whose sending blocks."""
    for wait_s, payload in payloads(count, rate):
        if wait_s:
            time.sleep(wait_s)
        if rate is not None:
            payload["sent_at"] = time.monotonic()
        module.send(payload)


async def send_all_async(module: Any, count: int, rate: float | None) -> None:
    """Send with a peer whose sending is awaited."""
    for wait_s, payload in payloads(count, rate):
        if wait_s:
            await asyncio.sleep(wait_s)
        if rate is not None:
            payload["sent_at"] = time.monotonic()
        await module.send(payload)


async def drive_async(module: Any, count: int, rate: float | None) -> float:
    """Open, warm up, send, close. Returns the seconds that sending took."""
    await module.open_sender()
    if rate is None:
        await send_all_async(module, WARM_UP, None)
    began_at = time.monotonic()
    await send_all_async(module, count, rate)
    took_s = time.monotonic() - began_at
    await module.close_sender()
    return took_s


def main(name: str, count: int, rate: float | None) -> None:
    """Send, and print the figures."""
    module = importlib.import_module(name)
    if inspect.iscoroutinefunction(module.send):
        took_s = asyncio.run(drive_async(module, count, rate))
    else:
        if rate is None:
            send_all(module, WARM_UP, None)
        began_at = time.monotonic()
        send_all(module, count, rate)
        took_s = time.monotonic() - began_at
    sys.stdout.write(json.dumps({"sent": count, "took_s": took_s}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else None)
