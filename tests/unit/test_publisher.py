"""Publishing to a recording broker, in the background and waiting for it."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from support.recording_broker import RecordingBroker, connecting, silent
from support.waiting import wait_until

from lback_relay import line as line_module
from lback_relay.config import SignalConfig
from lback_relay.errors import BacklogFull, BrokerError, ConfigError
from lback_relay.publisher import Publisher

SIGNAL = SignalConfig(name="user_registered")
OTHER = SignalConfig(name="user_updated", delivery=("broadcast",))

MakePublisher = Callable[..., Publisher]


@pytest.fixture
def broker() -> RecordingBroker:
    """A broker in memory."""
    return RecordingBroker()


@pytest.fixture
def make(broker: RecordingBroker) -> Iterator[MakePublisher]:
    """Make publishers to that broker, closed at the end of the test."""
    made: list[Publisher] = []

    def make_one(**options: object) -> Publisher:
        options = {"flush_timeout_s": 30.0, "publish_timeout_s": 30.0, **options}
        made.append(Publisher(connecting(broker), **options))  # type: ignore[arg-type]
        return made[-1]

    yield make_one
    broker.before = broker.after = lambda call, signal: None
    for publisher in made:
        publisher.close()


@pytest.fixture
def publisher(make: MakePublisher) -> Publisher:
    """One in the background."""
    return make()


@pytest.fixture
def sync(make: MakePublisher) -> Publisher:
    """One that waits for the broker, with the broker known to answer."""
    publisher = make(background=False)
    publisher.publish(OTHER, b"first")
    return publisher


def waiting_for(event: threading.Event) -> Callable[[int, str], None]:
    """Return what makes each call wait for the event."""

    def wait(_call: int, _signal: str) -> None:
        event.wait(60)

    return wait


def counted(**figures: int) -> dict[str, int]:
    """Return a publisher's figures: these, and 0 else."""
    zero = dict.fromkeys(("published", "queued", "spooled", "dropped", "failed", "spool_failed"), 0)
    return {**zero, **figures}


def numbered(count: int, start: int = 0) -> list[bytes]:
    """Return envelopes that tell their place."""
    return [str(number).encode() for number in range(start, start + count)]


def test_nothing_is_opened_before_the_first_publish() -> None:
    """A publisher is made in a process that forks later."""
    threads = threading.active_count()

    def connect() -> RecordingBroker:
        raise AssertionError("connected")

    publisher = Publisher(connect)  # type: ignore[arg-type]
    assert publisher.flush() is True
    publisher.close()
    assert threading.active_count() == threads
    assert publisher.counts() == counted()


@pytest.mark.parametrize("background", [True, False])
def test_envelopes_arrive_once_and_in_order(
    make: MakePublisher, broker: RecordingBroker, background: bool
) -> None:
    """Each signal has its own numbers, from one."""
    publisher = make(background=background)
    for envelope in numbered(100):
        publisher.publish(SIGNAL, envelope)
        publisher.publish(OTHER, envelope)
    assert publisher.flush()
    assert broker.streams == {SIGNAL.name: numbered(100), OTHER.name: numbered(100)}
    assert publisher.counts() == counted(published=200)
    assert len({(call[0], call[3]) for call in broker.calls}) == 2  # one producer a signal


def test_delivery_and_limit_are_passed_on(publisher: Publisher, broker: RecordingBroker) -> None:
    """Both deliveries go in one call; entries under another config are no part of its batch."""
    name = "both"
    both = SignalConfig(name=name, delivery=("queue", "broadcast"), max_backlog=7)
    equal = SignalConfig(name=name, delivery=("queue", "broadcast"), max_backlog=7)
    queue = SignalConfig(name=name)
    go_on = threading.Event()
    broker.before = waiting_for(go_on)  # so that all of them are there when the first leaves
    publisher.publish(SIGNAL, b"y")
    wait_until(lambda: bool(broker.calls))
    for signal in (both, equal, queue, both):
        publisher.publish(signal, b"x")
    go_on.set()
    assert publisher.flush()
    assert broker.options[1:] == [(True, True, 7), (True, False, None), (True, True, 7)]
    assert [call[1:3] for call in broker.calls][-3:] == [(1, 2), (3, 1), (4, 1)]


