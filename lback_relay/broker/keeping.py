"""What a worker does beside handling: promote, trim, leave, say that it lives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lback_relay.broker.failures import GroupLost
from lback_relay.broker.part import BrokerPart
from lback_relay.broker.records import pack_figures
from lback_relay.broker.scripts import LEAVE, PROMOTE, TRIM
from lback_relay.errors import BrokerError

MAX_PROMOTED: Final = 500
"""Retries that one call moves, per signal; the broker does nothing else meanwhile."""


class Keeping(BrokerPart):
    """The worker's side, as far as it keeps house."""

    def promote(self, signals: Sequence[str], group: str) -> float | None:
        """See :meth:`lback_relay.broker.base.Broker.promote`."""
        keys = self._keys
        replies = self._redis.call_all(
            [
                PROMOTE.command(keys.retry(signal, group), keys.redo(signal, group), MAX_PROMOTED)
                for signal in signals
            ]
        )
        waits = [wait_ms / 1000 for wait_ms in _checked(replies) if wait_ms >= 0]
        return min(waits, default=None)

    def trim(self, signals: Sequence[str]) -> int:
        """See :meth:`lback_relay.broker.base.Broker.trim`."""
        commands = [TRIM.command(self._keys.events(signal)) for signal in signals]
        return sum(_checked(self._redis.call_all(commands)))

    def leave(self, signals: Sequence[str], group: str, consumer: str) -> bool:
        """See :meth:`lback_relay.broker.base.Broker.leave`."""
        keys = self._keys
        streams = [
            stream
            for signal in signals
            for stream in (keys.events(signal), keys.redo(signal, group))
        ]
        replies = self._redis.call_all(
            [LEAVE.command(stream, group, consumer) for stream in streams]
        )
        # Where there is no group, there is no consumer.
        return all(_checked([1 if isinstance(reply, GroupLost) else reply for reply in replies]))

    def heartbeat(self, worker_id: str, figures: Mapping[str, str], *, ttl_s: float) -> None:
        """See :meth:`lback_relay.broker.base.Broker.heartbeat`."""
        ttl_ms = max(1, round(ttl_s * 1000))
        self._redis.call("SET", self._keys.worker(worker_id), pack_figures(figures), "PX", ttl_ms)


def _checked(replies: list[Any]) -> list[int]:
    """Return the scripts' numbers; raise the first refusal: the others have taken effect."""
    for reply in replies:
        if isinstance(reply, BrokerError):
            raise reply
    return replies
