"""An executor of one slot of each kind, for tests of what runs in it."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from support.runs import a_delivery
from support.waiting import wait_until

from lback_relay.codec import decode
from lback_relay.envelope import Envelope
from lback_relay.remote import RemoteDispatcher
from lback_signal_worker.executor import Executor
from lback_signal_worker.in_hand import InHand
from lback_signal_worker.prefetch import Prefetch
from lback_signal_worker.processor import Processor, Run
from lback_signal_worker.slots import Slot

SIGNAL = "user_registered"
LEASE_S = 3600.0


class Running:
    """An executor of one slot of each kind."""

    def __init__(self) -> None:
        self.reported: list[Run] = []
        self.decode: Callable[[bytes], Envelope] = decode
        self._executor: Executor | None = None
        self._processor: Processor | None = None

    def start(self, *handlers: Callable[..., Any], **options: Any) -> Executor:
        """Start with these handlers."""
        dispatcher = RemoteDispatcher()
        for number, handler in enumerate(handlers):
            dispatcher.connect(SIGNAL, handler, name=f"{number}", **options)
        return self.serve(dispatcher)

    def serve(self, dispatcher: RemoteDispatcher) -> Executor:
        """Start with the handlers of a dispatcher."""
        connected = dispatcher.handlers(SIGNAL)
        self._processor = Processor(
            group="g",
            handlers={SIGNAL: connected},
            decode=self._decode,
            random=lambda: 0.5,
        )
        prefetch = Prefetch(slots=1)
        self._executor = Executor(
            self._processor,
            prefetch=prefetch,
            hand=InHand(prefetch, {SIGNAL: connected[0].is_async}),
            lease_s=LEASE_S,
            report=self.reported.extend,
        )
        self._executor.start()
        return self._executor

    @property
    def slot(self) -> Slot:
        """The slot for plain handlers."""
        return self.executor._plain.slots[0]

    def _decode(self, encoded: bytes, _signal: str, _mode: str) -> Envelope:
        return self.decode(encoded)

    @property
    def executor(self) -> Executor:
        """What was started."""
        assert self._executor is not None
        return self._executor

    def begin(self, *numbers: int) -> list[Run]:
        """Return runs with these numbers as their payload."""
        assert self._processor is not None
        return [
            self._processor.begin(a_delivery(payload={"number": number}), monotonic())
            for number in numbers
        ]

    def submit(self, *numbers: int) -> list[Run]:
        """Submit such runs."""
        runs = self.begin(*numbers)
        self.executor.submit(SIGNAL, runs)
        return runs

    def wait_for_free_thread(self) -> None:
        """Wait until a thread waits for something to run; reporting a run comes before that."""
        wait_until(lambda: self.executor._plain._free > 0, what="a free thread")

    def wait_for(self, count: int) -> None:
        """Wait until so many are reported."""
        wait_until(lambda: len(self.reported) == count, what=f"{count} runs")

    def close(self) -> None:
        """End it."""
        if self._executor is not None:
            self._executor.close()
