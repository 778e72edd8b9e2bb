"""Dead letters for tests of what shows and changes them."""

from __future__ import annotations

from typing import Any

from support.runs import an_envelope

from lback_relay.broker import DeadLetter
from lback_relay.broker.base import EVENTS, DeadLetterRecord
from lback_relay.codec import encode

NOW_MS = 1_000_000_000
DIED_MS = NOW_MS - 90_000


def a_letter(
    entry_id: str = f"{DIED_MS}-0",
    *,
    handler: str = "welcome",
    reason: str = "attempts",
    error: str = "SMTPError: Refused",
    traceback: str = "",
    encoded: bytes | None = None,
    source: str = EVENTS,
    signal: str = "user_registered",
    payload: dict[str, Any] | None = None,
) -> DeadLetterRecord:
    """Return a letter that died 90 s ago."""
    return DeadLetterRecord(
        entry_id=entry_id,
        encoded=encode(an_envelope(signal, payload)) if encoded is None else encoded,
        letter=DeadLetter(
            handler=handler, reason=reason, error=error, traceback=traceback, attempts=3
        ),
        signal=signal,
        group="mailers",
        source=source,
        source_id="7-0",
        dead_at_ms=int(entry_id.partition("-")[0]),
    )
