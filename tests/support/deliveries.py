"""Short words for what tests of a broker do again and again."""

from __future__ import annotations

from collections.abc import Sequence

from support.waiting import wait_until

from lback_relay.broker import Broker, Delivery

SIGNAL = "user_registered"
GROUP = "mailers"


def publish(
    broker: Broker,
    *encoded: bytes,
    signal: str = SIGNAL,
    producer_id: str = "p",
    first: int = 1,
    fresh: bool = False,
) -> int:
    """Publish to the queue; return how many were new."""
    return broker.publish(
        signal,
        encoded,
        producer_id=producer_id,
        first_sequence=first,
        queue=True,
        broadcast=False,
        fresh=fresh,
    )


def read(
    broker: Broker,
    consumer: str = "a",
    *,
    signals: Sequence[str] = (SIGNAL,),
    group: str = GROUP,
    count: int = 100,
) -> list[Delivery]:
    """Read without blocking."""
    return broker.read(signals, group, consumer, count=count, block_s=0)


def claim(
    broker: Broker,
    consumer: str = "b",
    *,
    signals: Sequence[str] = (SIGNAL,),
    min_idle_s: float = 0.0,
    count: int = 100,
) -> list[Delivery]:
    """Claim what has expired; by default every pending entry has."""
    return broker.claim(signals, GROUP, consumer, min_idle_s=min_idle_s, count=count)


def read_redo(broker: Broker, consumer: str = "a") -> list[Delivery]:
    """Promote due retries until one is due, and read them."""

    def read_promoted() -> list[Delivery]:
        broker.promote([SIGNAL], GROUP)
        return read(broker, consumer)

    return wait_until(read_promoted, what="a due retry")


def bodies(deliveries: Sequence[Delivery]) -> list[bytes | None]:
    """Return the envelopes' bytes."""
    return [delivery.encoded for delivery in deliveries]