def test_background_publishing_does_not_wait(publisher: Publisher, broker: RecordingBroker) -> None:
    """Even while the broker takes for ever."""
    go_on = threading.Event()
    broker.before = waiting_for(go_on)
    for envelope in numbered(10):
        publisher.publish(SIGNAL, envelope)
    assert broker.streams == {}
    assert publisher.counts()["queued"] == 10
    go_on.set()
    assert publisher.flush()
    assert broker.streams[SIGNAL.name] == numbered(10)


def test_queued_envelopes_share_calls(publisher: Publisher, broker: RecordingBroker) -> None:
    """What came while a call was on its way goes with the next; no batch is over the limits."""
    go_on = threading.Event()
    broker.before = waiting_for(go_on)
    publisher.publish(SIGNAL, b"0")
    wait_until(lambda: broker.calls, what="the first call")
    for envelope in numbered(1024, start=1):
        publisher.publish(SIGNAL, envelope)
    for _ in range(3):
        publisher.publish(OTHER, bytes(700_000))
    go_on.set()
    assert publisher.flush()
    counts = [call[2] for call in broker.calls if call[0] == SIGNAL.name]
    assert counts == [1, 512, 512]
    assert [call[2] for call in broker.calls if call[0] == OTHER.name] == [1, 1, 1]


def test_the_thread_sleeps_and_wakes(publisher: Publisher, broker: RecordingBroker) -> None:
    """One thread, however long the pauses between the signals."""
    for count in range(1, 20):
        publisher.publish(SIGNAL, b"x")
        wait_until(lambda count=count: len(broker.streams[SIGNAL.name]) == count)  # type: ignore[misc]
    assert len(set(broker.callers)) == 1


def test_a_publish_inside_a_finalizer_is_safe(
    publisher: Publisher, broker: RecordingBroker
) -> None:
    """Garbage collection may run anywhere, also inside publish itself."""

    class Noisy:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            publisher.publish(SIGNAL, b"from the finalizer")

    for _ in range(50):
        Noisy()
        publisher.publish(SIGNAL, b"x")
    gc.collect()
    assert publisher.flush()
    assert broker.streams[SIGNAL.name].count(b"from the finalizer") == 50


def test_a_sync_publish_returns_when_the_broker_has_it(
    sync: Publisher, broker: RecordingBroker
) -> None:
    """And makes the call itself: a thread switch costs more than the call."""
    for count in range(1, 10):
        sync.publish(SIGNAL, b"x")
        assert len(broker.streams[SIGNAL.name]) == count
    assert set(broker.callers[1:]) == {threading.current_thread()}


def test_sync_callers_share_calls(sync: Publisher, broker: RecordingBroker) -> None:
    """Those who find the line taken go together with the next call, and nobody is forgotten."""
    go_on = threading.Event()
    broker.before = waiting_for(go_on)
    threads = [
        threading.Thread(target=sync.publish, args=(SIGNAL, envelope)) for envelope in numbered(8)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: sync.counts()["queued"] == 8, what="all eight")
    go_on.set()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    assert sorted(broker.streams[SIGNAL.name]) == numbered(8)
    assert len([call for call in broker.calls if call[0] == SIGNAL.name]) == 2


def test_eight_sync_threads_lose_nothing(sync: Publisher, broker: RecordingBroker) -> None:
    """Each thread's order is kept, whoever makes the calls."""

    def send(sender: int) -> None:
        for number in range(200):
            sync.publish(SIGNAL, f"{sender} {number}".encode())

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=90)
    stream = [envelope.split() for envelope in broker.streams[SIGNAL.name]]
    for sender in range(8):
        numbers = [int(number) for of, number in stream if int(of) == sender]
        assert numbers == list(range(200))


