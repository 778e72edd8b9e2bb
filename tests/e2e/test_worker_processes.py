"""The command ``lback-signal-worker`` in real processes on a real broker: what it takes in hand."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter

import pytest
from support.brokers import running_server
from support.waiting import wait_until
from support.worker_processes import Workers, stop
from support.workers import SIGNAL, publish, settled

from lback_relay.broker import Broker, connect
from lback_signal_worker.health import main as health

pytestmark = pytest.mark.broker

STOPPED_UNCLEAN = "stopped, with handlers still running or outcomes not written, see above"


def test_two_processes_of_a_group_handle_each_envelope_once(
    broker: Broker, workers: Workers
) -> None:
    """Exactly once, in both of two groups, with everything settled and a clean end."""
    for group in "ab":  # before a worker of the other one may trim what it alone needs
        broker.ensure_groups(["user_registered"], group)
    publish(broker, [{"number": number} for number in range(1000)])
    started = [
        workers.start(name, "handlers", "--group", group)
        for name, group in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b"))
    ]
    publish(broker, [{"number": number} for number in range(1000, 2000)])
    wait_until(lambda: len(workers.lines("end")) >= 4000, 60, what="2,000 envelopes, two groups")
    wait_until(lambda: settled(broker, "a") and settled(broker, "b"), what="the settlements")
    assert [stop(worker) for worker in started] == [0, 0, 0, 0]
    handled = Counter((worker[0], number) for number, worker in workers.lines("end"))
    assert handled == {(group, number): 1 for group in "ab" for number in range(2000)}
    assert len(workers.lines("start")) == 4000


def test_a_broadcast_reaches_every_process(broker: Broker, workers: Workers) -> None:
    """Those of one group too."""
    names = ["one", "two", "three"]
    for name in names:
        workers.start(name)

    def everybody_has_heard() -> bool:
        # A worker says that it runs before its subscription is there, so this is repeated.
        publish(broker, [{"number": 1}], signal="user_updated", delivery=("broadcast",))
        return {worker for _, worker in workers.lines("heard")} == set(names)

    wait_until(everybody_has_heard, what="all of them")
    publish(broker, [{"number": 2}], signal="user_updated", delivery=("broadcast",))
    wait_until(
        lambda: {worker for number, worker in workers.lines("heard") if number == 2} == set(names),
        what="one more, in each",
    )


def test_a_killed_worker_loses_nothing(broker: Broker, workers: Workers) -> None:
    """kill -9 in the middle of a handler: another worker takes all that it had in hand."""
    victim = workers.start("victim", "handlers", "--lease-s", "2", "--concurrency", "4")
    publish(broker, [{"number": number} for number in range(50)])
    wait_until(lambda: len(workers.lines("end")) == 50, what="the first fifty")
    publish(broker, [{"number": number, "action": "hang"} for number in range(50, 54)])
    publish(broker, [{"number": number} for number in range(54, 80)])
    wait_until(lambda: len(workers.lines("start")) >= 54, what="handlers that run")
    victim.kill()
    victim.wait(60)
    workers.release()
    heir = workers.start("heir", "handlers", "--lease-s", "2")
    wait_until(lambda: settled(broker, "workers"), 60, what="the take-over")
    assert {number for number, _ in workers.lines("end")} == set(range(80))
    started = Counter(number for number, _ in workers.lines("start"))
    twice = {number for number, count in started.items() if count > 1}
    assert twice == set(range(50, 54)), "only what was running may run again"
    assert stop(heir) == 0


def test_an_entry_that_kills_its_worker_is_put_aside_and_its_neighbours_are_not(
    broker: Broker, workers: Workers
) -> None:
    """Three deaths, while others were prefetched; then a dead letter, and no crash loop."""
    publish(broker, [{"number": 0, "action": "die"}, *({"number": n} for n in range(1, 200))])
    ended = []
    for _ in range(3):
        worker = workers.start("mortal", "handlers", "--lease-s", "1", wait=False)
        ended.append(worker.wait(60))
    assert ended == [9, 9, 9]
    worker = workers.start("survivor", "handlers", "--lease-s", "1")
    wait_until(lambda: broker.dead_letters(SIGNAL, "workers", count=9), 60, what="the dead letter")
    wait_until(lambda: settled(broker, "workers"), 60, what="the settlements")
    assert stop(worker) == 0
    (record,) = broker.dead_letters(SIGNAL, "workers", count=9)
    assert (record.letter.reason, record.letter.attempts) == ("crashed", 3)
    assert {number for number, _ in workers.lines("end")} == set(range(1, 200))
    assert Counter(number for number, _ in workers.lines("start"))[0] == 3


def test_sigterm_drains_and_runs_nothing_twice(broker: Broker, workers: Workers) -> None:
    """What runs ends, what has not begun goes to the other worker at once."""
    draining = workers.start("draining", "handlers", "--concurrency", "2", "--lease-s", "600")
    publish(broker, [{"number": number} for number in range(500)])
    wait_until(lambda: len(workers.lines("end")) == 500, what="a fast average")
    publish(broker, [{"number": number, "action": "hang"} for number in range(500, 502)])
    publish(broker, [{"number": number} for number in range(502, 600)])
    wait_until(
        lambda: (
            broker.backlog(SIGNAL, "workers")["pending"] > 10 or len(workers.lines("start")) == 600
        ),
        what="entries in hand",
    )
    draining.send_signal(signal.SIGTERM)
    wait_until(lambda: "finishing what runs" in workers.log("draining"), what="the drain")
    other = workers.start("other", "handlers", "--lease-s", "600")
    wait_until(lambda: len(workers.lines("end")) == 598, 60, what="all but those that hang")
    workers.release()
    assert draining.wait(60) == 0
    assert stop(other) == 0
    assert Counter(number for number, _ in workers.lines("start")) == Counter(range(600))
    assert settled(broker, "workers")


@pytest.mark.parametrize("twice", [False, True], ids=["timeout", "second signal"])
def test_a_handler_that_does_not_end_in_time_ends_the_drain_with_5(
    broker: Broker, workers: Workers, twice: bool
) -> None:
    """Its entry stays pending for another worker."""
    drain_s, grace_s = ("3600", "3601") if twice else ("0.2", "30")
    worker = workers.start(
        "stuck", "handlers", "--drain-timeout-s", drain_s, "--stop-grace-s", grace_s
    )
    publish(broker, [{"number": 1, "action": "hang"}])
    wait_until(lambda: workers.lines("start"), what="the handler")
    worker.send_signal(signal.SIGTERM)
    if twice:
        wait_until(lambda: "finishing what runs" in workers.log("stuck"), what="the drain")
        worker.send_signal(signal.SIGINT)
    assert worker.wait(60) == 5
    assert broker.backlog(SIGNAL, "workers")["pending"] == 1
    assert workers.lines("end") == []
    assert STOPPED_UNCLEAN in workers.log("stuck")


def test_outcomes_that_can_not_be_written_end_the_drain_with_5(
    workers: Workers, namespace: str
) -> None:
    """No handler runs any more, and the last line does not say so."""
    with running_server() as server:
        worker = workers.start("cut", "handlers", "--url", server.url, "--drain-timeout-s", "1")
        with contextlib.closing(connect(server.url, namespace=namespace)) as its:
            publish(its, [{"number": 1, "action": "hang"}])
        wait_until(lambda: workers.lines("start"), what="the handler")
    workers.release()
    wait_until(lambda: workers.lines("end"), what="the handler's end")
    assert stop(worker) == 5
    assert "1 outcomes could not be written" in workers.log("cut")
    assert STOPPED_UNCLEAN in workers.log("cut")


def test_the_health_file_is_there_while_the_worker_polls(
    workers: Workers, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is touched at once, and gone after the drain."""
    file = workers.folder / "health"
    worker = workers.start("healthy", "handlers", "--health-file", str(file))
    wait_until(file.exists, what="the health file")
    assert health([str(file)]) == 0
    os.utime(file, (0, 0))
    wait_until(lambda: health([str(file), "--max-age", "20"]) == 0, what="the next poll")
    assert stop(worker) == 0
    assert health([str(file)]) == 1
    assert "not healthy" in capsys.readouterr().err
