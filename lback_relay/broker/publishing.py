"""Publishing to Redis: one script call per batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lback_relay.broker.part import BrokerPart
from lback_relay.broker.scripts import PUBLISH
from lback_relay.errors import BacklogFull

PRODUCER_TTL_MS: Final = 7 * 24 * 3600 * 1000
"""For how long a producer's last sequence number is remembered after a batch."""
_FULL: Final = -1


class Publishing(BrokerPart):
    """The publisher's side."""

    def publish(
        self,
        signal: str,
        encoded: Sequence[bytes],
        *,
        producer_id: str,
        first_sequence: int,
        queue: bool,
        broadcast: bool,
        max_backlog: int | None = None,
    ) -> int:
        """See :meth:`lback_relay.broker.base.Broker.publish`."""
        if not encoded or not (queue or broadcast):
            return 0
        keys = self._keys
        accepted: int = self._redis.call(
            *PUBLISH.command(
                keys.events(signal),
                keys.producer(signal, producer_id),
                first_sequence,
                1 if queue else 0,
                keys.broadcast(signal) if broadcast else "",
                max_backlog or 0,
                PRODUCER_TTL_MS,
                *encoded,
            )
        )
        if accepted == _FULL:
            raise BacklogFull(
                f"signal {signal!r} holds its max_backlog of {max_backlog} envelopes; start more "
                "workers, or raise max_backlog"
            )
        return accepted
