"""The relay receiver: what it does in the thread that sends, and what it never does."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from lback_relay import Relay, RelayConfig
from lback_relay.codec import decode
from lback_relay.envelope import Envelope
from lback_relay.testing import RecordingPublisher, recording_relay


class Dispatcher:
    """Lback's dispatcher, as far as a receiver can tell."""

    def __init__(self) -> None:
        self.registry: dict[str, list[Any]] = {}

    def connect(self, name: str, receiver: Any) -> None:
        """Register a receiver; Lback reads its ``__name__``."""
        assert receiver.__name__
        self.registry.setdefault(name, []).append(receiver)

    def disconnect(self, name: str, receiver: Any) -> None:
        """Take a receiver out."""
        self.registry[name].remove(receiver)
        if not self.registry[name]:
            del self.registry[name]

    def send(self, name: str, sender: Any = None, **kwargs: Any) -> list[Any]:
        """Call each receiver, and let what it raises through."""
        return [receiver(sender=sender, **kwargs) for receiver in self.registry.get(name, ())]


def config_of(signals: Any, **options: Any) -> RelayConfig:
    """Return a config of these signals."""
    return RelayConfig.from_mapping({"signals": signals, **options}, environ={})


@pytest.fixture
def dispatcher() -> Dispatcher:
    """An empty dispatcher."""
    return Dispatcher()


@pytest.fixture
def publisher() -> RecordingPublisher:
    """A publisher that keeps what it is given."""
    return RecordingPublisher()


def only(publisher: RecordingPublisher) -> Envelope:
    """Return the one envelope that was published."""
    (envelope,) = publisher.envelopes
    return envelope


def test_a_sent_signal_becomes_an_envelope(dispatcher: Dispatcher) -> None:
    """It says which signal, from whom, what, when, whence and by which modes."""
    config = config_of({"order_paid": {"delivery": ["queue", "broadcast"]}})
    before = datetime.now(timezone.utc)
    with recording_relay(config, dispatcher) as recorded:
        assert dispatcher.send("order_paid", "shop", order=7, items=["tea"]) == [None]
    envelope = only(recorded)
    assert (envelope.signal, envelope.sender) == ("order_paid", "shop")
    assert envelope.payload == {"order": 7, "items": ["tea"]}
    assert set(envelope.delivery) == {"queue", "broadcast"}
    assert before <= envelope.sent_at <= before + timedelta(minutes=1)
    assert envelope.origin.endswith(f":{os.getpid()}")
    assert envelope.trace == {}


def test_each_send_has_an_id_of_its_own(dispatcher: Dispatcher) -> None:
    """The id is what handlers recognize a repetition by."""
    with recording_relay(["order_paid"], dispatcher) as recorded:
        for _ in range(3):
            dispatcher.send("order_paid")
    assert len({envelope.id for envelope in recorded.envelopes}) == 3


def test_the_payload_is_copied_when_it_is_sent(dispatcher: Dispatcher) -> None:
    """Lback changes some dicts after it has sent them."""
    data = {"name": "old"}
    with recording_relay(["order_paid"], dispatcher) as recorded:
        dispatcher.send("order_paid", None, data=data)
        data["name"] = "new"
    assert only(recorded).payload["data"] == {"name": "old"}


def test_secrets_are_held_back_unless_they_are_revealed(dispatcher: Dispatcher) -> None:
    """The config's reveal reaches the projection."""
    config = config_of({"a": {}, "b": {"reveal": ["token"]}})
    with recording_relay(config, dispatcher) as recorded:
        dispatcher.send("a", token="hidden-1")
        dispatcher.send("b", token="shown-1")
    hidden, shown = recorded.envelopes
    assert "hidden-1" not in repr(hidden.payload["token"])
    assert shown.payload["token"] == "shown-1"


def test_other_signals_are_left_alone(dispatcher: Dispatcher) -> None:
    """Only those of the config get a receiver."""
    with recording_relay(["order_paid"], dispatcher) as recorded:
        assert dispatcher.send("order_sent") == []
    assert recorded.envelopes == []


def test_attaching_twice_relays_once(dispatcher: Dispatcher, publisher: RecordingPublisher) -> None:
    """Also when the same dispatcher is named twice at once."""
    relay = Relay(config_of(["order_paid"]), publisher=publisher)
    relay.attach(dispatcher, dispatcher)
    relay.attach(dispatcher)
    dispatcher.send("order_paid")
    assert len(publisher.envelopes) == 1


def test_detaching_restores_the_dispatchers(publisher: RecordingPublisher) -> None:
    """Receivers of others stay; the relay can be attached again."""
    first, second = Dispatcher(), Dispatcher()
    first.connect("order_paid", test_other_signals_are_left_alone)
    relay = Relay(config_of(["order_paid", "order_sent"]), publisher=publisher)
    relay.attach(first, second)
    relay.detach()
    relay.detach()
    assert first.registry == {"order_paid": [test_other_signals_are_left_alone]}
    assert second.registry == {}
    relay.attach(second)
    second.send("order_sent")
    assert only(publisher).signal == "order_sent"