def test_a_sync_publish_gives_up_waiting_in_time(
    make: MakePublisher, broker: RecordingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """The line is held by a call that is not answered; the envelope stays and is sent later."""
    sync = make(background=False, publish_timeout_s=0.05)
    sync.publish(OTHER, b"first")
    assert sync.flush()
    entered, go_on = threading.Event(), threading.Event()

    def block(_call: int, _signal: str) -> None:
        entered.set()
        go_on.wait(60)

    broker.before = block
    holder = threading.Thread(target=sync.publish, args=(SIGNAL, b"holder"))
    holder.start()
    assert entered.wait(30)
    sync.publish(SIGNAL, b"waiting")
    assert broker.streams[SIGNAL.name] == []
    assert "publish_timeout_s" in caplog.text
    go_on.set()
    holder.join(timeout=60)
    wait_until(lambda: broker.streams[SIGNAL.name] == [b"holder", b"waiting"], what="both")


def test_a_broken_connection_is_tried_again_at_once(
    sync: Publisher, broker: RecordingBroker
) -> None:
    """A server that has closed an idle connection must not cost the caller its answer."""
    failing = len(broker.calls) + 1
    broker.before = lambda call, signal: silent(call, signal) if call == failing else None
    sync.publish(SIGNAL, b"x")
    assert broker.streams[SIGNAL.name] == [b"x"]
    assert sync.counts()["failed"] == 1


def test_nobody_waits_for_a_broker_that_is_away(
    make: MakePublisher, broker: RecordingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """The first caller learns it; the others queue at once; all arrive in order afterwards."""
    sync = make(background=False, publish_timeout_s=3600.0)
    broker.before = silent
    for envelope in numbered(500):
        sync.publish(SIGNAL, envelope)
    assert sync.counts()["queued"] == 500
    assert "does not answer" in caplog.text
    broker.before = lambda call, signal: None
    wait_until(lambda: len(broker.streams[SIGNAL.name]) == 500, what="all")
    assert broker.streams[SIGNAL.name] == numbered(500)
    sync.publish(SIGNAL, b"next")
    assert broker.streams[SIGNAL.name][-1] == b"next"


def test_background_publishing_survives_a_broker_that_is_away(
    publisher: Publisher, broker: RecordingBroker
) -> None:
    """Once, in order, without being asked."""
    broker.after = silent
    for envelope in numbered(2000):
        publisher.publish(SIGNAL, envelope)
    wait_until(lambda: publisher.counts()["failed"] >= 2, what="two failures")
    broker.after = lambda call, signal: None
    wait_until(lambda: publisher.counts()["queued"] == 0, what="an empty queue")
    assert broker.streams[SIGNAL.name] == numbered(2000)
    assert min(call[2] for call in broker.calls) < 512, "smaller batches over a bad link"


@pytest.mark.parametrize("error", [BacklogFull("full"), BrokerError("no rights"), ValueError("?")])
@pytest.mark.parametrize("background", [True, False])
def test_a_refused_signal_waits_and_the_others_go_on(
    make: MakePublisher,
    broker: RecordingBroker,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    background: bool,
) -> None:
    """Kept, loudly, and tried again; a sync caller does not wait for it."""
    publisher = make(background=background)
    refusing = threading.Event()
    refusing.set()

    def refuse(_call: int, signal: str) -> None:
        if refusing.is_set() and signal == SIGNAL.name:
            raise error

    broker.before = refuse
    for envelope in numbered(50):
        publisher.publish(SIGNAL, envelope)
        publisher.publish(OTHER, envelope)
    wait_until(lambda: broker.streams[OTHER.name] == numbered(50), what="the other signal")
    assert publisher.counts()["queued"] == 50
    assert publisher.flush(0.1) is False
    assert "refused" in caplog.text
    refusing.clear()
    wait_until(lambda: publisher.counts()["queued"] == 0, what="the refused signal")
    assert broker.streams[SIGNAL.name] == numbered(50)


def test_config_that_can_not_be_used_is_said_and_nothing_raises(
    broker: RecordingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """The application runs on."""
    bad = True

    def connect() -> RecordingBroker:
        if bad:
            raise ConfigError(["bad"], source="broker URL")
        return broker

    publisher = Publisher(connect, background=False, publish_timeout_s=30.0)  # type: ignore[arg-type]
    publisher.publish(SIGNAL, b"x")
    assert "broker URL: bad" in caplog.text
    bad = False
    publisher.close()
    assert broker.streams[SIGNAL.name] == [b"x"]


@pytest.mark.parametrize("background", [True, False])
def test_a_full_queue_drops_loudly(
    make: MakePublisher,
    broker: RecordingBroker,
    caplog: pytest.LogCaptureFixture,
    background: bool,
) -> None:
    """One line a second, every one counted; what was queued before arrives."""
    publisher = make(background=background, max_queued=10)
    broker.before = silent
    for envelope in numbered(60):
        publisher.publish(SIGNAL, envelope)
    counts = publisher.counts()
    assert (counts["queued"], counts["dropped"]) == (10, 50)
    lines = [record for record in caplog.records if "max_queued" in record.getMessage()]
    assert lines[0].levelno == logging.ERROR
    assert lines[0].__dict__["relay_signal"] == SIGNAL.name
    assert len(lines) < 10
    broker.before = lambda call, signal: None
    assert publisher.flush()
    assert broker.streams[SIGNAL.name] == numbered(10)


def test_a_full_queue_drops_while_the_broker_is_slow(
    make: MakePublisher, broker: RecordingBroker
) -> None:
    """A sync caller that finds no room does not wait for it."""
    sync = make(background=False, max_queued=1)
    sync.publish(SIGNAL, b"first")
    entered, go_on = threading.Event(), threading.Event()

    def block(_call: int, _signal: str) -> None:
        entered.set()
        go_on.wait(60)

    broker.before = block
    holder = threading.Thread(target=sync.publish, args=(SIGNAL, b"holder"))
    holder.start()
    assert entered.wait(30)
    sync.publish(SIGNAL, b"no room")
    assert sync.counts()["dropped"] == 1
    go_on.set()
    holder.join(timeout=60)


@pytest.mark.parametrize("background", [True, False])
def test_flush_says_when_not_all_went(
    make: MakePublisher, broker: RecordingBroker, background: bool
) -> None:
    """In time, and the envelopes stay."""
    publisher = make(background=background)
    broker.before = silent
    publisher.publish(SIGNAL, b"x")
    assert publisher.flush(0.0) is False
    assert publisher.flush(0.2) is False
    assert publisher.counts()["queued"] == 1


def test_flush_gives_up_on_a_line_that_is_held(
    publisher: Publisher, broker: RecordingBroker
) -> None:
    """A call without an answer must not hold up the end of the process."""
    entered, go_on = threading.Event(), threading.Event()

    def block(_call: int, _signal: str) -> None:
        entered.set()
        go_on.wait(60)

    broker.before = block
    publisher.publish(SIGNAL, b"x")
    assert entered.wait(30)
    assert publisher.flush(0.01) is False
    go_on.set()
    assert publisher.flush()


def test_a_sender_that_outruns_the_thread_lets_it_run(
    broker: RecordingBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue would fill up though the broker is quick; a short queue costs nobody a pause."""
    line = line_module.Line(connecting(broker), max_queued=10_000)
    pauses: list[tuple[int, float]] = []
    with line._held:
        line.put(SIGNAL, b"0")  # begins the thread, which finds the line held
        wait_until(lambda: not line._asleep, what="the thread")
        note = lambda pause_s: pauses.append((line.sending.queued(), pause_s))  # noqa: E731
        monkeypatch.setattr("lback_relay.line.time.sleep", note)
        for number in range(1, 1000):
            line.put(SIGNAL, b"%d" % number)
        monkeypatch.undo()
    assert pauses == [(queued, line_module.PAUSE_S) for queued in (512, 640, 768, 896)]
    assert line.flush(60)
    assert broker.streams[SIGNAL.name] == numbered(1000)
    line.close(0)


def test_who_comes_during_a_flush_is_not_left_waiting(
    broker: RecordingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """The line was held when the sender came: who lets go of it tells the sender."""
    line = line_module.Line(connecting(broker), max_queued=10)
    line.put_and_wait(SIGNAL, b"0", 30)
    wait_until(lambda: line._asleep, what="the thread's sleep")
    go_on = threading.Event()
    broker.before = waiting_for(go_on)
    line.sending.inbox.append((SIGNAL, b"1", None))
    flush = threading.Thread(target=line.flush, args=(30,))
    flush.start()
    wait_until(lambda: len(broker.calls) == 2)
    sender = threading.Thread(target=line.put_and_wait, args=(SIGNAL, b"2", 60))
    sender.start()
    wait_until(lambda: len(line.sending.inbox) == 1)
    go_on.set()
    flush.join()
    sender.join()
    assert "has not answered within" not in caplog.text
    assert broker.streams[SIGNAL.name] == [b"0", b"1", b"2"]
    line.close(0)


def test_close_flushes_and_a_later_publish_begins_anew(
    publisher: Publisher, broker: RecordingBroker
) -> None:
    """Twice does no harm; a signal sent during the shutdown is not lost."""
    publisher.publish(SIGNAL, b"0")
    publisher.close()
    publisher.close()
    assert broker.streams[SIGNAL.name] == [b"0"]
    assert broker.closed >= 1
    wait_until(
        lambda: not any(caller.is_alive() for caller in set(broker.callers) if caller.daemon)
    )
    publisher.publish(SIGNAL, b"1")
    wait_until(lambda: broker.streams[SIGNAL.name] == [b"0", b"1"], what="the later one")


def test_close_keeps_what_it_can_not_send(
    make: MakePublisher, broker: RecordingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """It says how much, and a later publish takes it along."""
    publisher = make(flush_timeout_s=0.05)
    broker.before = silent
    publisher.publish(SIGNAL, b"0")
    publisher.close()
    assert "Not sent within flush_timeout_s: 1 signals" in caplog.text
    broker.before = lambda call, signal: None
    publisher.publish(SIGNAL, b"1")
    wait_until(lambda: broker.streams[SIGNAL.name] == [b"0", b"1"], what="both")


def test_an_interrupted_call_is_made_again(sync: Publisher, broker: RecordingBroker) -> None:
    """Ctrl-C reaches the caller; the envelope still arrives, once."""
    failing = len(broker.calls) + 1

    def interrupt(call: int, _signal: str) -> None:
        if call == failing:
            raise KeyboardInterrupt

    broker.after = interrupt
    with pytest.raises(KeyboardInterrupt):
        sync.publish(SIGNAL, b"x")
    assert broker.closed == 1, "the answer of that call must not be read as the next one's"
    wait_until(lambda: sync.counts()["queued"] == 0, what="an empty queue")
    assert broker.streams[SIGNAL.name] == [b"x"]


def test_without_a_thread_the_flush_sends(
    publisher: Publisher,
    broker: RecordingBroker,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No threads left, or the interpreter is ending: said, and nothing raised."""

    def refuse(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    publisher.publish(SIGNAL, b"0")
    assert "No thread can be started" in caplog.text
    assert publisher.flush()
    assert broker.streams[SIGNAL.name] == [b"0"]
    monkeypatch.undo()
    publisher.publish(SIGNAL, b"1")
    wait_until(lambda: broker.streams[SIGNAL.name] == [b"0", b"1"], what="the later one")


def test_what_goes_wrong_inside_is_logged_and_never_raised(
    publisher: Publisher, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender of a signal must not be hurt by the relay's own mistakes."""

    def fail(*_args: object) -> None:
        raise LookupError

    monkeypatch.setattr(line_module.Line, "put", fail)
    publisher.publish(SIGNAL, b"x")
    assert "could not be queued" in caplog.text


def test_a_late_caller_leaves_the_call_to_the_thread(
    make: MakePublisher, broker: RecordingBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first tenth of its time it begins no call, which might outlast it."""
    sync = make(background=False, publish_timeout_s=30.0)
    sync.publish(SIGNAL, b"0")
    broker.callers.clear()
    clock = iter([0.0])
    real = time.monotonic

    def late() -> float:
        return real() + next(clock, 16.0)

    monkeypatch.setattr(line_module, "_monotonic", late)
    sync.publish(SIGNAL, b"1")
    assert broker.streams[SIGNAL.name] == [b"0", b"1"]
    assert threading.current_thread() not in broker.callers
