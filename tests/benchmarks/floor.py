"""The floors, in plain redis-py: ``python -m benchmarks.floor KIND COUNT``; prints JSON.

What nobody can do better by much on this machine, with no guarantee at all: no lease, no retry, no
spool, one thread. ``batched`` reads, unpacks and acknowledges in batches; ``pipelined`` packs and
sends in batches; ``single`` packs and sends one at a time. ``dispatched`` is ``pipelined`` for what
comes out of Lback's own dispatcher: the least that anything can do which relays its signals.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import msgpack
import redis
from benchmarks.peers.marks import PAYLOAD, URL
from benchmarks.signals import SIGNAL
from lback.core.signals import SignalDispatcher

BATCH: Final = 256
STREAM: Final = "floor"
GROUP: Final = "floor"
WARM_UP: Final = 200


def _client() -> Any:
    client = redis.Redis.from_url(URL, protocol=2)
    # Replies as they come: parsing them into dicts and tuples is no part of the floor.
    client.set_response_callback("XREADGROUP", lambda reply, **_options: reply)
    return client


def pipelined(client: Any, count: int) -> None:
    """Pack and send in batches."""
    pack = msgpack.packb
    for start in range(0, count, BATCH):
        with client.pipeline(transaction=False) as pipeline:
            for _ in range(min(BATCH, count - start)):
                pipeline.execute_command("XADD", STREAM, "*", "e", pack(PAYLOAD))
            pipeline.execute()


def single(client: Any, count: int) -> None:
    """Pack and send one at a time."""
    pack = msgpack.packb
    for _ in range(count):
        client.execute_command("XADD", STREAM, "*", "e", pack(PAYLOAD))


def dispatched(client: Any, count: int) -> None:
    """Pack what a signal's receiver gets, and send in batches."""
    pack = msgpack.packb
    packed: list[bytes] = []

    def receiver(sender: Any, **payload: Any) -> None:
        packed.append(pack(payload))

    dispatcher = SignalDispatcher()
    dispatcher.connect(SIGNAL, receiver)
    for start in range(0, count, BATCH):
        for _ in range(min(BATCH, count - start)):
            dispatcher.send(SIGNAL, None, **PAYLOAD)
        with client.pipeline(transaction=False) as pipeline:
            for body in packed:
                pipeline.execute_command("XADD", STREAM, "*", "e", body)
            pipeline.execute()
        packed.clear()


def batched(client: Any, count: int) -> None:
    """Read, unpack and acknowledge in batches."""
    unpack = msgpack.unpackb
    done = 0
    while done < count:
        reply = client.execute_command(
            "XREADGROUP", "GROUP", GROUP, "one", "COUNT", BATCH, "STREAMS", STREAM, ">"
        )
        entries = reply[0][1]
        for _, fields in entries:
            unpack(fields[1])
        client.execute_command("XACK", STREAM, GROUP, *(entry_id for entry_id, _ in entries))
        done += len(entries)


def main(kind: str, count: int) -> None:
    """Run one, and print its figures."""
    client = _client()
    runs: dict[str, Callable[[Any, int], None]] = {
        "pipelined": pipelined, "single": single, "batched": batched, "dispatched": dispatched,
    }  # fmt: skip
    if kind == "batched":
        pipelined(client, count)
        client.xgroup_create(STREAM, GROUP, id="0")
    else:
        runs[kind](client, WARM_UP)
    began_at = time.monotonic()
    runs[kind](client, count)
    took_s = time.monotonic() - began_at
    sys.stdout.write(json.dumps({"count": count, "took_s": took_s}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
