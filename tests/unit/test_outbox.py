"""What the outbox refuses, says, and leaves to others; on SQLite files."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import Engine, create_engine, event, select, text
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session
from support.outbox_child import Base, Order
from support.recording_broker import RecordingBroker, connecting
from support.waiting import wait_until

from lback_relay import Relay, RelayConfig, SignalConfig, outbox_table
from lback_relay.codec import encode
from lback_relay.envelope import Envelope, new_envelope_id, process_origin
from lback_relay.errors import BrokerError, BrokerUnavailable, ConfigError
from lback_relay.keyring import KeyRing, new_key
from lback_relay.lback.middleware import RelayMiddleware
from lback_relay.outbox import Outbox, create_table, open_database
from lback_relay.outbox_sweep import Sweep, described
from lback_relay.outbox_table import Row
from lback_relay.signing import Signer
from lback_relay.testing import RecordingPublisher

SIGNALS = {"order_paid": {"publish": "outbox"}}
CONFIG = RelayConfig.from_mapping({"signals": SIGNALS, "flush_timeout_s": 0.3}, environ={})


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A SQLite file with the application's table and the outbox's."""
    engine = create_engine(f"sqlite:///{tmp_path}/test.db")
    Base.metadata.create_all(engine)
    create_table(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def broker() -> RecordingBroker:
    """A broker that records."""
    return RecordingBroker()


@pytest.fixture
def publisher() -> RecordingPublisher:
    """What publishes where the outbox does not."""
    return RecordingPublisher()


@pytest.fixture
def relay(
    engine: Engine,  # to be disposed of after the relay is closed, which connects
    broker: RecordingBroker,
    publisher: RecordingPublisher,
) -> Iterator[Relay]:
    """A relay whose one signal goes through the outbox."""
    relay = Relay(CONFIG, publisher=cast(Any, publisher))
    relay.outbox = Outbox(CONFIG, connect_broker=connecting(broker))
    relay._senders["order_paid"]._outbox = relay.outbox
    yield relay
    relay.close()


def row(signal: str = "order_paid", **options: Any) -> Row:
    """Return a row with a real envelope."""
    envelope = Envelope(
        id=new_envelope_id(),
        signal=signal,
        sender="shop",
        payload={},
        sent_at=datetime.now(timezone.utc),
        origin=process_origin("test"),
        **options,
    )
    return Row(envelope.id, signal, encode(envelope))


def put(engine: Engine, *given: Row, claimed_by: str = "other", lease_s: float = 0) -> None:
    """Write rows and commit them."""
    with engine.begin() as connection:
        for each in given:
            outbox_table.insert(connection, each, claimed_by=claimed_by, lease_s=lease_s)


def left(engine: Engine) -> int:
    """Return how many rows there are."""
    with engine.connect() as connection:
        return sum(each.rows for each in outbox_table.waiting(connection))


# claims -------------------------------------------------------------------------------------


def test_a_claim_takes_what_is_free_and_its_own(engine: Engine) -> None:
    """First written first, and never what somebody else has in hand."""
    mine, free, taken = row(), row(), row()
    put(engine, mine, claimed_by="me", lease_s=60)
    put(engine, free)
    put(engine, taken, lease_s=60)
    with engine.begin() as connection:
        assert outbox_table.claim(connection, "me", lease_s=60, count=9) == [mine, free]
    with engine.begin() as connection:
        assert outbox_table.has_claimable(connection, "you") is False
        assert outbox_table.claim(connection, "you", lease_s=60, count=9) == []
        assert outbox_table.claim(connection, "me", lease_s=60, count=1) == [mine]


def test_a_claim_leaves_signals_out(engine: Engine) -> None:
    """Those that the broker refuses must not stand before the others."""
    paid, sent = row("order_paid"), row("order_sent")
    put(engine, paid, sent)
    with engine.begin() as connection:
        claimed = outbox_table.claim(connection, "me", lease_s=60, count=1, without={"order_paid"})
    assert claimed == [sent]


def test_a_rolled_back_claim_claims_nothing(engine: Engine) -> None:
    """It is a transaction as any other."""
    put(engine, row())
    with engine.connect() as connection:
        assert len(outbox_table.claim(connection, "me", lease_s=60, count=9)) == 1
        connection.rollback()
    with engine.begin() as connection:
        assert len(outbox_table.claim(connection, "you", lease_s=60, count=9)) == 1


def test_the_database_says_what_time_it_is(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose clock is an hour off claims nothing early."""
    real = time.time()
    monkeypatch.setattr(time, "time", lambda: real + 3600)
    put(engine, row(), lease_s=60)
    with engine.begin() as connection:
        assert outbox_table.claim(connection, "me", lease_s=60, count=9) == []
        written, until = connection.execute(
            text("SELECT written_ms, claimed_until_ms FROM lback_relay_outbox")
        ).one()
    assert until - written == 60_000
    assert abs(written / 1000 - real) < 600


def test_what_waits_is_counted(engine: Engine) -> None:
    """By signal: how many, how many of them in hand, how old."""
    put(engine, row(), row("order_sent"))
    put(engine, row(), lease_s=60)
    with engine.connect() as connection:
        found = outbox_table.waiting(connection)
    assert [(each.signal, each.rows, each.claimed) for each in found] == [
        ("order_paid", 2, 1),
        ("order_sent", 1, 0),
    ]
    assert all(0 <= each.oldest_s < 600 for each in found)


# sweeps -------------------------------------------------------------------------------------


def test_a_sweep_publishes_as_the_config_says_else_as_the_envelope_does(
    engine: Engine, broker: RecordingBroker
) -> None:
    """A signal may have been taken out of the config; what nobody can read goes to a worker."""
    broken = Row(new_envelope_id(), "broken", b"no envelope")
    put(engine, row("known"), row("gone", delivery=("broadcast",)), broken)
    known = SignalConfig(name="known", delivery=("queue", "broadcast"), max_backlog=7)
    sweep = Sweep({"known": known}, connecting(broker))
    assert sweep.sweep(engine).published == 3
    sweep.close()
    assert broker.options == [(True, True, 7), (False, True, None), (True, False, None)]
    assert {first for _, first, _, _ in broker.calls} == {1}
    assert broker.streams["broken"] == [b"no envelope"]


def test_a_sweep_needs_no_keys(engine: Engine, broker: RecordingBroker) -> None:
    """The modes of an encrypted envelope are in clear; its signal may be gone from the config."""
    ring = KeyRing([new_key()])
    plain = row("gone", delivery=("broadcast",))
    signer = Signer(ring, "gone", ("broadcast",), encrypt=True)
    encrypted = Row(plain.envelope_id, "gone", signer.signed(plain.encoded, plain.envelope_id))
    put(engine, encrypted)
    sweep = Sweep({}, connecting(broker))
    assert sweep.sweep(engine).published == 1
    sweep.close()
    assert broker.options == [(False, True, None)]
    assert broker.calls[0][0] == "gone"


def test_what_was_published_before_a_failure_is_deleted(
    engine: Engine, broker: RecordingBroker
) -> None:
    """The rest stays."""
    put(engine, row(), row(), row())

    def third_fails(call: int, _signal: str) -> None:
        if call == 3:
            raise BrokerUnavailable("away")

    broker.before = third_fails
    sweep = Sweep({}, connecting(broker))
    with pytest.raises(BrokerUnavailable):
        sweep.sweep(engine)
    assert left(engine) == 1


def test_a_refusal_is_said_and_ends(
    engine: Engine, broker: RecordingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """A signal that is refused is tried once in a sweep."""
    put(engine, row(), row())

    def refuse(_call: int, _signal: str) -> None:
        raise BrokerError("no room")

    broker.before = refuse
    sweep = Sweep({}, connecting(broker))
    done = sweep.sweep(engine)
    assert (done.published, done.refused, len(broker.calls)) == (0, {"order_paid"}, 1)
    assert "no room" in caplog.text


def test_a_sweep_can_be_ended(engine: Engine, broker: RecordingBroker) -> None:
    """Between two claims."""
    put(engine, row())
    assert Sweep({}, connecting(broker)).sweep(engine, until=lambda: True).published == 0


# writing ------------------------------------------------------------------------------------


def test_a_joined_session_waits_for_its_connection(
    engine: Engine, relay: Relay, broker: RecordingBroker
) -> None:
    """Its commit commits nothing; the table knows."""
    with engine.connect() as connection, connection.begin() as transaction:
        with Session(bind=connection, join_transaction_mode="rollback_only") as session:
            session.execute(select(Order))
            relay.relay("order_paid", "shop", {"order": 1}, session=session)
            session.commit()
        assert relay.flush(30)
        transaction.rollback()
    assert relay.flush(30)
    assert broker.calls == []


def test_real_transactions_of_sqlite_are_as_good(
    tmp_path: Path, relay: Relay, broker: RecordingBroker
) -> None:
    """With SQLAlchemy's recipe, by which a SELECT begins one, and savepoints are real."""
    engine = create_engine(f"sqlite:///{tmp_path}/strict.db")

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    create_table(engine)
    put(engine, row("left"))
    with Session(engine) as session:
        session.execute(text("SELECT 1"))
        with session.begin_nested():
            relay.relay("order_paid", "shop", {"order": 1}, session=session)
        undone = session.begin_nested()
        relay.relay("order_paid", "shop", {"order": 2}, session=session)
        undone.rollback()
        session.commit()
    wait_until(lambda: left(engine) == 0, what="an empty outbox")
    assert relay.flush(30)
    assert list(broker.streams) == ["left", "order_paid"]
    assert len(broker.streams["order_paid"]) == 1
    engine.dispose()


@pytest.mark.parametrize("hook", ["before_commit", "before_flush", "after_flush", "after_commit"])
def test_hooks_of_the_application_may_send(
    engine: Engine, relay: Relay, broker: RecordingBroker, publisher: RecordingPublisher, hook: str
) -> None:
    """After the commit it is too late for a row: then as with on_commit."""

    def listener(session: Session, *_rest: Any) -> None:
        relay.relay("order_paid", "shop", {"order": hook}, session=session)

    with Session(engine) as session:
        event.listen(session, hook, listener)
        session.add(Order(name="a"))
        session.commit()
    assert relay.flush(30)
    sent = len(broker.streams["order_paid"]), len(publisher.envelopes)
    assert sent == ((0, 1) if hook == "after_commit" else (1, 0))


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"]
)
def test_a_database_in_memory_is_refused_and_said(
    relay: Relay, publisher: RecordingPublisher, caplog: pytest.LogCaptureFixture, url: str
) -> None:
    """Another connection would see another one."""
    engine = create_engine(url)
    with Session(engine) as session:
        session.execute(text("SELECT 1"))
        relay.relay("order_paid", "shop", {}, session=session)
        session.commit()
    engine.dispose()
    assert len(publisher.envelopes) == 1
    assert "a database in memory keeps no outbox" in caplog.text


def test_what_the_outbox_can_not_work_with_is_refused(
    relay: Relay, publisher: RecordingPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    """An AsyncSession's connection can't be used from here."""
    engine = SimpleNamespace(dialect=SimpleNamespace(is_async=True))
    session = Session()
    session.get_bind = lambda *_args, **_kwargs: engine  # type: ignore[method-assign,assignment]
    session.begin()
    relay.relay("order_paid", "shop", {}, session=session)
    session.commit()
    assert len(publisher.envelopes) == 1
    assert "an AsyncSession can't write to the outbox" in caplog.text


def test_a_table_that_is_missing_is_said_with_the_remedy(
    relay: Relay, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing gets better by itself."""
    outbox_table.metadata().drop_all(engine)
    assert relay.outbox is not None
    relay.outbox.watch(engine)
    wait_until(lambda: "no such table" in caplog.text, what="the line")
    assert "if its table is missing, make it: lback-relay outbox --create-table" in caplog.text


def test_other_databases_are_refused() -> None:
    """With the remedy."""
    connection: Any = SimpleNamespace(dialect=mysql.dialect())
    with pytest.raises(ConfigError, match="not with mysql; write 'on_commit'"):
        outbox_table.insert(connection, row(), claimed_by="me", lease_s=1)


def test_an_error_is_described_without_its_values(engine: Engine) -> None:
    """SQLAlchemy's text holds the parameters, PostgreSQL's detail the row."""
    twice = row()
    with pytest.raises(IntegrityError) as caught:
        put(engine, twice, twice)
    said = described(caught.value)
    assert said == "IntegrityError: UNIQUE constraint failed: lback_relay_outbox.envelope_id"
    failed = DBAPIError("SELECT", {}, Exception("first\nDETAIL: secret"))
    assert described(failed) == "DBAPIError: first"
    assert described(ValueError("secret")) == "ValueError"


# the relay and the middleware ---------------------------------------------------------------


def test_a_relay_without_such_signals_has_no_outbox(engine: Engine) -> None:
    """It starts no thread for it, and its counts are as ever."""
    relay = Relay(RelayConfig.from_mapping({"signals": ["a"]}, environ={}))
    relay.watch_outbox(engine)
    assert relay.outbox is None
    assert "outbox_published" not in relay.counts()
    assert not any(thread.name == "lback-relay-outbox" for thread in threading.enumerate())


def test_the_first_request_begins_the_sweep(engine: Engine, broker: RecordingBroker) -> None:
    """Not the middleware's making: a server may fork in between."""
    from lback_relay.lback.installed import uninstall

    put(engine, row())
    middleware = RelayMiddleware(
        SimpleNamespace(RELAY_SIGNALS=SIGNALS), None, SimpleNamespace(engine=engine)
    )
    try:
        outbox = middleware.relay.outbox
        assert outbox is not None
        outbox._connect = connecting(broker)
        assert outbox._lines == {}
        assert middleware.process_request(object()) is None
        wait_until(lambda: left(engine) == 0, what="the sweep")
        assert len(broker.streams["order_paid"]) == 1
    finally:
        uninstall()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nothing", "can't be read"),
        ("sqlite+nodriver:///x", "the database: "),
        ("postgresql+psycopg://u:hunter2@h:abc/x", "can't be read"),
        ("postgresql+psycopg://u:hunter2", "can't be read"),
        ("postgresql+psycopg://u:pass@hunter2@127.0.0.1:1/x", "write each '@' as %40"),
        ("postgresql+psycopg://u:pass@word/hunter2@127.0.0.1:1/x", "write each '@' as %40"),
        ("postgresql+psycopg://u:pass@word?hunter2@127.0.0.1:1/x", "write each '@' as %40"),
    ],
)
def test_a_database_that_can_not_be_opened_is_told(url: str, said: str) -> None:
    """As an error of the config, without a part of a password, nor in the error behind it."""
    with pytest.raises(ConfigError, match=said) as refused:
        open_database(url)
    shown = "".join(traceback.format_exception(refused.value, limit=0))
    assert not any(part in shown for part in ("hunter2", "pass@", "word/", "word?"))


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_not_opened(url: str) -> None:
    """Nobody else's rows are in it."""
    with pytest.raises(ConfigError, match="in memory keeps no outbox; give the URL of a file"):
        open_database(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:///{}/typo.db", "there is no file {}/typo.db; "),
        ("sqlite:///{}/no/typo.db", "there is no file {}/no/typo.db; "),
        ("sqlite:///file:{}/typo.db?uri=true", "there is no file {}/typo.db; "),
        ("sqlite:///file:{}/a%20b.db?mode=ro&uri=true", "there is no file {}/a b.db; "),
        ("sqlite:///file:{}/typo.db?mode=memory&uri=true", "in memory keeps no outbox"),
    ],
)
def test_a_file_that_is_not_there_is_named_and_not_made(
    tmp_path: Path, url: str, said: str
) -> None:
    """SQLite would make an empty one of a misspelt name."""
    with pytest.raises(ConfigError, match=said.format(tmp_path)):
        open_database(url.format(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_may_not_be_looked_at_is_left_to_sqlite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be there. The tests may run as root, who may look everywhere."""

    def denied(_path: Path) -> bool:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", denied)
        open_database(f"sqlite:///{tmp_path}/a.db").dispose()


def test_a_file_is_made_when_it_is_asked_for(tmp_path: Path) -> None:
    """And is there then, however its URL spells it."""
    engine = open_database(f"sqlite:///{tmp_path}/new.db", create=True)
    create_table(engine)
    engine.dispose()
    for url in (f"{tmp_path}/new.db", f"file:{tmp_path}/n%65w.db?mode=ro&uri=true"):
        open_database(f"sqlite:///{url}").dispose()


@pytest.mark.parametrize(
    "url",
    ["postgresql+psycopg://user@server:p%40ss@127.0.0.1:1/x", "postgresql+psycopg://u:p/#?@h/x"],
)
def test_a_password_that_can_be_told_is_left_alone(url: str) -> None:
    """Only what can't be told from the host is refused."""
    open_database(url).dispose()


def test_nothing_is_logged_when_all_is_well(
    engine: Engine, relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    """A log that cries every day is not read."""
    caplog.set_level(logging.INFO, logger="lback_relay")
    with Session(engine) as session:
        session.add(Order(name="a"))
        relay.relay("order_paid", "shop", {"order": "a"}, session=session)
        session.commit()
    assert relay.flush(30)
    assert caplog.records == []
