"""Bytes of retries, dead letters and heartbeats in Redis: msgpack, the envelope untouched in it.

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
    """Undo :func:`pack_dead_letter`; fields that are missing or unreadable are empty."""
    fields = _mapping(record)
    attempts = fields.get("attempts", 0)
    return DeadLetter(
        handler=str(fields.get("handler", "")),
        reason=str(fields.get("reason", "")),
        error=str(fields.get("error", "")),
        traceback=str(fields.get("traceback", "")),
        attempts=attempts if isinstance(attempts, int) else 0,
    )


def unpack_origin(record: bytes) -> tuple[str, str]:
    """Return (source, entry id) of the delivery that became a dead letter; "" where unknown."""
    fields = _mapping(record)
    return str(fields.get("source", "")), str(fields.get("entry_id", ""))


def pack_figures(figures: Mapping[str, str]) -> bytes:
    """Return a worker's figures as its heartbeat holds them."""
    packed: bytes = msgpack.packb(dict(figures))
    return packed


def unpack_figures(record: bytes) -> dict[str, str]:
    """Undo :func:`pack_figures`; what can't be read is left out."""
    return {str(name): str(value) for name, value in _mapping(record).items()}


def _mapping(record: bytes) -> dict[Any, Any]:
    try:
        unpacked = msgpack.unpackb(record)
    except (ValueError, msgpack.UnpackException):
        return {}
    return unpacked if isinstance(unpacked, dict) else {}
