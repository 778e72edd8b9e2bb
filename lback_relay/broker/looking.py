"""Looking at what is there, without changing it."""

from __future__ import annotations

from lback_relay.broker.part import BrokerPart
from lback_relay.broker.records import unpack_figures
from lback_relay.broker.scripts import BACKLOG


class Looking(BrokerPart):
    """The operator's side."""

    def workers(self) -> dict[str, dict[str, str]]:
        """See :meth:`lback_relay.broker.base.Broker.workers`."""
        found = self._redis.scan(self._keys.worker_pattern())
        if not found:
            return {}
        keys = sorted(found)
        values = self._redis.call("MGET", *keys)
        return {
            self._keys.worker_of(key.decode()): unpack_figures(value)
            for key, value in zip(keys, values, strict=True)
            if value is not None  # it has expired since
        }

    def backlog(self, signal: str, group: str) -> dict[str, int]:
        """See :meth:`lback_relay.broker.base.Broker.backlog`."""
        keys = self._keys
        figures: list[int] = self._redis.call(
            *BACKLOG.command(
                keys.events(signal),
                keys.redo(signal, group),
                keys.retry(signal, group),
                keys.dead(signal, group),
                group,
            )
        )
        return dict(zip(("waiting", "pending", "retrying", "dead"), figures, strict=True))
