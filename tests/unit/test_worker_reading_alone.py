"""An entry that comes alone is run by the thread that has read it, and another one reads on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.executors import SIGNAL, Running
from support.runs import a_delivery
from support.waiting import wait_until
from support.worker_parts import FakeBroker
from support.worker_reading import Reading

from lback_signal_worker.consumer import HAND_OVER_S
from lback_signal_worker.slots import Chunk


class Readers:
    """Who reads, in turn; each brings one run, when the test says so, and calls ``run_alone``."""

    def __init__(self, running: Running) -> None:
        self.idents: list[int] = []
        self.kept: list[bool] = []
        self.bring = threading.Semaphore(0)
        self.stopped = False
        self._running = running
        self._number = 0

    def read(self) -> Chunk | None:
        """See :data:`lback_signal_worker.slots.Read`."""
        self.idents.append(threading.get_ident())
        while True:
            assert self.bring.acquire(timeout=60)
            if self.stopped:
                return None
            self._number += 1
            (run,) = self._running.begin(self._number)
            chunk = self._running.executor.run_alone(run, self.read)
            self.kept.append(chunk is not None)
            if chunk is not None:
                return chunk

    def stop(self) -> None:
        """End the reading."""
        self.stopped = True
        self.bring.release()


class Handler:
    """A handler that says where it runs, and waits for the test."""

    def __init__(self) -> None:
        self.idents: list[int] = []
        self.numbers: list[int] = []
        self.go_on = threading.Semaphore(0)
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def __call__(self, sender: Any, number: int) -> None:
        """Run."""
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.idents.append(threading.get_ident())
        self.numbers.append(number)
        assert self.go_on.acquire(timeout=60)
        with self._lock:
            self.at_once -= 1


@pytest.fixture
def running() -> Iterator[Running]:
    """Yield an executor of one slot, and end it."""
    made = Running()
    yield made
    made.close()


@pytest.fixture
def handler() -> Iterator[Handler]:
    """Yield a handler, and let it end."""
    made = Handler()
    yield made
    made.go_on.release(10)


def test_the_reader_runs_it_and_a_free_thread_reads_on(running: Running, handler: Handler) -> None:
    """While the handler still runs, or a slow one would keep others from being read."""
    executor = running.start(handler)
    readers = Readers(running)
    executor.start_reading(readers.read)
    running.wait_for_free_thread()
    readers.bring.release()
    wait_until(lambda: handler.idents, what="the handler")
    wait_until(lambda: len(readers.idents) == 2, what="the next reader")
    assert handler.idents == readers.idents[:1]
    assert readers.idents[1] != readers.idents[0]
    handler.go_on.release()
    running.wait_for(1)
    readers.stop()


def test_no_more_run_at_once_than_there_are_slots(running: Running, handler: Handler) -> None:
    """Without a thread that is free the reader reads on, and what it has read waits."""
    executor = running.start(handler)
    readers = Readers(running)
    executor.start_reading(readers.read)
    running.wait_for_free_thread()
    readers.bring.release(4)
    wait_until(lambda: len(readers.kept) == 4, what="all to be read")
    assert readers.kept == [True, False, False, False]
    assert handler.numbers == [1]
    handler.go_on.release(4)
    running.wait_for(4)
    assert handler.most_at_once == 1
    running.wait_for_free_thread()
    readers.bring.release()
    wait_until(lambda: len(readers.kept) == 5, what="one more")
    handler.go_on.release()
    running.wait_for(5)
    assert readers.kept[4]
    readers.stop()


def test_one_that_is_not_begun_can_be_taken_back(running: Running, handler: Handler) -> None:
    """Between the reading and the handler, too."""
    executor = running.start(handler)
    (run,) = running.begin(1)
    taken: list[list[Any]] = []
    begin, ended = threading.Event(), threading.Event()

    def read() -> Chunk | None:
        assert begin.wait(60)
        if taken:
            ended.set()
            return None
        chunk = executor.run_alone(run, read)
        taken.append(executor.take_back())
        return chunk

    executor.start_reading(read)
    running.wait_for_free_thread()
    begin.set()
    assert ended.wait(60)
    assert taken == [[run]]
    assert handler.numbers == []


def test_an_async_handler_is_left_to_its_loop(running: Running) -> None:
    """The reader reads on."""
    ran_in: list[int] = []

    async def handler(sender: Any, number: int) -> None:
        ran_in.append(threading.get_ident())

    executor = running.start(handler)
    readers = Readers(running)
    executor.start_reading(readers.read)
    running.wait_for_free_thread()
    readers.bring.release()
    running.wait_for(1)
    assert readers.kept == [False]
    assert ran_in != readers.idents
    readers.stop()


def test_a_thread_that_hangs_is_replaced_though_it_has_read(running: Running) -> None:
    """Reading goes on, and so do the others."""
    hung, release = threading.Event(), threading.Event()

    def handler(sender: Any, number: int) -> None:
        if number == 1:
            hung.set()
            release.wait(60)

    executor = running.start(handler, timeout_s=0.05, max_attempts=1)
    readers = Readers(running)
    executor.start_reading(readers.read)
    running.wait_for_free_thread()
    readers.bring.release()
    assert hung.wait(60)
    running.wait_for(1)
    readers.bring.release(2)
    running.wait_for(3)
    release.set()
    readers.stop()


def test_while_it_waits_for_a_slot_the_reader_lets_go_of_the_interpreter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or the slot would wait until it blocks in its next read."""
    broker = FakeBroker()
    reading = Reading(broker, SIGNAL)
    pauses: list[float] = []
    monkeypatch.setattr("lback_signal_worker.consumer.sleep", pauses.append)
    monkeypatch.setattr(reading.executor, "run_alone", lambda run, read: None)
    deliveries = iter([[a_delivery(signal=SIGNAL)]])

    def read(*_: Any, **__: Any) -> list[Any]:
        found = next(deliveries, [])
        if not found:
            reading.consumer.stop()
        return found

    monkeypatch.setattr(broker, "read", read)
    reading.start()
    assert reading.consumer.ended.wait(60)
    assert pauses == [HAND_OVER_S]
    reading.executor.close()


@pytest.mark.parametrize("when", ["nothing is hot", "another is hot", "stopped"])
def test_when_a_consumer_has_one_run_alone(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not while there is more to be asked for, and not once the worker stops."""
    broker = FakeBroker()
    reading = Reading(broker, SIGNAL, "hot")
    consumer = reading.consumer
    for signal in (SIGNAL, "hot"):
        reading.hand.measured(signal, 0.0)
    alone: list[str] = []
    run_alone: Callable[..., Chunk | None] = reading.executor.run_alone

    def noted(run: Any, read: Any) -> Chunk | None:
        alone.append(run.signal)
        consumer.stop()
        return run_alone(run, read)

    monkeypatch.setattr(reading.executor, "run_alone", noted)
    deliveries = iter([[a_delivery(signal=SIGNAL)]])

    def read(*_: Any, **__: Any) -> list[Any]:
        if when == "stopped":
            consumer.stop()
        return next(deliveries)

    monkeypatch.setattr(broker, "read", read)
    reading.on_submit = consumer.stop
    if when == "another is hot":
        consumer._hot = ["hot"]
    reading.start()
    assert consumer.ended.wait(60)
    assert alone == ([SIGNAL] if when == "nothing is hot" else [])
    assert len(broker.of("give_back")) == (1 if when == "stopped" else 0)
    reading.end()
    assert len(reading.done) == (0 if when == "stopped" else 1)
