"""What the parts of the Redis broker have in common."""

from __future__ import annotations

from lback_relay.broker.base import EVENTS
from lback_relay.broker.connections import Connections
from lback_relay.broker.keys import Keys


class BrokerPart:
    """One role of the broker: publishing, reading, settling, keeping, looking."""

    def __init__(self, connections: Connections, keys: Keys) -> None:
        self._redis = connections
        self._keys = keys

    def _stream(self, signal: str, source: str, group: str) -> str:
        """Return the key of the stream that a delivery came from."""
        if source == EVENTS:
            return self._keys.events(signal)
        return self._keys.redo(signal, group)
