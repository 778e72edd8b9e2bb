"""A consumer on a broker that does as the test says, with handlers that wait for the test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from support.waiting import wait_until
from support.worker_parts import FakeBroker, a_hand, as_broker, half

from lback_relay.remote import RemoteDispatcher
from lback_signal_worker.config import WorkerConfig
from lback_signal_worker.consumer import Consumer
from lback_signal_worker.executor import Executor
from lback_signal_worker.health import HealthFile
from lback_signal_worker.link import Link
from lback_signal_worker.prefetch import Prefetch
from lback_signal_worker.processor import Processor, Run
from lback_signal_worker.verification import Verification


class Reading:
    """A consumer of some signals, whose handler blocks until it is released."""

    def __init__(
        self, broker: FakeBroker, *signals: str, lease_s: float = 60, settles: bool = True
    ) -> None:
        self.settles = settles
        self.started = threading.Event()
        self.release = threading.Event()
        dispatcher = RemoteDispatcher()
        for signal in signals:
            dispatcher.connect(signal, self._handle, name="handler")
        processor = Processor(
            group="g",
            handlers={signal: dispatcher.handlers(signal) for signal in signals},
            decode=Verification(None).decode,
            random=half,
        )
        self.hand = a_hand(*signals, slots=2)
        self.done: list[Run] = []
        self.executor = Executor(
            processor,
            prefetch=Prefetch(slots=2),
            hand=self.hand,
            lease_s=float("inf"),
            report=self._report,
        )
        self.executor.start()
        self.on_submit: Callable[[], object] = lambda: None
        """Is called before anything is run."""
        self._submit, self.executor.submit = self.executor.submit, self._submitted  # type: ignore[method-assign]
        self.consumer = Consumer(
            as_broker(broker),
            as_broker(broker),
            WorkerConfig(lease_s=lease_s),
            "c",
            signals,
            processor=processor,
            executor=self.executor,
            hand=self.hand,
            link=Link(),
            health=HealthFile(None),
            report=self._report,
            random=half,
        )

    def _handle(self, sender: object, **_: Any) -> None:
        self.started.set()
        self.release.wait(60)

    def _submitted(self, signal: str, runs: Sequence[Run]) -> None:
        self.on_submit()
        self._submit(signal, runs)

    def _report(self, runs: list[Run]) -> None:
        self.hand.finish(runs)
        if self.settles:
            self.hand.release(runs)
        self.done += runs

    def start(self) -> None:
        """Begin to read."""
        self.executor.start_reading(self.consumer.read)

    def end(self) -> None:
        """Let everything end."""
        self.release.set()
        self.consumer.stop()
        assert self.consumer.ended.wait(60)
        self.end_without_thread()

    def end_without_thread(self) -> None:
        """Let the handlers end, of a test that takes the thread's turns itself."""
        self.release.set()
        wait_until(lambda: not self.hand.unfinished, what="the handlers' ends")
        self.executor.close()
