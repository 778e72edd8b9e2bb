"""The record of one sent signal: what the relay receiver makes and a worker handles.

An envelope is immutable and knows no group, no attempt and no broker. Its bytes are
:mod:`lback_relay.codec`'s business; ``docs/wire-format.md`` describes them.
"""

from __future__ import annotations

import os
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


def new_envelope_id(now_ms: int | None = None, *, pid: int | None = None) -> str:
    """Return a new UUIDv7: 48 bits of Unix milliseconds, then 74 random bits.

    Args:
        now_ms: Unix time in milliseconds; the current time if None.
        pid: this process's id, for who has asked for it already; asked for if None.

    Source: RFC 9562, section 5.7.
    """
    if now_ms is None:
        now_ms = time.time_ns() // 1_000_000
    time_bits = f"{now_ms & 0xFFFF_FFFF_FFFF:012x}"
    return f"{time_bits[:8]}-{time_bits[8:]}-{_random_end(os.getpid() if pid is None else pid)}"


def _random_end(pid: int) -> str:
    """Return a UUIDv7's text from its version on, of those that were drawn ahead.

    Whoever asks the system lets go of the interpreter meanwhile, and the thread that publishes
    takes it: the two would take turns for each envelope, instead of for each batch.
    """
    # By the process, for what was drawn before a fork is the parent's. Not by a hook of os.fork
    # alone: a server that forks in C may not call it.
    drawn = _drawn.get(pid)
    if drawn is None:
        _drawn.clear()
        drawn = _drawn[pid] = []
    try:
        return drawn.pop()
    except IndexError:
        digits = os.urandom(_DIGITS // 2 * _DRAWN_AT_ONCE).hex()
        starts = range(0, len(digits), _DIGITS)
        ends = [_formatted(digits[start : start + _DIGITS]) for start in starts]
        end = ends.pop()
        drawn.extend(ends)
        return end


def _formatted(digits: str) -> str:
    return f"7{digits[:3]}-{_VARIANT[digits[3]]}{digits[4:7]}-{digits[7:19]}"


_DIGITS: Final = 20
_DRAWN_AT_ONCE: Final = 256
_drawn: Final[dict[int, list[str]]] = {}

# The two highest bits of this digit are 10; the other two stay random.
_VARIANT: Final = {f"{digit:x}": f"{0b1000 | digit & 0b11:x}" for digit in range(16)}


def process_origin(host: str) -> str:
    """Return ``host:pid`` of the current process (asked anew each time: processes fork)."""
    return f"{host}:{os.getpid()}"