def test_what_can_not_be_relayed_is_logged_and_not_raised(
    dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    """The sender goes on; the log names the signal and the remedy, and no value."""
    config = config_of(["order_paid"], max_payload_bytes=256)
    relay = Relay(config, publisher=RecordingPublisher())
    relay.attach(dispatcher)
    many = {f"secret-value-{number}": number for number in range(300)}
    with caplog.at_level(logging.ERROR):
        dispatcher.send("order_paid", **many)
    assert relay.counts()["not_relayed"] == 1
    (record,) = caplog.records
    assert "'order_paid'" in record.message
    assert "max_payload_bytes" in record.message.lower()
    assert "secret-value" not in caplog.text
    assert record.relay_signal == "order_paid"  # type: ignore[attr-defined]


def test_a_fault_of_the_relay_never_reaches_the_sender(
    dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with its place and without its text, which may hold a value."""

    class Broken(RecordingPublisher):
        def publish(self, signal: Any, encoded: bytes) -> None:
            raise RuntimeError("hunter2")

    relay = Relay(config_of(["order_paid"]), publisher=Broken())
    relay.attach(dispatcher)
    assert dispatcher.send("order_paid") == [None]
    assert "RuntimeError at test_relay.py:" in caplog.text
    assert "hunter2" not in caplog.text


def test_signals_sent_from_within_the_relay_are_not_relayed(dispatcher: Dispatcher) -> None:
    """A log handler that sends a signal for each record would never end."""

    class Talkative(RecordingPublisher):
        def publish(self, signal: Any, encoded: bytes) -> None:
            dispatcher.send("order_paid", level="nested")
            super().publish(signal, encoded)

    publisher = Talkative()
    relay = Relay(config_of(["order_paid"]), publisher=publisher)
    relay.attach(dispatcher)
    dispatcher.send("order_paid", level="outer")
    dispatcher.send("order_paid", level="outer")
    assert [envelope.payload["level"] for envelope in publisher.envelopes] == ["outer"] * 2
    assert relay.counts() == {"published": 2, "not_relayed": 2}


def test_a_signal_may_be_sent_while_a_lock_is_held(dispatcher: Dispatcher) -> None:
    """Lback sends cache_item_expired so; the relay asks nothing back."""
    lock = threading.Lock()

    class Cache:
        def __repr__(self) -> str:
            with lock:
                return "<Cache>"

    with recording_relay(["cache_item_expired"], dispatcher) as recorded, lock:
        dispatcher.send("cache_item_expired", Cache(), key=Cache(), expires_at=1.5)
    assert type(only(recorded).sender).__name__ == "Cache"


def test_without_a_dispatcher_signals_are_relayed_by_a_call(
    publisher: RecordingPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    """Relay.relay does what a receiver does; a signal that is not in the config is an error."""
    relay = Relay(config_of(["order_paid"]), publisher=publisher)
    assert relay.relay("order_paid", "cron", {"order": 7}) is True
    assert only(publisher).payload == {"order": 7}
    assert relay.relay("order_piad", "cron", {}) is False
    assert "'order_piad'" in caplog.text
    assert "RELAY_SIGNALS" in caplog.text


@pytest.fixture
def session() -> Iterator[Any]:
    """A SQLAlchemy session with a transaction open."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    from sqlalchemy.orm import Session

    engine = sqlalchemy.create_engine("sqlite://")
    with Session(engine) as session:
        session.execute(sqlalchemy.text("SELECT 1"))
        yield session
    engine.dispose()


def test_publishing_waits_for_the_commit(dispatcher: Dispatcher, session: Any) -> None:
    """The session is found among the kwargs, and does not travel."""
    with recording_relay(["order_paid"], dispatcher) as recorded:
        dispatcher.send("order_paid", None, order=7, session=session)
        assert recorded.envelopes == []
        session.commit()
    assert only(recorded).payload["order"] == 7


def test_a_rollback_forgets_what_was_sent(dispatcher: Dispatcher, session: Any) -> None:
    """Nobody hears of what has not happened."""
    with recording_relay(["order_paid"], dispatcher) as recorded:
        dispatcher.send("order_paid", None, session=session)
        session.rollback()
        session.commit()
    assert recorded.envelopes == []


def test_what_waits_is_what_was_sent(dispatcher: Dispatcher, session: Any) -> None:
    """Whatever the sender does with it before the commit, when it is encoded."""
    items = [{"price": 7}]
    with recording_relay(["order_paid"], dispatcher) as recorded:
        dispatcher.send("order_paid", None, items=items, session=session)
        items[0]["price"] = 8
        items.append({"price": 9})
        session.commit()
    assert only(recorded).payload["items"] == [{"price": 7}]


def test_what_turns_out_too_large_at_the_commit_holds_up_nobody(
    publisher: RecordingPublisher, session: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged and counted as at a send; nothing from within the log is relayed."""
    relay = Relay(config_of(["order_paid"], max_payload_bytes=256), publisher=publisher)
    relayed_within: list[bool] = []

    class Relaying(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            relayed_within.append(relay.relay("order_paid", None, {}))

    logging.getLogger("lback_relay").addHandler(handler := Relaying())
    try:
        many = {f"secret-value-{number}": number for number in range(300)}
        assert relay.relay("order_paid", None, many, session=session) is True
        assert relay.relay("order_paid", None, {"order": 7}, session=session) is True
        assert not caplog.records
        session.commit()
    finally:
        logging.getLogger("lback_relay").removeHandler(handler)
    assert only(publisher).payload == {"order": 7}
    assert relayed_within == [False]
    assert relay.counts()["not_relayed"] == 2
    (record,) = caplog.records
    assert "max_payload_bytes" in record.message.lower()
    assert "secret-value" not in caplog.text


def test_immediate_signals_do_not_wait(dispatcher: Dispatcher, session: Any) -> None:
    """The option is per signal."""
    config = config_of({"order_paid": {"publish": "immediate"}})
    with recording_relay(config, dispatcher) as recorded:
        dispatcher.send("order_paid", None, session=session)
        assert len(recorded.envelopes) == 1


def test_a_session_without_a_transaction_delays_nothing(
    dispatcher: Dispatcher, session: Any
) -> None:
    """There will be no commit to wait for."""
    session.commit()
    with recording_relay(["order_paid"], dispatcher) as recorded:
        dispatcher.send("order_paid", None, session=session)
        assert len(recorded.envelopes) == 1


def test_a_given_session_is_waited_for(publisher: RecordingPublisher, session: Any) -> None:
    """For senders whose payload names none, such as mails."""
    relay = Relay(config_of(["order_paid"]), publisher=publisher)
    assert relay.relay("order_paid", None, {}, session=session) is True
    assert publisher.envelopes == []
    session.commit()
    assert only(publisher).signal == "order_paid"


def test_the_trace_context_of_the_active_span_travels(
    dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the program uses OpenTelemetry; it is not imported for that."""
    trace = pytest.importorskip("opentelemetry.trace")
    context = trace.SpanContext(
        trace_id=0xABC,
        span_id=0xDEF,
        is_remote=False,
        trace_flags=trace.TraceFlags(1),
        trace_state=trace.TraceState([("vendor", "x")]),
    )
    with recording_relay(["order_paid"], dispatcher) as recorded:
        with trace.use_span(trace.NonRecordingSpan(context)):
            dispatcher.send("order_paid")
        dispatcher.send("order_paid")
        monkeypatch.delitem(sys.modules, "opentelemetry.trace")
        dispatcher.send("order_paid")
    inside, outside, without = recorded.envelopes
    assert inside.trace == {
        "traceparent": f"00-{0xABC:032x}-{0xDEF:016x}-01",
        "tracestate": "vendor=x",
    }
    assert outside.trace == without.trace == {}


def test_nothing_is_opened_before_the_first_signal(dispatcher: Dispatcher) -> None:
    """A process attaches and then forks: no thread and no connection may exist by then."""
    threads = threading.active_count()
    relay = Relay(config_of(["order_paid"], url="redis://127.0.0.1:1/0"))
    relay.attach(dispatcher)
    assert threading.active_count() == threads
    assert relay.flush(0.1) is True
    relay.close()


def test_a_broker_that_is_away_raises_nothing(dispatcher: Dispatcher) -> None:
    """In the background send does not even wait; synchronously it waits for its timeout."""
    for publishing in ("background", "sync"):
        config = config_of(
            ["order_paid"],
            url="redis://127.0.0.1:1/0",
            publishing=publishing,
            flush_timeout_s=0.3,
        )
        relay = Relay(config)
        relay.attach(dispatcher)
        assert dispatcher.send("order_paid") == [None]
        relay.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_origin_is_that_of_the_process(publisher: RecordingPublisher) -> None:
    """A forked child does not claim to be its parent."""
    relay = Relay(config_of(["order_paid"]), publisher=publisher)
    relay.relay("order_paid", None, {})
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        relay.relay("order_paid", None, {})
        os.write(writer, publisher.envelopes[-1].origin.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        assert pipe.read().endswith(f":{child}")


def test_a_recorded_envelope_is_what_a_worker_would_get(dispatcher: Dispatcher) -> None:
    """It went through the bytes."""
    with recording_relay(["order_paid"], dispatcher) as recorded:
        dispatcher.send("order_paid", None, pair=(1, {2}))
        assert recorded.flush() is True
    assert only(recorded).payload["pair"] == (1, {2})
    with pytest.raises(AssertionError):
        recorded._connect()


def test_the_public_names_are_there() -> None:
    """Each is imported when it is first used; a wrong one is an AttributeError as anywhere."""
    import lback_relay

    for name in lback_relay.__all__:
        assert getattr(lback_relay, name) is not None
        assert name in dir(lback_relay)
    with pytest.raises(AttributeError, match="Realy"):
        lback_relay.Realy  # noqa: B018
    assert decode is not None
