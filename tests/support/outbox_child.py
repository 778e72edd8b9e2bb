"""A process that commits orders with their signals through the outbox, until it is killed.

``python -m support.outbox_child DATABASE REDIS NAMESPACE MODE``: MODE ``busy`` commits (and rolls
back every fifth) without end; ``before`` and ``after`` stop just before and after the first commit
and wait to be killed. Each line of its output is an event.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from sqlalchemy import String, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from lback_relay import Relay, RelayConfig


class Base(DeclarativeBase):
    """Base of the application's tables."""


class Order(Base):
    """What an application commits beside its signal."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)


def relay_of(redis_url: str, namespace: str, **options: Any) -> Relay:
    """Return a relay whose signal ``order_paid`` goes through the outbox."""
    signals = {"order_paid": {"publish": "outbox"}, "order_sent": {"publish": "outbox", **options}}
    data = {"signals": signals, "url": redis_url, "namespace": namespace, "flush_timeout_s": 0.3}
    return Relay(RelayConfig.from_mapping(data, environ={}))


def main(database: str, redis_url: str, namespace: str, mode: str) -> None:
    """Run until killed."""
    engine = create_engine(database)
    relay = relay_of(redis_url, namespace)
    number = 0
    while True:
        with Session(engine) as session:
            name = f"{os.getpid()}-{number}"
            session.add(Order(name=name))
            session.flush()
            if mode == "after":  # the line's thread would be quicker than the kill
                assert relay.outbox is not None
                relay.outbox._line(engine).wake = lambda: None  # type: ignore[method-assign]
            relay.relay("order_paid", "shop", {"order": name}, session=session)
            if mode == "before":
                wait_to_be_killed()
            if number % 5 == 4:
                session.rollback()
            else:
                session.commit()
        if mode == "after":
            wait_to_be_killed()
        number += 1
        if number == 1:
            say("working")


def wait_to_be_killed() -> None:
    """Say so and do nothing more."""
    say("ready")
    signal.pause()


def say(event: str) -> None:
    """Tell the test."""
    sys.stdout.write(event + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
