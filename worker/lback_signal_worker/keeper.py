"""The clockwork beside reading: due retries, the heartbeat, trimming, reaping.

A retry that is due is moved to the group's redo stream, which wakes whoever blocks in a read. Every
worker of a group does so, when the earliest one is due by the broker's clock, and every
``PROMOTE_MAX_S`` (longer with many signals) at the latest, because another worker may have
scheduled one and died. Consumers of crashed workers, which could not leave the group, are reaped
soon after the start, when a deploy or a crash may have left some, and now and then. A call that
fails is made again later; nothing here is urgent enough for more. Durations are seconds.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Final

from lback_relay.broker.base import Broker
from lback_relay.errors import BrokerError, BrokerUnavailable
from lback_signal_worker.config import WorkerConfig
from lback_signal_worker.link import Backoff, Link

logger = logging.getLogger(__name__)

PROMOTE_MAX_S: Final = 5.0
PROMOTE_PER_SIGNAL_S: Final = 2.5
"""With many signals an idle worker asks more rarely: each is one call."""
HEARTBEAT_EVERY_S: Final = 10.0
HEARTBEAT_TTL_S: Final = 30.0
TRIM_EVERY_S: Final = 30.0
TRIMMED_PER_TURN: Final = 5
"""With more signals an idle worker trims more rarely, up to ``TRIM_LONGEST`` times."""
TRIM_LONGEST: Final = 8
REAP_FIRST_S: Final = 10.0


class Keeper:
    """The timers of one worker.

    Args:
        broker: of this thread's calls.
        signals: the signals whose queue deliveries this worker takes.
        config: of the worker.
        worker_id: the worker's id in its heartbeat, and its consumer's name.
        figures: returns what the heartbeat says.
        link: the way to the broker.
        random: spreads the workers.
    """

    def __init__(
        self,
        broker: Broker,
        signals: Sequence[str],
        config: WorkerConfig,
        worker_id: str,
        *,
        figures: Callable[[], Mapping[str, str]],
        link: Link,
        random: Callable[[], float],
    ) -> None:
        self._broker = broker
        self._signals = signals
        self._config = config
        self._group = config.group
        self._worker_id = worker_id
        self._figures = figures
        self._link = link
        self._random = random
        self._backoff = Backoff(random)
        self._promote_max_s = max(PROMOTE_MAX_S, PROMOTE_PER_SIGNAL_S * len(signals))
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._stopped = False
        now = monotonic()
        self._promote_at = self._heartbeat_at = now
        many = min(max(1.0, len(signals) / TRIMMED_PER_TURN), TRIM_LONGEST)
        self._trim_every_s = TRIM_EVERY_S * many
        self._trim_at = now + self._trim_every_s * random()
        self._reap_at = now + REAP_FIRST_S * random()
        self._doing = ""

    def retry_in(self, delay_s: float) -> None:
        """Note that a retry will be due in ``delay_s``."""
        due_at = monotonic() + delay_s
        with self._lock:
            if due_at >= self._promote_at:
                return
            self._promote_at = due_at
        self._woken.set()

    def run(self) -> None:
        """Keep the timers until :meth:`stop`."""
        while not self._stopped:
            try:
                self.turn()
            except BrokerError as error:
                self._link.failed(self._doing, error)
                self._woken.wait(self._backoff.next_s())
            except Exception:
                logger.exception("a timer failed; going on")
                self._woken.wait(self._backoff.next_s())
            else:
                self._backoff.reset()
                self._woken.wait(max(0.001, self._next_at() - monotonic()))
            self._woken.clear()

    def turn(self) -> None:
        """Do what is due. What is refused does not hold up the rest.

        At its maxmemory the broker refuses retries and heartbeats, and trimming is what helps.

        Raises:
            BrokerError: one of those that were refused; it is due still.
        """
        refused: tuple[str, BrokerError] | None = None
        for doing, timer in (
            ("moving due retries", self._promote),
            ("saying that the worker lives", self._beat),
            ("trimming", self._trim),
            ("looking for consumers that are gone", self._reap),
        ):
            self._doing = doing
            try:
                timer()
            except BrokerUnavailable:
                raise
            except BrokerError as error:
                refused = refused or (doing, error)
        if refused is not None:
            self._doing = refused[0]
            raise refused[1]

    def stop(self) -> None:
        """End :meth:`run`."""
        self._stopped = True
        self._woken.set()

    def _promote(self) -> None:
        if not self._signals or monotonic() < self._promote_at:
            return
        with self._lock:  # what is noted from here on comes on top
            self._promote_at = float("inf")
        next_s: float | None = 0.0
        try:
            next_s = self._broker.promote(self._signals, self._group)
        finally:
            longest_s = self._promote_max_s
            wait_s = longest_s if next_s is None else min(next_s, longest_s)
            with self._lock:
                self._promote_at = min(self._promote_at, monotonic() + wait_s)
        self._link.worked()

    def _beat(self) -> None:
        if monotonic() < self._heartbeat_at:
            return
        self._broker.heartbeat(self._worker_id, self._figures(), ttl_s=HEARTBEAT_TTL_S)
        self._heartbeat_at = monotonic() + HEARTBEAT_EVERY_S

    def _trim(self) -> None:
        if not self._signals or monotonic() < self._trim_at:
            return
        self._trim_at = monotonic() + self._about(self._trim_every_s)
        self._broker.trim(self._signals, self._group, group_ttl_s=self._config.group_ttl_s)

    def _reap(self) -> None:
        if not self._signals or monotonic() < self._reap_at:
            return
        self._reap_at = monotonic() + self._about(self._config.reap_after_s / 2)
        reaped = self._broker.reap(self._signals, self._group, idle_s=self._config.reap_after_s)
        if reaped:
            logger.info("removed %d consumers of workers that are gone", reaped)

    def _about(self, seconds: float) -> float:
        """Return roughly so long, so that workers spread."""
        return seconds * (0.75 + 0.5 * self._random())

    def _next_at(self) -> float:
        if not self._signals:
            return self._heartbeat_at
        return min(self._promote_at, self._heartbeat_at, self._trim_at, self._reap_at)
