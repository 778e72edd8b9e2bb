"""Publishing through the spool: a broker that goes and comes, in both modes, with a real file."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.recording_broker import RecordingBroker, connecting, silent
from support.waiting import wait_until

from lback_relay.config import SignalConfig
from lback_relay.drain_lock import DrainLock
from lback_relay.errors import BacklogFull
from lback_relay.publisher import Publisher
from lback_relay.spool import Spool

SIGNAL = SignalConfig(name="user_registered")
OTHER = SignalConfig(name="user_updated", delivery=("broadcast",))

MakePublisher = Callable[..., Publisher]


@pytest.fixture
def broker() -> RecordingBroker:
    """A broker in memory."""
    return RecordingBroker()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The spool's file."""
    return tmp_path / "spool" / "a.spool"


@pytest.fixture
def spool(path: Path) -> Iterator[Spool]:
    """Another access to the same file, to look at it."""
    made = Spool(path)
    yield made
    made.close()


@pytest.fixture
def make(broker: RecordingBroker, path: Path) -> Iterator[MakePublisher]:
    """Make publishers to that broker with that spool, closed at the end of the test."""
    made: list[Publisher] = []

    def make_one(**options: object) -> Publisher:
        options = {
            "flush_timeout_s": 60.0,
            "publish_timeout_s": 30.0,
            "open_spool": lambda: Spool(path, durable=False),
            **options,
        }
        made.append(Publisher(connecting(broker), **options))  # type: ignore[arg-type]
        return made[-1]

    yield make_one
    broker.before = broker.after = lambda call, signal: None
    for publisher in made:
        publisher.close()


def numbered(count: int, start: int = 0) -> list[bytes]:
    """Return envelopes that tell their place."""
    return [str(number).encode() for number in range(start, start + count)]


def publish(publisher: Publisher, envelopes: list[bytes], signal: SignalConfig = SIGNAL) -> None:
    """Publish these."""
    for envelope in envelopes:
        publisher.publish(signal, envelope)


def spooled(spool: Spool) -> int:
    """Return how many envelopes are in the file."""
    return sum(each.envelopes for each in spool.waiting())


def answering(_call: int, _signal: str) -> None:
    """Answer again."""


