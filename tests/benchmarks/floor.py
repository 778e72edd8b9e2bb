"""The floors, in plain redis-py: ``python -m benchmarks.floor KIND COUNT``; prints JSON.

What nobody can do better by much on this machine, with no guarantee at all: no lease, no retry, no
spool, one thread. ``batched`` reads, unpacks and acknowledges in batches; ``pipelined`` packs and
sends in batches; ``single`` packs and sends one at a time. ``dispatched`` is ``pipelined`` for what
comes out of Lback's own dispatcher: the least that anything can do which relays its signals.
``grouped`` is ``single`` in eight threads that share a connection: who finds it free sends what all
of them have packed meanwhile, and wakes those who wait.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import msgpack
import redis
from benchmarks.peers.marks import PAYLOAD, URL
from benchmarks.signals import SIGNAL
from hiredis import pack_command
from lback.core.signals import SignalDispatcher

BATCH: Final = 256
THREADS: Final = 8
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


class _Packed:
    """One thread's entry, until the broker has it."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.sent = False
        self.gate = threading.Semaphore(0)


def grouped(client: Any, count: int) -> None:
    """Pack in eight threads, each waiting for its own, and send by group commit."""
    pack = msgpack.packb
    connection = client.connection_pool.get_connection()
    connection_free = threading.Lock()
    waiting: deque[_Packed] = deque()

    def send_all() -> None:
        batch = [waiting.popleft() for _ in range(len(waiting))]
        if batch:
            commands: Any = [("XADD", STREAM, "*", "e", entry.body) for entry in batch]
            connection.send_packed_command([b"".join(map(pack_command, commands))])
            for _ in batch:
                connection.read_response()
            for entry in batch:
                entry.sent = True
                entry.gate.release()

    def send(number: int) -> None:
        for _ in range(number):
            own = _Packed(pack(PAYLOAD))
            waiting.append(own)
            while not own.sent:
                if connection_free.acquire(blocking=False):
                    try:
                        send_all()
                    finally:
                        connection_free.release()
                    with suppress(IndexError):  # who came during the call sends the next
                        waiting[0].gate.release()
                else:
                    own.gate.acquire(timeout=0.25)

    threads = [threading.Thread(target=send, args=(count // THREADS,)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.connection_pool.release(connection)


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
        "grouped": grouped,
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
