"""Bytes of retries and dead letters in Redis: msgpack around the untouched envelope.

A retry's record is ``[source, entry_id, index, {handler: attempts}, envelope]``; the first three
make it unique, so that two retries of equal content are two members of the sorted set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgpack

from lback_relay.broker.base import DeadLetter, Delivery
from lback_relay.errors import MalformedEnvelope


def pack_retry(delivery: Delivery, index: int, attempts: Mapping[str, int]) -> bytes:
    """Return the record of the ``index``-th retry of one delivery."""
    record = [delivery.source, delivery.entry_id, index, dict(attempts), delivery.encoded or b""]
    packed: bytes = msgpack.packb(record)
    return packed


def unpack_retry(record: bytes) -> tuple[dict[str, int], bytes]:
    """Return (attempts by handler, envelope bytes).

    Raises:
        MalformedEnvelope: somebody else wrote into the stream.
    """
    try:
        _, _, _, attempts, encoded = msgpack.unpackb(record)
        return {str(name): int(count) for name, count in attempts.items()}, bytes(encoded)
    except (ValueError, TypeError, AttributeError, msgpack.UnpackException) as error:
        raise MalformedEnvelope("an entry of the redo stream is no retry record") from error


def pack_dead_letter(letter: DeadLetter, *, source: str, entry_id: str) -> bytes:
    """Return the record beside a dead letter's envelope."""
    packed: bytes = msgpack.packb(
        {
            "handler": letter.handler,
            "reason": letter.reason,
            "error": letter.error,
            "traceback": letter.traceback,
            "attempts": letter.attempts,
            "source": source,
            "entry_id": entry_id,
        }
    )
    return packed


def unpack_dead_letter(record: bytes) -> DeadLetter:
    """Undo :func:`pack_dead_letter`; fields that are missing are empty."""
    fields: dict[str, Any] = msgpack.unpackb(record)
    return DeadLetter(
        handler=str(fields.get("handler", "")),
        reason=str(fields.get("reason", "")),
        error=str(fields.get("error", "")),
        traceback=str(fields.get("traceback", "")),
        attempts=int(fields.get("attempts", 0)),
    )
