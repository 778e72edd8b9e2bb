"""Envelopes, deliveries and runs for tests of the worker."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from lback_relay.broker.base import EVENTS, REDO, Delivery
from lback_relay.codec import encode
from lback_relay.envelope import Envelope, new_envelope_id

SENT_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def an_envelope(
    signal: str = "user_registered",
    payload: Mapping[str, Any] | None = None,
    *,
    delivery: tuple[str, ...] = ("queue",),
    **fields: Any,
) -> Envelope:
    """Return an envelope with an id of its own."""
    return Envelope(
        id=new_envelope_id(),
        signal=signal,
        sender="UserManager",
        payload={"number": 1} if payload is None else payload,
        sent_at=SENT_AT,
        delivery=delivery,
        origin="web:1",
        **fields,
    )


def a_delivery(
    encoded: bytes | None = None,
    *,
    signal: str = "user_registered",
    attempts: Mapping[str, int] | None = None,
    deliveries: int = 1,
    payload: Mapping[str, Any] | None = None,
    entry_id: str = "1-0",
) -> Delivery:
    """Return a first delivery, or with ``attempts`` one of a retry."""
    return Delivery(
        signal=signal,
        source=REDO if attempts else EVENTS,
        entry_id=entry_id,
        encoded=encode(an_envelope(signal, payload)) if encoded is None else encoded,
        attempts=attempts or {},
        deliveries=deliveries,
    )