def test_what_is_spooled_is_forced_to_the_disk_soon(
    make: MakePublisher, broker: RecordingBroker, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the thread that drains, while the broker is away; no sender does it."""
    by: list[str] = []
    monkeypatch.setattr(
        "lback_relay.spool.os.fsync", lambda _file: by.append(threading.current_thread().name)
    )
    broker.before = silent
    publisher = make(background=False, publish_timeout_s=1.0)
    publish(publisher, numbered(3))
    wait_until(lambda: by, what="the disk has it")
    publish(publisher, numbered(1, 3))
    wait_until(lambda: len(by) > 1, what="the disk has the next one, too")
    assert spooled(spool) == 4
    assert set(by) == {"lback-relay-spool"}


def test_a_disk_that_can_not_be_forced_holds_nothing_up(
    make: MakePublisher,
    broker: RecordingBroker,
    spool: Spool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is said; what is in the file is sent all the same once the broker answers."""

    def broken(_file: int) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("lback_relay.spool.os.fsync", broken)
    broker.before = silent
    publisher = make()
    publish(publisher, numbered(10))
    wait_until(lambda: "may not survive a power failure" in caplog.text, what="the complaint")
    assert spooled(spool) == 10
    broker.before = answering
    wait_until(lambda: publisher.counts()["published"] == 10, what="all of them")
    assert spooled(spool) == 0


@pytest.mark.parametrize("background", [True, False])
def test_what_is_sent_meanwhile_arrives_once_and_in_order(
    make: MakePublisher, broker: RecordingBroker, spool: Spool, background: bool
) -> None:
    """Before, during and after the outage; each lane is direct again, under a new producer."""
    publisher = make(background=background)
    publish(publisher, numbered(10))
    assert publisher.flush()
    broker.before = silent
    publish(publisher, numbered(1000, 10))
    publish(publisher, numbered(5), OTHER)
    wait_until(lambda: spooled(spool) == 1005)
    assert publisher.counts()["queued"] == 0
    broker.before = answering
    publish(publisher, numbered(1000, 1010))
    assert publisher.flush(60)
    assert broker.streams == {SIGNAL.name: numbered(2010), OTHER.name: numbered(5)}
    assert spooled(spool) == 0
    assert publisher.counts()["published"] == 2015
    publish(publisher, numbered(1, 2010))
    assert publisher.flush()
    assert broker.streams[SIGNAL.name] == numbered(2011)
    assert len({call[3] for call in broker.calls if call[0] == SIGNAL.name}) == 2


def test_a_sync_publish_returns_once_the_file_has_it(
    make: MakePublisher, broker: RecordingBroker, spool: Spool
) -> None:
    """Nobody needs to wait for a broker that is known to be away."""
    publisher = make(background=False)
    broker.before = silent
    publish(publisher, numbered(1))
    wait_until(lambda: spooled(spool) == 1)
    for count in range(2, 50):
        publish(publisher, numbered(1, count - 1))
        assert spooled(spool) == count
    broker.before = answering
    assert publisher.flush(60)
    assert broker.streams[SIGNAL.name] == numbered(49)


def test_threads_send_while_the_broker_comes_and_goes(
    make: MakePublisher, broker: RecordingBroker
) -> None:
    """Each thread's order is kept across every change between broker and file."""
    publisher = make(background=False)

    def send(sender: int) -> None:
        for number in range(300):
            publisher.publish(SIGNAL, f"{sender} {number}".encode())

    flaky = threading.Event()
    broker.before = lambda call, signal: silent(call, signal) if call % 40 < 5 else None
    broker.after = lambda call, signal: silent(call, signal) if call % 17 == 0 else None
    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    flaky.set()
    broker.before = broker.after = answering
    assert publisher.flush(60)
    stream = [envelope.split() for envelope in broker.streams[SIGNAL.name]]
    for sender in range(4):
        assert [int(number) for of, number in stream if int(of) == sender] == list(range(300))


def test_a_refused_signal_is_spooled_and_the_others_go_on(
    make: MakePublisher, broker: RecordingBroker, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    """A full stream holds up nobody else."""
    publisher = make()

    def full(_call: int, signal: str) -> None:
        if signal == SIGNAL.name:
            raise BacklogFull("signal 'user_registered' holds its max_backlog")

    broker.before = full
    publish(publisher, numbered(20))
    publish(publisher, numbered(20), OTHER)
    wait_until(lambda: spooled(spool) == 20)
    wait_until(lambda: len(broker.streams[OTHER.name]) == 20)
    assert "refused a signal" in caplog.text
    broker.before = answering
    assert publisher.flush(60)
    assert broker.streams[SIGNAL.name] == numbered(20)


def test_what_a_process_left_is_sent_by_the_next_one(
    make: MakePublisher, broker: RecordingBroker, path: Path, spool: Spool
) -> None:
    """Under the number that it had: the reply may have been lost."""
    first = make()
    broker.after = silent  # applied, and nobody knows
    publish(first, numbered(3))
    # The drain has called, too, and does not know either.
    wait_until(lambda: spooled(spool) == 3 and broker.streams[SIGNAL.name] == numbered(3))
    first.close()
    assert spooled(spool) == 3
    broker.after = answering
    second = make()
    publish(second, numbered(1, 3), OTHER)
    wait_until(lambda: spooled(spool) == 0)
    assert broker.streams[SIGNAL.name] == numbered(3)


def test_closing_spools_what_the_broker_does_not_take(
    make: MakePublisher, broker: RecordingBroker, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that is restarted during an outage loses nothing, and does not wait for it."""
    publisher = make(flush_timeout_s=3600.0)
    publish(publisher, numbered(3))
    assert publisher.flush()
    broker.before = silent
    publish(publisher, numbered(100, 3))
    publisher.close()
    assert spooled(spool) == 100
    assert "Signals stay in the spool" in caplog.text
    broker.before = answering
    publish(publisher, numbered(1, 103))  # it begins anew
    assert publisher.flush(60)
    assert broker.streams[SIGNAL.name] == numbered(104)


def test_a_drain_that_fails_at_the_end_leaves_nobody_waiting(
    make: MakePublisher, broker: RecordingBroker, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    """It holds the line for the end of a lane; who finds it held is told when it lets go."""
    publisher = make(background=False)
    drains: list[int] = []
    held, let_go = threading.Event(), threading.Event()

    def answer_once(call: int, signal: str) -> None:
        if broker.callers[-1].name != "lback-relay-spool":
            silent(call, signal)
        drains.append(call)
        if len(drains) == 1:
            publish(publisher, numbered(1, 1))  # so that a second call is needed
            return
        held.set()
        let_go.wait(60)
        silent(call, signal)

    broker.before = answer_once
    publish(publisher, numbered(1))
    assert held.wait(60)
    sender = threading.Thread(target=publish, args=(publisher, numbered(1, 2)))
    sender.start()
    wait_until(lambda: publisher.counts()["queued"] == 1)
    let_go.set()
    sender.join()
    assert "has not answered within" not in caplog.text
    broker.before = answering
    assert publisher.flush(60)
    assert broker.streams[SIGNAL.name] == numbered(3)


def test_another_process_may_be_draining(
    make: MakePublisher, broker: RecordingBroker, path: Path, spool: Spool
) -> None:
    """Its end is all that is waited for; the last ones are sent here, and nothing is doubled."""
    path.parent.mkdir(mode=0o700)
    lock = DrainLock(path)
    assert lock.take()
    publisher = make()
    broker.before = silent
    publish(publisher, numbered(10))
    wait_until(lambda: spooled(spool) == 10)
    broker.before = answering
    publish(publisher, numbered(10, 10))
    assert publisher.flush(60)
    assert broker.streams[SIGNAL.name] == numbered(20)
    lock.release()


def test_what_finds_the_queue_full_goes_to_the_file(
    make: MakePublisher, broker: RecordingBroker
) -> None:
    """Memory is bounded, and still nothing is lost; only the order may suffer."""
    go_on = threading.Event()

    def wait(_call: int, _signal: str) -> None:
        go_on.wait(60)

    broker.before = wait
    publisher = make(max_queued=10)
    publish(publisher, numbered(50))
    assert publisher.counts()["dropped"] == 0
    assert publisher.counts()["spooled"] > 0
    go_on.set()
    assert publisher.flush(60)
    wait_until(lambda: len(broker.streams[SIGNAL.name]) == 50)
    assert sorted(broker.streams[SIGNAL.name]) == sorted(numbered(50))


def test_a_spool_that_can_not_be_written_leaves_them_in_memory(
    make: MakePublisher, broker: RecordingBroker, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Loudly and counted; they are sent once the broker is back."""
    path.parent.write_text("no folder")
    publisher = make()
    broker.before = silent
    publish(publisher, numbered(20))
    wait_until(lambda: "Signals stay in memory" in caplog.text)
    assert publisher.counts()["spool_failed"] > 0
    assert publisher.counts()["queued"] == 20
    assert "set spool_dir" in caplog.text
    broker.before = answering
    assert publisher.flush(60)
    assert broker.streams[SIGNAL.name] == numbered(20)


def test_an_unusable_folder_is_said_before_it_is_needed(
    make: MakePublisher, broker: RecordingBroker, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """When the process begins to send, not only in the first outage."""
    path.parent.mkdir(mode=0o777)
    path.parent.chmod(0o777)
    publisher = make()
    publish(publisher, numbered(1))
    wait_until(lambda: "Nothing is kept while the broker is away" in caplog.text)
    assert f"chmod 700 {path.parent}" in caplog.text
    assert publisher.flush()
    assert broker.streams[SIGNAL.name] == numbered(1)


def test_a_spool_that_is_full_is_used_again_when_it_has_room(
    make: MakePublisher, broker: RecordingBroker, path: Path
) -> None:
    """What is in it goes first, then what had to stay in memory."""
    publisher = make(open_spool=lambda: Spool(path, max_bytes=200_000, durable=False))
    broker.before = silent
    envelopes = [b"%d " % number + b"x" * 5000 for number in range(100)]
    publish(publisher, envelopes)
    wait_until(lambda: publisher.counts()["spool_failed"] > 0)
    assert publisher.counts()["queued"] > 0
    broker.before = answering
    assert publisher.flush(60)
    assert broker.streams[SIGNAL.name] == envelopes


def test_a_damaged_spool_stops_nobody(
    make: MakePublisher, broker: RecordingBroker, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A person has to look at it; signals go on without it."""
    path.parent.mkdir(mode=0o700)
    path.write_bytes(b"what is this" * 1000)
    publisher = make()
    publish(publisher, numbered(5))
    assert publisher.flush()
    broker.before = silent
    publish(publisher, numbered(5, 5))
    wait_until(lambda: publisher.counts()["spool_failed"] > 0)
    broker.before = answering
    assert publisher.flush(60)
    assert broker.streams[SIGNAL.name] == numbered(10)
    assert "is damaged" in caplog.text
    assert path.read_bytes().startswith(b"what is this")


def test_a_spool_damaged_meanwhile_stops_nobody(
    make: MakePublisher, broker: RecordingBroker, path: Path, spool: Spool
) -> None:
    """What is spooled already can't be reached; all that comes after arrives."""
    publisher = make()
    broker.before = silent
    publish(publisher, numbered(5))
    wait_until(lambda: spooled(spool) == 5)
    spool.close()
    path.write_bytes(b"what is this" * 5000)
    path.with_name(path.name + "-wal").write_bytes(b"")
    broker.before = answering
    publish(publisher, numbered(5, 5))
    wait_until(lambda: numbered(5, 5) == broker.streams[SIGNAL.name][-5:], timeout_s=60)


def test_the_log_says_what_happens(
    make: MakePublisher, broker: RecordingBroker, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    """When it begins, and when it is over."""
    caplog.set_level(logging.WARNING)
    publisher = make()
    broker.before = silent
    publish(publisher, numbered(5))
    wait_until(lambda: spooled(spool) == 5)
    assert "The broker does not answer" in caplog.text
    broker.before = answering
    wait_until(lambda: "The spool is empty again: 5 signals" in caplog.text)
