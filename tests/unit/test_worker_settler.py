"""What becomes of outcomes, with a broker that does as the test says."""

from __future__ import annotations

import threading

import pytest
from support.worker_parts import SIGNAL, FakeBroker, a_hand, a_run, as_broker, half, some_handlers

from lback_relay.errors import BrokerError, BrokerUnavailable, SettlementRefused
from lback_signal_worker.link import Link
from lback_signal_worker.processor import Run
from lback_signal_worker.settler import Settler


@pytest.fixture
def broker() -> FakeBroker:
    """Return a broker of the test's own."""
    return FakeBroker()


class Settling:
    """A settler that runs, with what it is told."""

    def __init__(self, broker: FakeBroker) -> None:
        self.hand = a_hand()
        self.due: list[float] = []
        self.settler = Settler(
            as_broker(broker),
            "g",
            "c",
            hand=self.hand,
            link=Link(),
            retry_in=self.due.append,
            random=half,
        )
        self.thread = threading.Thread(target=self.settler.run)

    def settle(self, *runs: Run) -> None:
        """Have runs settled, to the end."""
        self.hand.add(SIGNAL, runs)
        self.settler.report(list(runs))
        self.thread.start()
        self.settler.close(30)
        self.thread.join(60)
        assert not self.thread.is_alive()


def test_what_the_broker_did_not_answer_is_settled_again(broker: FakeBroker) -> None:
    """Until it does; nothing is forgotten before."""
    broker.fails["settle"] = [BrokerUnavailable("away"), BrokerUnavailable("away")]
    settling = Settling(broker)
    settling.settle(a_run(1), a_run(2))
    assert [len(given) for given in broker.of("settle")] == [2, 2, 2]
    assert settling.hand.count == settling.hand.unfinished == 0
    assert settling.settler.handled == 2


def test_refused_outcomes_are_kept_and_the_others_forgotten(broker: FakeBroker) -> None:
    """The next call has the refused ones alone."""
    kept = a_run(2)
    broker.fails["settle"] = [
        SettlementRefused("full", unsettled=[kept.settlement()], left_alone=[]),
        BrokerError("full"),
    ]
    settling = Settling(broker)
    settling.settle(a_run(1), kept, a_run(3))
    assert [len(given) for given in broker.of("settle")] == [3, 1, 1]
    assert settling.hand.count == 0


def test_one_outcome_that_can_not_be_written_does_not_hold_up_the_others(
    broker: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """Its entry stays pending, which is said."""
    broker.fails["settle"] = [ValueError("batch"), ValueError("this one")]
    settling = Settling(broker)
    settling.settle(a_run(1), a_run(2))
    assert [len(given) for given in broker.of("settle")] == [2, 1, 1]
    assert settling.hand.count == 0
    assert settling.settler.handled == 1
    assert "can't be written; its entry stays pending" in caplog.text


def test_a_broker_that_stays_away_does_not_hold_up_the_end(broker: FakeBroker) -> None:
    """After the time for it, what is not settled is left in hand."""
    broker.fails["settle"] = [BrokerUnavailable("away") for _ in range(1000)]
    settling = Settling(broker)
    settling.hand.add(SIGNAL, [run := a_run(1)])
    settling.settler.report([run])
    settling.thread.start()
    settling.settler.close(0)
    settling.thread.join(60)
    assert not settling.thread.is_alive()
    assert settling.hand.count == 1


def test_a_run_that_was_lost_before_it_began_is_not_settled(broker: FakeBroker) -> None:
    """One that has ended is: what was handled need not be handled again."""
    unstarted = a_run(1, lost=True, handlers=some_handlers())
    settling = Settling(broker)
    settling.settle(unstarted, a_run(2, lost=True))
    ((settlement,),) = broker.of("settle")
    assert settlement.delivery.entry_id == "2-0"
    assert settling.hand.count == 0


def test_outcomes_of_entries_that_others_have_are_said_to_change_nothing(
    broker: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker tells which."""
    run = a_run(1)
    assert run.delivery is not None
    broker.lost = [run.delivery]
    Settling(broker).settle(run)
    assert "1 outcomes change nothing" in caplog.text
