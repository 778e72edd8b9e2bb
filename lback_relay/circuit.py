"""What the last calls say about the broker, and when to call it again. No clock, no I/O.

The states, and what a sender that waits for its envelope does in each::

    UNKNOWN  never called, or the last call was not answered  lets the thread call, and waits
    UP       the last call was answered                       calls by itself when the line is free
    DOWN     two calls in a row were not answered, or the     does not wait: the entry is spooled,
             very first one                                   or queued where there is no spool

    UNKNOWN -answer-> UP -no answer-> UNKNOWN -no answer-> DOWN -answer-> UP

After UP the first call that is not answered is repeated at once: often only the connection was cut,
which a server does to idle ones.
"""

from __future__ import annotations

from enum import Enum
from types import SimpleNamespace
from typing import Any, Final

from tenacity import wait_exponential, wait_random
from tenacity.wait import wait_base

WAIT_FOR_ANSWER: Final[wait_base] = wait_exponential(multiplier=0.05, max=0.75) + wait_random(
    0, 0.25
)
"""Seconds before the next call to a broker that does not answer: up to one."""


def pause_s(policy: wait_base, failures: int) -> float:
    """Return the pause after so many failures in a row (from 1), in seconds."""
    state: Any = SimpleNamespace(attempt_number=failures)  # all that such strategies look at
    return policy(state)


class Known(Enum):
    """What is known of the broker."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


class Circuit:
    """What the calls so far say.

    Attributes:
        known: the state.
        retry_at: no call before this instant of the monotonic clock, in seconds.
    """

    __slots__ = ("_failures", "known", "retry_at")

    def __init__(self) -> None:
        self.known = Known.UNKNOWN
        self.retry_at = 0.0
        self._failures = 0

    def answered(self) -> None:
        """Note an answer, be it a refusal."""
        self.known = Known.UP
        self._failures = 0

    def unanswered(self, now_s: float) -> None:
        """Note a call without an answer."""
        if self.known is Known.UP:
            self.known = Known.UNKNOWN
            return
        self.known = Known.DOWN
        self._failures += 1
        self.retry_at = now_s + pause_s(WAIT_FOR_ANSWER, self._failures)
