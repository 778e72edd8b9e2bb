"""The outbox on real databases and a real broker: exactly what was committed, once, in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from support.brokers import running_server
from support.databases import database_url, postgres_base
from support.outbox_child import Order, relay_of
from support.outboxes import (
    NOWHERE,
    commit,
    engine,
    expire_claims,
    in_stream,
    rows,
    send,
    sweep_of,
)
from support.waiting import wait_until

from lback_relay import Relay, outbox_table

__all__ = ["database_url", "engine", "postgres_base"]


@pytest.fixture
def relay(redis_url: str, namespace: str) -> Iterator[Relay]:
    """A relay whose signals go through the outbox."""
    relay = relay_of(redis_url, namespace)
    yield relay
    relay.close()


def test_a_committed_signal_is_published_once_and_leaves_the_table(
    engine: Engine, relay: Relay, redis_url: str, namespace: str
) -> None:
    """In the order of sending; nothing is published before the commit."""
    with Session(engine) as session:
        for name in "abc":
            send(relay, session, name)
        assert in_stream(redis_url, namespace) == []
        session.commit()
    assert relay.flush(30)
    assert in_stream(redis_url, namespace) == ["a", "b", "c"]
    assert rows(engine) == 0
    assert relay.counts()["outbox_published"] == 3


def test_what_is_not_committed_is_never_published(
    engine: Engine, relay: Relay, redis_url: str, namespace: str
) -> None:
    """Rolled back, closed, and rolled back to a savepoint; the row goes with the rest."""
    with Session(engine) as session:
        send(relay, session, "rolled back")
        session.rollback()
        send(relay, session, "closed")
        session.close()
        send(relay, session, "before")
        with session.begin_nested():
            send(relay, session, "released")
        savepoint = session.begin_nested()
        send(relay, session, "undone")
        savepoint.rollback()
        send(relay, session, "after")
        session.commit()
        stored = list(session.scalars(select(Order.name).order_by(Order.id)))
    assert relay.flush(30)
    assert in_stream(redis_url, namespace) == stored == ["before", "released", "after"]
    assert rows(engine) == 0


def test_the_session_is_not_flushed(engine: Engine, relay: Relay) -> None:
    """A flush that fails inside of a signal would break the application's transaction."""
    with Session(engine) as session:
        session.execute(select(Order))
        order = Order(name="pending")
        session.add(order)
        assert relay.relay("order_paid", "shop", {"order": "x"}, session=session)
        assert order in session.new
        session.commit()


def test_without_a_transaction_it_is_published_at_once(
    engine: Engine, relay: Relay, redis_url: str, namespace: str
) -> None:
    """Nothing would ever commit it."""
    with Session(engine) as session:
        assert relay.relay("order_paid", "shop", {"order": "idle"}, session=session)
    assert relay.relay("order_paid", "shop", {"order": "none"})
    assert relay.flush(30)
    assert in_stream(redis_url, namespace) == ["idle", "none"]
    assert rows(engine) == 0


