"""The worker's threads one by one, with a broker that does as the test says."""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any, cast

import pytest
from support.runs import a_delivery
from support.waiting import wait_until

from lback_relay.broker.base import Broker, Delivery, Settlement
from lback_relay.errors import BrokerError, BrokerUnavailable, SettlementRefused
from lback_relay.remote import Handler, RemoteDispatcher
from lback_signal_worker.config import WorkerConfig
from lback_signal_worker.consumer import Consumer
from lback_signal_worker.executor import Executor
from lback_signal_worker.health import HealthFile
from lback_signal_worker.health import main as health
from lback_signal_worker.in_hand import InHand
from lback_signal_worker.keeper import Keeper
from lback_signal_worker.leases import Leases
from lback_signal_worker.link import Backoff, Link
from lback_signal_worker.logs import RelayFormatter
from lback_signal_worker.prefetch import Prefetch
from lback_signal_worker.processor import Processor, Run
from lback_signal_worker.settler import Settler
from lback_signal_worker.verification import Verification

SIGNAL = "user_registered"


class FakeBroker:
    """Keeps the calls; ``fails`` holds what the next ones raise, by method."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.fails: dict[str, list[Exception]] = {}
        self.claims: list[list[Delivery]] = []
        self.lost: list[Delivery] = []
        self.next_due_s: float | None = None

    def _called(self, name: str, given: Any = None) -> None:
        self.calls.append((name, given))
        failures = self.fails.get(name)
        if failures:
            raise failures.pop(0)

    def of(self, name: str) -> list[Any]:
        """Return what one method was given, call by call."""
        return [given for called, given in list(self.calls) if called == name]

    def settle(self, settlements: Sequence[Settlement], *_: str) -> list[Delivery]:
        self._called("settle", list(settlements))
        return self.lost

    def renew(self, deliveries: Sequence[Delivery], *_: str) -> list[Delivery]:
        self._called("renew", list(deliveries))
        return self.lost

    def give_back(self, deliveries: Sequence[Delivery], *_: str) -> None:
        self._called("give_back", list(deliveries))

    def promote(self, signals: Sequence[str], group: str) -> float | None:
        self._called("promote")
        return self.next_due_s

    def heartbeat(self, *_: Any, ttl_s: float) -> None:
        self._called("heartbeat", ttl_s)

    def trim(self, signals: Sequence[str], group: str, *, group_ttl_s: float) -> int:
        self._called("trim", (group, group_ttl_s))
        return 0

    def reap(self, signals: Sequence[str], group: str, *, idle_s: float) -> int:
        self._called("reap", (group, idle_s))
        return 2

    def ensure_groups(self, *_: Any) -> None:
        self._called("ensure_groups")

    def claim(self, *_: Any, **__: Any) -> list[Delivery]:
        self._called("claim")
        return self.claims.pop(0) if self.claims else []

    def read(self, signals: Sequence[str], *_: Any, count: int, block_s: float) -> list[Delivery]:
        self._called("read", (tuple(signals), count, block_s > 0))
        threading.Event().wait(0.001)
        return []

    def ping(self) -> None:
        self._called("ping")

    def close(self) -> None:
        self._called("close")


@pytest.fixture
def broker() -> FakeBroker:
    """Return a broker of the test's own."""
    return FakeBroker()


def as_broker(broker: FakeBroker) -> Broker:
    """Return it as what the worker's parts take."""
    return cast(Broker, broker)


def half() -> float:
    """Return what stands for a random number."""
    return 0.5


def a_hand(*signals: str, slots: int = 8) -> InHand:
    """Return an empty hand for plain handlers of these signals."""
    return InHand(Prefetch(slots=slots), dict.fromkeys(signals or (SIGNAL,), False))


def a_run(number: int = 1, signal: str = SIGNAL, **fields: Any) -> Run:
    """Return a finished run."""
    delivery = a_delivery(b"bytes", signal=signal, entry_id=f"{number}-0")
    run = Run(signal, b"bytes", (), delivery, monotonic())
    for name, value in fields.items():
        setattr(run, name, value)
    return run


