"""Publishing to Redis: one script call per batch, or a transaction for what needs no script.

The script looks up what the producer's last number was. Of a number that was never used nothing is
known there, so that a fresh envelope that comes alone, as most do, goes without: appending it and
noting its number are one transaction, which is less work for the server.

What can go wrong in it: the whole is refused (at maxmemory, by a replica): nothing happened, and
the next try goes by the script, for the number is not fresh any more. The reply is lost: the script
finds the number, or does not. XADD alone is refused as it runs, because the key holds something
else: the number is noted all the same (:class:`~lback_relay.errors.NumbersSpent`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lback_relay.broker.part import BrokerPart
from lback_relay.broker.scripts import PUBLISH
from lback_relay.errors import BacklogFull, BrokerError, NumbersSpent

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
        fresh: bool = False,
    ) -> int:
        """See :meth:`lback_relay.broker.base.Broker.publish`."""
        if not encoded or not (queue or broadcast):
            return 0
        keys = self._keys
        if fresh and len(encoded) == 1 and queue and not (broadcast or max_backlog):
            added, _ = self._redis.transact(
                ("XADD", keys.events(signal), "*", "e", encoded[0]),
                ("SET", keys.producer(signal, producer_id), first_sequence, "PX", PRODUCER_TTL_MS),
            )
            if isinstance(added, BrokerError):
                raise NumbersSpent(str(added))
            return 1
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
