"""What the worker's threads know of the way to the broker: away or not, and when to try again.

States: *there* → a call is not answered → *away*, said at most once in ``REPORT_EVERY_S`` by
whichever thread fails → a call works → *there*, said once. A broker that answers and refuses (at
its maxmemory, or by its rights) is there; each thing that it refuses is said once in
``REFUSAL_EVERY_S``. No thread ends because of the broker: each keeps what it has, waits by its own
:class:`Backoff`, and calls again. Durations are seconds.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Final

from lback_relay.errors import BrokerUnavailable
from lback_signal_worker.retry import backoff_bound_s

logger = logging.getLogger(__name__)

REPORT_EVERY_S: Final = 1.0
REFUSAL_EVERY_S: Final = 10.0
BACKOFF_BASE_S: Final = 0.1
BACKOFF_MAX_S: Final = 5.0
REFUSED_FOR_S: Final = 3 * BACKOFF_MAX_S
"""For how long a refusal stands: whoever was refused tries again before that."""
READING: Final = "reading"
LISTENING: Final = "listening for broadcasts"


class Backoff:
    """The growing waits of one thread. Half of each is random, so that workers spread."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._attempt = 0

    def next_s(self) -> float:
        """Return how long to wait after one more failure."""
        self._attempt = min(self._attempt + 1, 64)
        bound_s = backoff_bound_s(self._attempt, base_s=BACKOFF_BASE_S, max_s=BACKOFF_MAX_S)
        return bound_s * (0.5 + 0.5 * self._random())

    def reset(self) -> None:
        """Begin with short waits again."""
        self._attempt = 0


class Link:
    """Shared by all threads of a worker."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._away_since: float | None = None
        self._reported_at: dict[str, float] = {}
        self._refused_at: dict[str, float] = {}

    @property
    def away(self) -> bool:
        """Whether the last call failed."""
        return self._away_since is not None

    def refuses(self, doing: str) -> bool:
        """Tell whether the broker has refused this lately, as it does again and again."""
        refused_at = self._refused_at.get(doing)
        return refused_at is not None and monotonic() - refused_at < REFUSED_FOR_S

    def failed(self, doing: str, error: BaseException) -> None:
        """Note that a call failed.

        Args:
            doing: what was tried: "reading", "settling".
            error: what the broker raised; its text names no secret.
        """
        unanswered = isinstance(error, BrokerUnavailable)
        now = monotonic()
        with self._lock:
            if not unanswered:
                self._refused_at[doing] = now
            elif self._away_since is None:
                self._away_since = now
            key, every_s = ("", REPORT_EVERY_S) if unanswered else (doing, REFUSAL_EVERY_S)
            if now - self._reported_at.get(key, float("-inf")) < every_s:
                return
            self._reported_at[key] = now
        logger.warning("the broker fails while %s, trying again: %s", doing, error)

    def worked(self) -> None:
        """Note that a call worked."""
        if self._away_since is None:  # no lock on the way that is nearly always taken
            return
        with self._lock:
            since, self._away_since = self._away_since, None
        if since is not None:
            logger.info("the broker answers again, after %.1f s", monotonic() - since)
