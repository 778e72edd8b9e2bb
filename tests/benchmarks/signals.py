"""Which signals are sent, with what, for our side."""

from __future__ import annotations

from typing import Any, Final

from benchmarks.peers.marks import PAYLOAD

SIGNAL: Final = "user_registered"


def signal_names(count: int) -> list[str]:
    """Return that many signals' names; the first is the registration's."""
    return [SIGNAL, *(f"{SIGNAL}_{number}" for number in range(2, count + 1))]


def payload_of(times: int) -> dict[str, Any]:
    """Return the payload, or one about so many times its size: a list of users."""
    user = PAYLOAD["user"]
    return dict(PAYLOAD) if times == 1 else {"user": [dict(user) for _ in range(times)]}
