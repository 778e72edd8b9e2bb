"""Reading and claiming, and how much of it there is room for."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from support.runs import a_delivery
from support.waiting import wait_until
from support.worker_parts import SIGNAL, FakeBroker, a_hand, a_run
from support.worker_reading import Reading

from lback_relay.broker.base import Delivery
from lback_relay.errors import BrokerError, BrokerUnavailable
from lback_signal_worker.consumer import HAND_OVER_S
from lback_signal_worker.health import HealthFile
from lback_signal_worker.in_hand import PATIENCE_S, InHand
from lback_signal_worker.prefetch import MAX_ENTRIES, Prefetch

THIRD = MAX_ENTRIES // 3


@pytest.fixture
def broker() -> FakeBroker:
    """Return a broker of the test's own."""
    return FakeBroker()


def test_signals_share_the_slots_of_their_kind() -> None:
    """Slow entries of one leave no room for another; async ones have slots of their own."""
    hand = InHand(Prefetch(slots=4), {"slow": False, "fast": False, "awaited": True})
    hand.measured("slow", 1.0)
    hand.measured("fast", 0.0001)
    assert (hand.room("slow"), hand.room("fast"), hand.room("awaited")) == (4, THIRD, 4)
    runs = [a_run(number, "slow") for number in range(4)]
    hand.add("slow", runs)
    assert (hand.room("slow"), hand.room("fast"), hand.room("awaited")) == (0, 0, 4)
    hand.finish(runs[:3])
    assert (hand.room("slow"), hand.room("fast")) == (3, THIRD)
    hand.add("fast", [a_run(number, "fast") for number in range(MAX_ENTRIES // 2)])
    assert (hand.room("slow"), hand.room("fast")) == (1, 0)
    assert (hand.count, hand.unfinished) == (MAX_ENTRIES // 2 + 4, MAX_ENTRIES // 2 + 1)
    hand.release(runs[:3])
    assert hand.count == MAX_ENTRIES // 2 + 1


def test_those_who_need_little_room_give_way_to_who_has_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once in a while, whoever has waited; those of another kind of slots need not."""
    now = [100.0]
    monkeypatch.setattr("lback_signal_worker.in_hand.monotonic", lambda: now[0])
    hand = InHand(Prefetch(slots=8), {"little": False, "more": False, "awaited": True})
    hand.measured("little", 0.02)
    runs = [a_run(number, "little") for number in range(20)]
    hand.add("little", runs)
    assert hand.room("more") == 0
    hand.finish(runs[:1])
    assert (hand.room("more"), hand.room("little")) == (0, 1)
    assert not hand.starved(["more"])
    now[0] += PATIENCE_S
    assert hand.starved(["more"])
    assert (hand.room("more"), hand.room("little"), hand.room("awaited")) == (0, 0, 8)
    hand.finish(runs[1:3])
    assert (hand.room("more"), hand.room("little")) == (1, 0)
    hand.looked_for(["more"])
    assert (hand.room("more"), hand.room("little")) == (1, 3)
    hand.finish(runs[3:])
    hand.add("little", runs)
    assert hand.room("more") == 0
    hand.finish(runs[:1])
    assert hand.room("little") == 1
    now[0] += PATIENCE_S
    assert hand.room("little") == 0


def test_a_signal_that_was_crowded_out_has_its_turn(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others wait until there is room for it, and it is looked for at once."""
    monkeypatch.setattr("lback_signal_worker.in_hand.PATIENCE_S", 0.0)
    reading = Reading(broker, "quick", "other")
    consumer, hand = reading.consumer, reading.hand
    consumer._grouped, consumer._claim_at, consumer._others_at = True, math.inf, math.inf
    consumer._hot = ["quick"]
    hand.measured("quick", 0.0)
    hand.measured("other", 1.0)
    runs = [a_run(number, "quick") for number in range(6 * MAX_ENTRIES // 10)]
    hand.add("quick", runs)
    hand.wake()
    consumer._turn()
    assert broker.of("ask") == broker.of("read") == []
    hand.finish(runs[: 2 * MAX_ENTRIES // 10])
    consumer._turn()
    assert [given for given, _, _ in broker.of("read")] == [("other",)]
    consumer._turn()
    assert [given for given, _ in broker.of("ask")] == [("quick",)]
    hand.finish(runs[2 * MAX_ENTRIES // 10 :])
    reading.end_without_thread()


def test_unsettled_entries_are_bounded_too() -> None:
    """A broker that takes no outcomes gets no more entries out of its streams."""
    hand = a_hand()
    hand.measured(SIGNAL, 0.0)
    runs = [a_run(number) for number in range(MAX_ENTRIES - 5)]
    hand.add(SIGNAL, runs)
    hand.finish(runs)
    assert hand.room(SIGNAL) == 0
    hand.release(runs)
    assert hand.room(SIGNAL) == THIRD


@pytest.mark.parametrize("method", ["read", "claim"])
def test_a_call_that_brings_entries_shows_since_when(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """While it is under way, and not after it has failed either."""
    reading = Reading(broker, SIGNAL)
    under_way, release = threading.Event(), threading.Event()

    def slow(*_: Any, **__: Any) -> list[Delivery]:
        under_way.set()
        assert release.wait(60)
        reading.consumer.stop()
        raise BrokerError("odd")

    monkeypatch.setattr(broker, method, slow)
    began = monotonic()
    reading.start()
    assert under_way.wait(60)
    since = reading.consumer.taking.since
    release.set()
    reading.end()
    assert since is not None
    assert since >= began
    assert reading.consumer.taking.since is None


def test_reading_goes_on_whatever_fails(broker: FakeBroker, caplog: Any) -> None:
    """The broker, and ourselves; and groups that a full broker refuses to make."""
    broker.fails["ensure_groups"] = [BrokerUnavailable("away"), BrokerError("full")]
    broker.fails["read"] = [BrokerError("odd"), ValueError("ours")]
    reading = Reading(broker, SIGNAL)
    reading.start()
    wait_until(lambda: len(broker.of("read")) >= 3, what="the third read")
    reading.end()
    assert "while making its group" in caplog.text
    assert "reading failed; going on" in caplog.text


def test_after_an_outage_claiming_waits_for_a_lease(broker: FakeBroker) -> None:
    """So that the owners can renew first."""
    broker.fails["ensure_groups"] = [BrokerUnavailable("away")]
    reading = Reading(broker, SIGNAL, lease_s=3600)
    reading.start()
    wait_until(lambda: len(broker.of("read")) >= 3, what="reads")
    reading.end()
    assert broker.of("claim") == []


def test_more_signals_than_slots_are_read_in_turn(broker: FakeBroker) -> None:
    """An idle worker blocks on all of them; a busy one takes no more than it has room for."""
    reading = Reading(broker, "a", "b", "c")
    broker.claims = [[a_delivery(signal="a")]]
    reading.start()
    assert reading.started.wait(60)
    wait_until(lambda: len(broker.of("read")) >= 3, what="reads")
    reading.end()
    assert all(count == 1 for _, count, _ in broker.of("read"))


def test_no_read_blocks_while_a_hot_signal_waits_for_room(broker: FakeBroker) -> None:
    """It soon has room, and a block would outlast what is in hand of it."""
    reading = Reading(broker, "hot", "other")
    consumer = reading.consumer
    consumer._grouped, consumer._claim_at, consumer._hot = True, math.inf, ["hot"]
    reading.hand.measured("hot", 0.0)
    reading.hand.measured("other", 0.015)
    runs = [a_run(number, "hot") for number in range(7 * MAX_ENTRIES // 10)]
    reading.hand.add("hot", runs)
    assert (reading.hand.room("hot"), reading.hand.room("other")) == (0, 1)
    for _ in range(10):
        consumer._turn()
    reads = broker.of("read")
    assert {(signals, blocks) for signals, _, blocks in reads} == {(("other",), False)}
    assert consumer._hot == ["hot"]
    reading.hand.finish(runs)
    reading.hand.release(runs)
    consumer._others_at = math.inf
    consumer._turn()
    assert [signals for signals, _ in broker.of("ask")] == [("hot",)]
    reading.executor.close()


def test_a_hot_signal_does_not_starve_another(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take turns, and who found no room is the next to be asked for."""
    monkeypatch.setattr("lback_signal_worker.watch.LONG_S", 600.0)  # its handlers wait for us
    reading = Reading(broker, "a", "b")
    consumer = reading.consumer
    consumer._grouped, consumer._claim_at, consumer._hot = True, math.inf, ["a", "b"]
    for signal in ("a", "b"):
        reading.hand.measured(signal, 0.0)
    broker.more = {"a": 3000, "b": 3000}
    for _ in range(5):
        consumer._turn()
    assert [signals for signals, _ in broker.of("ask")] == [("a",), ("b",), ("a",)]
    assert consumer._hot == ["b", "a"]
    reading.end_without_thread()


def test_after_few_entries_the_slots_get_the_interpreter(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While there are more the next question is more urgent: they run meanwhile anyhow."""
    reading = Reading(broker, SIGNAL)
    steps: list[object] = []
    reading.on_submit = lambda: steps.append("submitted")
    monkeypatch.setattr("lback_signal_worker.consumer.sleep", steps.append)
    consumer = reading.consumer
    consumer._grouped, consumer._claim_at = True, math.inf
    reading.hand.measured(SIGNAL, 0.0)
    consumer._turn()
    assert steps == []
    broker.more = {SIGNAL: 2}
    consumer._turn()
    assert steps == ["submitted", HAND_OVER_S]
    reading.release.set()
    wait_until(lambda: not reading.hand.unfinished, what="the handlers' ends")
    broker.more = {SIGNAL: MAX_ENTRIES}
    consumer._turn()
    assert steps[2:] == ["submitted"]
    reading.end_without_thread()


def test_a_suspect_waits_for_those_that_run_and_goes_back_in_the_end(
    broker: FakeBroker,
) -> None:
    """A handler that takes longer than a lease does not stop the reading for ever."""
    reading = Reading(broker, SIGNAL, lease_s=1)
    suspect = a_delivery(deliveries=3, entry_id="2-0")
    # It would be there again for whoever claims at once.
    broker.claims = [[a_delivery()], [suspect], [suspect], [suspect]]
    reading.start()
    assert reading.started.wait(60)
    wait_until(lambda: broker.of("give_back"), what="the return")
    wait_until(lambda: broker.of("read"), what="reading again")
    broker.claims.clear()
    order = [name for name, _ in list(broker.calls) if name in ("claim", "give_back", "read")]
    assert order[:4] == ["claim", "claim", "give_back", "read"]
    reading.end()
    assert [run.delivery and run.delivery.entry_id for run in reading.done] == ["1-0"]


def test_a_suspect_waits_until_what_was_handled_is_settled(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should it kill the process, nobody else's entry is handed out once more because of that."""
    monkeypatch.setattr("lback_signal_worker.consumer.POLL_S", 0.01)
    reading = Reading(broker, SIGNAL, lease_s=3600, settles=False)
    reading.release.set()
    broker.claims = [[a_delivery()], [a_delivery(deliveries=3, entry_id="2-0")]]
    reading.start()
    wait_until(lambda: len(reading.done) == 1, what="the first one's end")
    wait_until(reading.consumer.alone.is_set, what="the suspect")
    wait_until(lambda: len(broker.of("ping")) >= 2, what="waiting")
    assert len(reading.done) == 1
    reading.hand.release(reading.done)
    wait_until(lambda: len(reading.done) == 2, what="the suspect's end")
    pings = len(broker.of("ping"))
    wait_until(lambda: len(broker.of("ping")) >= pings + 2, what="waiting again")
    assert reading.consumer.alone.is_set()
    assert broker.of("read") == []
    reading.hand.release(reading.done)
    wait_until(lambda: broker.of("read"), what="reading again")
    reading.end()


def test_what_is_claimed_while_it_runs_here_is_not_run_twice(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease has ended before it was renewed, and nobody else was quicker."""
    monkeypatch.setattr("lback_signal_worker.consumer.POLL_S", 0.01)
    reading = Reading(broker, SIGNAL, lease_s=3600)
    consumer = reading.consumer
    consumer._take({SIGNAL: [a_delivery()]}, monotonic() - 3000)
    assert reading.started.wait(60)
    broker.claims = [[a_delivery(deliveries=2), a_delivery(deliveries=2, entry_id="2-0")]]
    consumer._grouped = True
    consumer._turn()
    assert reading.hand.count == 2
    assert all(monotonic() - run.taken_at < 1000 for run in reading.hand.snapshot())
    reading.release.set()
    wait_until(lambda: len(reading.done) == 2, what="both")
    assert {run.delivery and run.delivery.entry_id for run in reading.done} == {"1-0", "2-0"}
    reading.executor.close()


def test_a_lease_begins_with_the_question_not_with_the_answer(broker: FakeBroker) -> None:
    """An answer that was long on its way leaves less of it."""
    reading = Reading(broker, SIGNAL, lease_s=3600)
    handed_out_at = []

    def read(*_: Any, **__: Any) -> list[Delivery]:
        handed_out_at.append(monotonic())
        return [a_delivery()]

    broker.read = read  # type: ignore[method-assign]
    reading.consumer._read_together([SIGNAL], idle=False)
    (run,) = reading.hand.snapshot()
    assert run.taken_at <= handed_out_at[0]
    reading.executor.close()


def test_a_suspect_is_given_back_when_the_worker_stops(broker: FakeBroker) -> None:
    """It has not begun."""
    reading = Reading(broker, SIGNAL, lease_s=3600)
    suspect = a_delivery(deliveries=3, entry_id="2-0")
    broker.claims = [[a_delivery()], [suspect]]
    reading.start()
    wait_until(reading.consumer.alone.is_set, what="the suspect")
    reading.consumer.stop()
    wait_until(lambda: broker.of("give_back") == [[suspect]], what="the return")
    reading.end()


def test_a_worker_whose_slots_are_all_busy_shows_that_it_lives(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By a ping in place of a read; a failed one is said and does no harm."""
    monkeypatch.setattr("lback_signal_worker.consumer.POLL_S", 0.01)
    broker.fails["ping"] = [BrokerUnavailable("away")]
    reading = Reading(broker, SIGNAL)
    reading.consumer._health = HealthFile(str(tmp_path / "health"))
    broker.claims = [[a_delivery(entry_id=f"{number}-0") for number in range(2)]]
    reading.start()
    wait_until(lambda: len(broker.of("ping")) >= 3, what="pings")
    reading.end()
    assert (tmp_path / "health").exists()
