"""The record of one sent signal: what the relay receiver makes and a worker handles.

An envelope is immutable and knows no group, no attempt and no broker. Its bytes are
:mod:`lback_relay.codec`'s business; ``docs/wire-format.md`` describes them.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, NamedTuple

QUEUE: Final = "queue"
BROADCAST: Final = "broadcast"
DELIVERY_MODES: Final = (QUEUE, BROADCAST)

_NOTHING: Mapping[str, str] = MappingProxyType({})


# A named tuple, because one is made for each send and each delivery: a frozen dataclass takes four
# times as long to construct.
class Envelope(NamedTuple):
    """One sent signal. Make it with keyword arguments.

    Attributes:
        id: UUIDv7 in its canonical text form; orders envelopes by time to the millisecond.
        signal: the signal's name.
        sender: what a handler gets as ``sender``: plain data as it was, anything else a snapshot.
        payload: the projected kwargs, name to value (see :mod:`lback_relay.snapshot`).
        sent_at: when ``send`` was called (aware, UTC).
        delivery: the modes it was published by: ``("queue",)``, ``("broadcast",)`` or both.
        origin: ``host:pid`` of the process that sent it.
        trace: W3C trace context headers (``traceparent``, ``tracestate``), if there was one.
        extra: fields of the wire format that this version does not know, kept as they came.
    """

    id: str
    signal: str
    sender: Any
    payload: Mapping[str, Any]
    sent_at: datetime
    delivery: tuple[str, ...] = (QUEUE,)
    origin: str = ""
    trace: Mapping[str, str] = _NOTHING
    extra: Mapping[str, Any] = _NOTHING


def new_envelope_id(now_ms: int | None = None) -> str:
    """Return a new UUIDv7: 48 bits of Unix milliseconds, then 74 random bits.

    Args:
        now_ms: Unix time in milliseconds; the current time if None.

    Source: RFC 9562, section 5.7.
    """
    if now_ms is None:
        now_ms = time.time_ns() // 1_000_000
    random_bits = secrets.randbits(74)
    value = (now_ms & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76
    value |= (random_bits >> 62) << 64
    value |= 0b10 << 62
    value |= random_bits & ((1 << 62) - 1)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def process_origin(host: str) -> str:
    """Return ``host:pid`` of the current process (asked anew each time: processes fork)."""
    return f"{host}:{os.getpid()}"