def test_a_missing_table_hurts_no_transaction(
    engine: Engine, relay: Relay, redis_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The signal waits for the commit as on_commit does, and the log says so without a value."""
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE lback_relay_outbox"))
    with Session(engine) as session:
        send(relay, session, "secret-order")
        session.commit()
        send(relay, session, "rolled back")
        session.rollback()
        assert list(session.scalars(select(Order.name))) == ["secret-order"]
    assert relay.publisher.flush(30)
    assert in_stream(redis_url, namespace) == ["secret-order"]
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert said
    assert "not written to the outbox" in said[0]
    assert "secret-order" not in caplog.text


def test_a_transaction_that_has_failed_publishes_nothing(
    engine: Engine, relay: Relay, redis_url: str, namespace: str
) -> None:
    """PostgreSQL turns its COMMIT into a rollback, of which a session does not tell."""
    with Session(engine) as session:
        send(relay, session, "before the failure")
        with pytest.raises(DBAPIError):
            session.execute(text("SELECT no_such_column FROM orders"))
        relay.relay("order_paid", "shop", {"order": "after it"}, session=session)
        session.commit()
        stored = bool(list(session.scalars(select(Order.name))))
    assert relay.flush(30)
    # SQLite goes on as if nothing had happened.
    expected = ["before the failure", "after it"] if engine.dialect.name == "sqlite" else []
    assert stored is bool(expected)
    assert in_stream(redis_url, namespace) == expected
    assert rows(engine) == 0


def test_a_broken_flush_leaves_the_signal_to_the_rollback(
    engine: Engine, relay: Relay, redis_url: str, namespace: str
) -> None:
    """Such a session can do nothing else."""
    with Session(engine) as session:
        send(relay, session, "a")
        session.add(Order(name="a"))
        with pytest.raises(DBAPIError):
            session.flush()
        relay.relay("order_paid", "shop", {"order": "a"}, session=session)
        session.rollback()
        send(relay, session, "b")
        session.commit()
    assert relay.flush(30)
    assert in_stream(redis_url, namespace) == ["b"]


def test_leftovers_are_swept_in_order_once_their_claim_has_run_out(
    engine: Engine, redis_url: str, namespace: str
) -> None:
    """A live process's rows are left to it until then."""
    away = relay_of(NOWHERE, namespace)
    commit(away, engine, *"abc")
    away.outbox.close()  # type: ignore[union-attr]
    sweep = sweep_of(redis_url, namespace)
    assert sweep.sweep(engine).published == 0
    expire_claims(engine)
    assert sweep.sweep(engine).published == 3
    assert sweep.sweep(engine).published == 0
    sweep.close()
    assert in_stream(redis_url, namespace) == ["a", "b", "c"]
    assert rows(engine) == 0


def test_what_the_broker_has_already_is_not_published_again(
    engine: Engine, redis_url: str, namespace: str
) -> None:
    """A process killed between publishing and deleting leaves such rows."""
    away = relay_of(NOWHERE, namespace)
    commit(away, engine, *"abc")
    away.outbox.close()  # type: ignore[union-attr]
    expire_claims(engine)
    first = sweep_of(redis_url, namespace, lease_s=0)
    with engine.begin() as connection:
        claimed = outbox_table.claim(connection, "x", lease_s=0, count=2)
    assert [first._publish(row) for row in claimed] == [1, 1]
    done = first.sweep(engine)
    first.close()
    assert (done.published, done.doubled) == (3, 2)
    assert in_stream(redis_url, namespace) == ["a", "b", "c"]


def test_sweeps_at_the_same_time_lose_and_double_nothing(
    engine: Engine, redis_url: str, namespace: str
) -> None:
    """Four of them, on 1,000 rows."""
    names = [f"order-{number}" for number in range(1000)]
    away = relay_of(NOWHERE, namespace)
    commit(away, engine, *names)
    away.outbox.close()  # type: ignore[union-attr]
    expire_claims(engine)
    figures: list[int] = []
    failures: list[Exception] = []

    def run() -> None:
        sweep = sweep_of(redis_url, namespace)
        try:
            figures.append(sweep.sweep(engine).published)
        except Exception as error:
            failures.append(error)
        finally:
            sweep.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    published = in_stream(redis_url, namespace)
    assert len(published) == len(set(published)) == 1000
    assert set(published) == set(names)
    assert sum(figures) == 1000
    assert rows(engine) == 0


def test_a_real_broker_that_is_away_first_gets_everything(
    engine: Engine, namespace: str, tmp_path: Path
) -> None:
    """In the order of the commits, and what is committed while it comes, too."""
    path = tmp_path / "redis.sock"
    relay = relay_of(f"unix://{path}", namespace)
    names = [str(number) for number in range(40)]
    for name in names[:20]:
        commit(relay, engine, name)
    assert not relay.outbox.flush(0)  # type: ignore[union-attr]
    with running_server("--unixsocket", str(path)):
        for name in names[20:]:
            commit(relay, engine, name)
        wait_until(lambda: rows(engine) == 0, timeout_s=60, what="an empty outbox")
        assert in_stream(f"unix://{path}", namespace) == names
        relay.close()
