"""What tests of the outbox share: an application that commits orders, and a look at both sides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.orm import Session
from support.brokers import raw_client
from support.outbox_child import Base, Order

from lback_relay import Relay, outbox_table
from lback_relay.broker import connect
from lback_relay.broker.keys import Keys
from lback_relay.codec import decode
from lback_relay.outbox import create_table
from lback_relay.outbox_sweep import Sweep

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on a database with the application's table and the outbox's."""
    engine = create_engine(database_url)
    Base.metadata.create_all(engine)
    create_table(engine)
    yield engine
    engine.dispose()


def send(relay: Relay, session: Session, name: str, signal: str = "order_paid") -> None:
    """Write an order and send its signal, as an application does."""
    session.add(Order(name=name))
    session.flush()
    assert relay.relay(signal, "shop", {"order": name}, session=session)


def commit(relay: Relay, engine: Engine, *names: str, signal: str = "order_paid") -> None:
    """Write orders and send their signals, in one transaction that is committed."""
    with Session(engine) as session:
        for name in names:
            send(relay, session, name, signal)
        session.commit()


def in_stream(redis_url: str, namespace: str, signal: str = "order_paid") -> list[str]:
    """Return the orders in the signal's stream."""
    with raw_client(redis_url) as client:
        entries: Any = client.xrange(Keys(namespace).events(signal))
    return [decode(fields[b"e"]).payload["order"] for _, fields in entries]


def committed(engine: Engine) -> list[str]:
    """Return the orders that are in the application's table."""
    with Session(engine) as session:
        return list(session.scalars(select(Order.name)))


def rows(engine: Engine) -> int:
    """Return how many rows the outbox holds."""
    with engine.connect() as connection:
        return sum(each.rows for each in outbox_table.waiting(connection))


def sweep_of(redis_url: str, namespace: str, **options: Any) -> Sweep:
    """Return a sweep of another process's making."""
    return Sweep({}, lambda: connect(redis_url, namespace=namespace, timeout_s=30.0), **options)


def expire_claims(engine: Engine) -> None:
    """Let the claims have run out, as they do in ten seconds."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE lback_relay_outbox SET claimed_until_ms = 0"))
