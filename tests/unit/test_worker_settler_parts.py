"""What carries envelopes goes out in parts, so that a slow line is no end."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from support.worker_parts import SIGNAL, FakeBroker, a_hand, a_run, as_broker, half

from lback_relay.broker.base import DeadLetter, Delivery, Retry, Settlement
from lback_relay.errors import BrokerUnavailable
from lback_signal_worker.in_hand import InHand
from lback_signal_worker.link import Link
from lback_signal_worker.processor import Run
from lback_signal_worker.settler import PART_BYTES, Settler


class RecordingBroker(FakeBroker):
    """Keeps what each call of settle is given, and how much is in hand then; some calls fail."""

    def __init__(self, hand: InHand) -> None:
        super().__init__()
        self.hand = hand
        self.in_hand: list[int] = []
        self.fails_at: set[int] = set()
        self.reporting: list[list[Run]] = []
        self.settler: Settler

    def settle(self, settlements: Sequence[Settlement], *_: str) -> list[Delivery]:
        self.in_hand.append(self.hand.count)
        if self.reporting:
            more = self.reporting.pop(0)
            self.hand.add(SIGNAL, more)
            self.settler.report(more)
        left_alone = super().settle(settlements)
        if len(self.in_hand) in self.fails_at:
            raise BrokerUnavailable("slow")
        return left_alone

    @property
    def numbers(self) -> list[list[int]]:
        """Return the entries of each call, by their numbers."""
        return [
            [int(settlement.delivery.entry_id.partition("-")[0]) for settlement in given]
            for given in self.of("settle")
        ]


@pytest.fixture
def broker() -> RecordingBroker:
    """Return a broker of the test's own."""
    return RecordingBroker(a_hand())


def failed_run(number: int, size: int, **fields: Any) -> Run:
    """Return a run that ends in one retry of so many bytes."""
    fields = fields or {"retries": [Retry(attempts={"welcome": 1}, delay_s=number)]}
    return a_run(number, encoded=b"x" * size, **fields)


def settle(broker: RecordingBroker, *runs: Run) -> Settler:
    """Have runs settled, to the end."""
    settler = Settler(
        as_broker(broker),
        "g",
        "c",
        hand=broker.hand,
        link=Link(),
        retry_in=lambda _: None,
        random=half,
    )
    broker.settler = settler
    broker.hand.add(SIGNAL, runs)
    settler.report(list(runs))
    thread = threading.Thread(target=settler.run)
    thread.start()
    settler.close(30)
    thread.join(60)
    assert not thread.is_alive()
    assert broker.hand.count == broker.hand.unfinished == 0
    return settler


def test_retries_go_out_in_parts_and_each_is_forgotten_once_it_is_settled(
    broker: RecordingBroker,
) -> None:
    """Acknowledgements all go with the first."""
    size = PART_BYTES // 2
    settler = settle(broker, *(failed_run(n, size) for n in range(1, 6)), a_run(6), a_run(7))
    assert broker.numbers == [[6, 7, 1, 2], [3, 4], [5]]
    assert broker.in_hand == [7, 3, 1]
    assert (settler.handled, settler.failed) == (7, 5)


def test_an_entry_larger_than_a_part_goes_out_alone(broker: RecordingBroker) -> None:
    """It is settled in one piece."""
    settle(broker, *(failed_run(n, 3 * PART_BYTES) for n in (1, 2)))
    assert broker.numbers == [[1], [2]]


def test_each_retry_and_dead_letter_has_the_envelope_again(broker: RecordingBroker) -> None:
    """And a dead letter its traceback; what is small goes out together."""
    letter = DeadLetter(handler="h", reason="attempts", error="e", traceback="t" * PART_BYTES)
    twice = [Retry(attempts={name: 1}, delay_s=1) for name in ("a", "b")]
    size = PART_BYTES // 3
    settle(
        broker,
        failed_run(1, size, retries=twice),
        failed_run(2, size, retries=twice),
        failed_run(3, 10, dead_letters=[letter]),
        failed_run(4, 10),
        failed_run(5, 10),
    )
    assert broker.numbers == [[1], [2], [3], [4, 5]]


def test_what_was_settled_before_a_failure_is_not_sent_again(broker: RecordingBroker) -> None:
    """What has failed goes last, in smaller parts."""
    size = PART_BYTES // 4
    broker.fails_at = {2}
    settle(broker, *(failed_run(n, size) for n in range(1, 11)))
    assert broker.numbers == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10], [5, 6], [7, 8]]
    assert broker.in_hand == [10, 6, 6, 4, 2]


def test_what_does_not_get_through_holds_up_no_acknowledgement(broker: RecordingBroker) -> None:
    """After a failure they go out by themselves, and first."""
    broker.fails_at = {1}
    settle(broker, failed_run(1, PART_BYTES), failed_run(2, 9), a_run(3), a_run(4))
    assert broker.numbers == [[3, 4, 1], [3, 4], [2], [1]]


def test_what_is_reported_between_two_parts_does_not_wait_for_all(broker: RecordingBroker) -> None:
    """Its room is free, and it is acknowledged with the next part."""
    broker.reporting = [[a_run(9)]]
    settle(broker, *(failed_run(n, PART_BYTES) for n in (1, 2, 3)))
    assert broker.numbers == [[1], [9, 2], [3]]


def test_parts_are_large_again_when_all_is_settled(broker: RecordingBroker) -> None:
    """An outage does not make them small for ever."""
    size = PART_BYTES // 4
    broker.fails_at = {1}
    broker.reporting = [[], [failed_run(n, size) for n in range(2, 6)]]
    settle(broker, failed_run(1, size))
    assert broker.numbers == [[1], [1], [2, 3, 4, 5]]
