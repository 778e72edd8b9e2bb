"""What a project's own tests need: to see what would be relayed, without a broker.

A handler needs nothing of this: it is a plain function, called by a test as any other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

from lback_relay.codec import decode
from lback_relay.config import RelayConfig, SignalConfig
from lback_relay.envelope import Envelope
from lback_relay.publisher import Publisher
from lback_relay.relay import Relay


class RecordingPublisher(Publisher):
    """Keeps what it is given instead of publishing it; opens nothing and starts no thread."""

    def __init__(self) -> None:
        super().__init__(_no_broker)
        self._recorded: list[Envelope] = []
        self._recording = threading.Lock()

    @property
    def envelopes(self) -> list[Envelope]:
        """What was published so far, decoded; what waits for a commit is not among it."""
        with self._recording:
            return list(self._recorded)

    def publish(self, signal: SignalConfig, encoded: bytes) -> None:  # noqa: ARG002
        """Keep the envelope."""
        envelope = decode(encoded)
        with self._recording:
            self._recorded.append(envelope)

    def flush(self, timeout_s: float | None = None) -> bool:  # noqa: ARG002
        """Return True: nothing is ever queued."""
        return True

    def close(self) -> None:
        """Do nothing: nothing was opened."""

    def counts(self) -> Mapping[str, int]:
        """Return how many were published."""
        return {"published": len(self.envelopes)}


@contextmanager
def recording_relay(
    config: RelayConfig | list[str], *dispatchers: Any
) -> Iterator[RecordingPublisher]:
    """Attach a relay that records; detach it at the end of ``with``. Usage::

        with recording_relay(["user_registered"]) as recorded:
            client.post("/api/auth/register/", json=…)
        assert [envelope.signal for envelope in recorded.envelopes] == ["user_registered"]

    Args:
        config: the relay's config, or just names of signals.
        *dispatchers: where to attach; none means both of Lback's.
    """
    if not isinstance(config, RelayConfig):
        config = RelayConfig.from_mapping({"signals": config}, environ={})
    # What is recorded is looked at, not sent: a test needs no keys.
    signals = {name: replace(signal, encrypt=False) for name, signal in config.signals.items()}
    config = replace(config, signals=signals, keys=None)
    publisher = RecordingPublisher()
    relay = Relay(config, publisher=publisher)
    relay.attach(*dispatchers)
    try:
        yield publisher
    finally:
        relay.close()


def _no_broker() -> NoReturn:
    raise AssertionError("a recording relay has no broker")