def some_handlers() -> tuple[Handler, ...]:
    """Return a handler that no test here runs."""
    dispatcher = RemoteDispatcher()
    dispatcher.connect(SIGNAL, lambda **_: None, name="never called")
    return dispatcher.handlers(SIGNAL)


# Settling -------------------------------------------------------------------------------------


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


# Leases ---------------------------------------------------------------------------------------


def some_leases(broker: FakeBroker, hand: InHand) -> Leases:
    """Return leases of three seconds."""
    config = WorkerConfig(lease_s=3)
    return Leases(as_broker(broker), config, "c", hand=hand, link=Link(), random=half)


def test_only_entries_that_are_old_enough_are_renewed(broker: FakeBroker) -> None:
    """The younger ones have two thirds left at the next tick; broadcasts have no lease."""
    hand = a_hand()
    now = monotonic()
    old, young, heard = a_run(1, taken_at=now - 1), a_run(2, taken_at=now), a_run(3)
    heard.delivery = None
    hand.add(SIGNAL, [old, young, heard])
    leases = some_leases(broker, hand)
    leases.renew(now)
    assert broker.of("renew") == [[old.delivery]]
    assert old.taken_at == now
    leases.renew(now + 0.5)
    assert len(broker.of("renew")) == 1


def test_what_another_worker_has_is_marked_as_lost(
    broker: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """And not asked for again."""
    hand = a_hand()
    now = monotonic()
    gone, kept = (a_run(n, taken_at=now - 1, handlers=some_handlers()) for n in (1, 2))
    hand.add(SIGNAL, [gone, kept])
    assert gone.delivery is not None
    broker.lost = [gone.delivery]
    leases = some_leases(broker, hand)
    leases.renew(now)
    assert (gone.lost, kept.lost) == (True, False)
    assert not leases.holds(gone, now)
    assert leases.holds(kept, now)
    assert "belong to another worker now" in caplog.text


def test_after_a_lease_without_renewal_nothing_is_begun(broker: FakeBroker) -> None:
    """A process that was stopped for so long must not run what others have taken."""
    leases = some_leases(broker, a_hand())
    run = a_run(taken_at=100.0)
    assert leases.holds(run, 102.9)
    assert not leases.holds(run, 103.0)


def test_a_renewal_that_fails_is_tried_again_soon(broker: FakeBroker) -> None:
    """Whatever the failure is."""
    hand = a_hand()
    hand.add(SIGNAL, [a_run(1, taken_at=monotonic() - 9)])
    broker.fails["renew"] = [BrokerUnavailable("away"), ValueError("odd")]
    config = WorkerConfig(lease_s=1)
    leases = Leases(as_broker(broker), config, "c", hand=hand, link=Link(), random=half)
    thread = threading.Thread(target=leases.run)
    thread.start()
    wait_until(lambda: len(broker.of("renew")) >= 3, what="the third try")
    leases.stop()
    thread.join(60)
    assert not thread.is_alive()


# Timers ---------------------------------------------------------------------------------------


def a_keeper(broker: FakeBroker, *signals: str) -> Keeper:
    """Return a keeper of these signals."""
    config = WorkerConfig(group="g")
    return Keeper(as_broker(broker), signals, config, "w", figures=dict, link=Link(), random=half)


def test_a_retry_is_promoted_when_it_is_due(broker: FakeBroker) -> None:
    """Without waiting for the next look; a later one changes nothing."""
    keeper = a_keeper(broker, SIGNAL)
    thread = threading.Thread(target=keeper.run)
    thread.start()
    wait_until(lambda: broker.of("promote"), what="the first look")
    keeper.retry_in(3600)
    keeper.retry_in(0.01)
    wait_until(lambda: len(broker.of("promote")) == 2, what="the look for the retry")
    keeper.stop()
    thread.join(60)
    assert broker.of("heartbeat") == [30.0]


def test_a_keeper_looks_for_dead_consumers_soon_and_trims_for_its_group(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And then not for some leases; the log says what was removed."""
    monkeypatch.setattr("lback_signal_worker.keeper.REAP_FIRST_S", 0.0)
    monkeypatch.setattr("lback_signal_worker.keeper.TRIM_EVERY_S", 0.0)
    keeper = a_keeper(broker, SIGNAL)
    with caplog.at_level(logging.INFO):
        keeper.turn()
        keeper.turn()
    assert broker.of("reap") == [("g", 600.0)]
    assert broker.of("trim") == [("g", 604_800.0)] * 2
    assert "removed 2 consumers of workers that are gone" in caplog.text


def test_what_a_keeper_could_not_do_is_named(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A right that the user lacks holds up nothing else, and is not asked for again at once."""
    monkeypatch.setattr("lback_signal_worker.keeper.REAP_FIRST_S", 0.0)
    broker.fails["reap"] = [BrokerError("forbidden"), BrokerError("forbidden")]
    broker.next_due_s = 0.0
    keeper = a_keeper(broker, SIGNAL)
    thread = threading.Thread(target=keeper.run)
    thread.start()
    wait_until(lambda: len(broker.of("promote")) >= 3, what="what goes on")
    keeper.stop()
    thread.join(60)
    assert len(broker.of("reap")) == 1
    assert "while looking for consumers that are gone, trying again: forbidden" in caplog.text


def test_a_timer_that_fails_does_not_end_the_clockwork(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for the broker's reasons and not for ours."""
    monkeypatch.setattr("lback_signal_worker.keeper.TRIM_EVERY_S", 0.0)
    broker.next_due_s = 0.0
    broker.fails["promote"] = [BrokerUnavailable("away")]
    broker.fails["heartbeat"] = [ValueError("odd")]
    keeper = a_keeper(broker, SIGNAL)
    thread = threading.Thread(target=keeper.run)
    thread.start()
    wait_until(lambda: len(broker.of("trim")) >= 2, what="what comes after both")
    keeper.stop()
    thread.join(60)
    assert not thread.is_alive()


def test_a_worker_for_broadcasts_alone_only_beats(broker: FakeBroker) -> None:
    """There are no streams to look after."""
    keeper = a_keeper(broker)
    thread = threading.Thread(target=keeper.run)
    thread.start()
    wait_until(lambda: broker.of("heartbeat"), what="the heartbeat")
    keeper.stop()
    thread.join(60)
    assert {name for name, _ in broker.calls} == {"heartbeat"}


# What is in hand ------------------------------------------------------------------------------


def test_signals_share_the_slots_of_their_kind() -> None:
    """Slow entries of one leave no room for another; async ones have slots of their own."""
    hand = InHand(Prefetch(slots=4), {"slow": False, "fast": False, "awaited": True})
    hand.measured("slow", 1.0)
    hand.measured("fast", 0.0001)
    assert (hand.room("slow"), hand.room("fast"), hand.room("awaited")) == (4, 1000, 4)
    runs = [a_run(number, "slow") for number in range(4)]
    hand.add("slow", runs)
    assert (hand.room("slow"), hand.room("fast"), hand.room("awaited")) == (0, 0, 4)
    hand.finish(runs[:3])
    assert (hand.room("slow"), hand.room("fast")) == (3, 750)
    assert (hand.count, hand.unfinished) == (4, 1)
    hand.release(runs[:3])
    assert hand.count == 1


def test_unsettled_entries_are_bounded_too() -> None:
    """A broker that takes no outcomes gets no more entries out of its streams."""
    hand = a_hand()
    hand.measured(SIGNAL, 0.0)
    runs = [a_run(number) for number in range(995)]
    hand.add(SIGNAL, runs)
    hand.finish(runs)
    assert hand.room(SIGNAL) == 0
    hand.release(runs)
    assert hand.room(SIGNAL) == 1000


# Reading --------------------------------------------------------------------------------------


class Reading:
    """A consumer of some signals, whose handler blocks until it is released."""

    def __init__(self, broker: FakeBroker, *signals: str, lease_s: float = 60) -> None:
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
            holds=lambda run, now: True,
            report=self._report,
        )
        self.executor.start()
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
        self.thread = threading.Thread(target=self.consumer.run)

    def _handle(self, sender: object, **_: Any) -> None:
        self.started.set()
        self.release.wait(60)

    def _report(self, runs: list[Run]) -> None:
        self.hand.finish(runs)
        self.hand.release(runs)
        self.done += runs

    def end(self) -> None:
        """Let everything end."""
        self.release.set()
        self.consumer.stop()
        self.thread.join(60)
        assert not self.thread.is_alive()
        wait_until(lambda: not self.hand.unfinished, what="the handlers' ends")
        self.executor.close()


def test_reading_goes_on_whatever_fails(broker: FakeBroker, caplog: Any) -> None:
    """The broker, and ourselves; and groups that a full broker refuses to make."""
    broker.fails["ensure_groups"] = [BrokerUnavailable("away"), BrokerError("full")]
    broker.fails["read"] = [BrokerError("odd"), ValueError("ours")]
    reading = Reading(broker, SIGNAL)
    reading.thread.start()
    wait_until(lambda: len(broker.of("read")) >= 3, what="the third read")
    reading.end()
    assert "while making its group" in caplog.text
    assert "reading failed; going on" in caplog.text


def test_after_an_outage_claiming_waits_for_a_lease(broker: FakeBroker) -> None:
    """So that the owners can renew first."""
    broker.fails["ensure_groups"] = [BrokerUnavailable("away")]
    reading = Reading(broker, SIGNAL, lease_s=3600)
    reading.thread.start()
    wait_until(lambda: len(broker.of("read")) >= 3, what="reads")
    reading.end()
    assert broker.of("claim") == []


def test_more_signals_than_slots_are_read_in_turn(broker: FakeBroker) -> None:
    """An idle worker blocks on all of them; a busy one takes no more than it has room for."""
    reading = Reading(broker, "a", "b", "c")
    broker.claims = [[a_delivery(signal="a")]]
    reading.thread.start()
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
    reading.hand.add("hot", runs := [a_run(number, "hot") for number in range(550)])
    assert (reading.hand.room("hot"), reading.hand.room("other")) == (0, 2)
    for _ in range(10):
        consumer._turn()
    reads = broker.of("read")
    assert {(signals, blocks) for signals, _, blocks in reads} == {(("other",), False)}
    assert consumer._hot == ["hot"]
    reading.hand.finish(runs)
    reading.hand.release(runs)
    consumer._turn()
    assert ("hot",) in [signals for signals, _, _ in broker.of("read")]
    reading.executor.close()


def test_a_hot_signal_does_not_starve_another(broker: FakeBroker) -> None:
    """Whoever found no room is the next to be read."""
    reading = Reading(broker, "a", "b")
    consumer = reading.consumer
    consumer._grouped, consumer._claim_at, consumer._hot = True, math.inf, ["a", "b"]
    for signal in ("a", "b"):
        reading.hand.measured(signal, 0.0)

    def read(signals: Sequence[str], *_: Any, count: int, block_s: float) -> list[Delivery]:
        return [a_delivery(signal=signals[0], entry_id=f"{number}-0") for number in range(count)]

    broker.read = read  # type: ignore[method-assign]
    consumer._turn()
    assert consumer._hot == ["b", "a"]
    reading.executor.take_back()
    reading.release.set()
    reading.executor.close()


def test_a_suspect_waits_for_those_that_run_and_goes_back_in_the_end(
    broker: FakeBroker,
) -> None:
    """A handler that takes longer than a lease does not stop the reading for ever."""
    reading = Reading(broker, SIGNAL, lease_s=1)
    suspect = a_delivery(deliveries=3, entry_id="2-0")
    # It would be there again for whoever claims at once.
    broker.claims = [[a_delivery()], [suspect], [suspect], [suspect]]
    reading.thread.start()
    assert reading.started.wait(60)
    wait_until(lambda: broker.of("give_back"), what="the return")
    wait_until(lambda: broker.of("read"), what="reading again")
    broker.claims.clear()
    order = [name for name, _ in list(broker.calls) if name in ("claim", "give_back", "read")]
    assert order[:4] == ["claim", "claim", "give_back", "read"]
    reading.end()
    assert [run.delivery and run.delivery.entry_id for run in reading.done] == ["1-0"]


def test_a_suspect_is_given_back_when_the_worker_stops(broker: FakeBroker) -> None:
    """It has not begun."""
    reading = Reading(broker, SIGNAL, lease_s=3600)
    suspect = a_delivery(deliveries=3, entry_id="2-0")
    broker.claims = [[a_delivery()], [suspect]]
    reading.thread.start()
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
    reading.thread.start()
    wait_until(lambda: len(broker.of("ping")) >= 3, what="pings")
    reading.end()
    assert (tmp_path / "health").exists()


# The way to the broker, health, logs ----------------------------------------------------------


def test_an_outage_is_said_once_a_second_and_its_end_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whichever thread comes first; a refusal is no outage."""
    now = [100.0]
    monkeypatch.setattr("lback_signal_worker.link.monotonic", lambda: now[0])
    caplog.set_level(logging.INFO)
    link = Link()
    link.worked()
    for doing in ("reading", "settling", "reading"):
        link.failed(doing, BrokerUnavailable("away"))
    assert len(caplog.records) == 1
    now[0] += 1
    link.failed("settling", BrokerUnavailable("away"))
    link.worked()
    link.worked()
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "INFO"]
    assert "answers again, after 1.0 s" in caplog.text
    for _ in range(3):
        link.failed("settling", BrokerError("full"))
        link.worked()
    assert len(caplog.records) == 4


def test_a_refusal_stands_until_it_would_have_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what was refused alone; the broker is not away."""
    now = [100.0]
    monkeypatch.setattr("lback_signal_worker.link.monotonic", lambda: now[0])
    link = Link()
    assert not link.refuses("reading")
    link.failed("reading", BrokerError("forbidden"))
    link.worked()
    assert link.refuses("reading")
    assert not link.refuses("settling")
    assert not link.away
    now[0] += 15
    assert not link.refuses("reading")


def test_waits_grow_spread_and_begin_again() -> None:
    """Half of each is random."""
    backoff = Backoff(lambda: 0.0)
    assert [backoff.next_s() for _ in range(8)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.5, 2.5]
    backoff.reset()
    assert backoff.next_s() == 0.05


def test_health_is_the_age_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No file, or an old one, is not healthy."""
    path = tmp_path / "health"
    file = HealthFile(str(path))
    assert health([str(path)]) == 1
    file.touch(100.0)
    assert health([str(path)]) == 0
    os.utime(path, (0, 0))
    file.touch(100.5)
    assert health([str(path), "--max-age", "5"]) == 1
    file.touch(101.0)
    assert health([str(path), "--max-age", "5"]) == 0
    file.remove()
    file.remove()
    assert health([str(path)]) == 1
    assert "the last poll was" in capsys.readouterr().err


def test_a_health_file_that_can_not_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker is worth more than its file."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").touch()
    HealthFile(str(tmp_path / "missing" / "health")).touch(1.0)
    HealthFile(str(tmp_path / "folder")).remove()
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2


def formatted(extra: dict[str, object], number: int | None = None) -> str:
    """Return a formatted record."""
    record = logging.makeLogRecord({"msg": "failed", "levelname": "ERROR", **extra})
    return RelayFormatter(number).format(record)


def test_a_line_of_one_of_several_workers_names_it() -> None:
    """By number and process."""
    line = formatted({"relay_signal": "a", "process": 77}, number=2)
    assert line.endswith(" ERROR worker 2 (pid 77): failed [signal=a]")


@pytest.mark.parametrize(
    ("extra", "end"),
    [
        ({}, "ERROR failed"),
        ({"relay_signal": "a", "relay_handler": ""}, "ERROR failed [signal=a]"),
        ({"relay_signal": "a", "relay_handler": "b"}, "ERROR failed [signal=a handler=b]"),
    ],
)
def test_a_line_shows_what_it_is_about(extra: dict[str, object], end: str) -> None:
    """So that one signal can be searched for."""
    assert formatted(extra).endswith(end)
