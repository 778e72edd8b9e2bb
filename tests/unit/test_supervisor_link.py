"""What a worker tells its supervisor, and what the supervisor does when nothing can start."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lback_signal_worker.config import WorkerConfig
from lback_signal_worker.os_signals import OsSignals
from lback_signal_worker.supervised import AWAY, POLLED, RECYCLING, UP, Supervised
from lback_signal_worker.supervisor import Supervisor
from lback_signal_worker.worker import Worker

CONFIG = WorkerConfig(hung_s=30, lease_s=60)


def a_worker(**given: Any) -> Worker:
    """Return what the link asks of a worker."""
    handled = given.pop("handled", 0)
    figures = lambda: {"handled": str(handled)}  # noqa: E731 - shorter than a class
    given.setdefault("taking_since", None)
    return cast(Worker, SimpleNamespace(figures=figures, **given))


@pytest.fixture
def ends() -> Iterator[tuple[Supervised, socket.socket]]:
    """Yield a link, and the supervisor's end of it."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, theirs:
        yield Supervised(2, ours), theirs


def heard(end: socket.socket) -> bytes:
    """Return what was said."""
    try:
        return end.recv(100)
    except BlockingIOError:
        return b""


def test_progress_is_told_once_for_each_poll(ends: tuple[Supervised, socket.socket]) -> None:
    """Silence, when there was none since: that is what a hung worker is known by."""
    link, end = ends
    link.report(a_worker(polled_at=1.0, away=False), CONFIG, 100.0)
    assert heard(end) == POLLED
    link.report(a_worker(polled_at=1.0, away=False), CONFIG, 100.0)
    assert heard(end) == b""
    link.report(a_worker(polled_at=2.0, away=False), CONFIG, 100.0)
    assert heard(end) == POLLED


def test_a_worker_whose_broker_is_away_still_lives(ends: tuple[Supervised, socket.socket]) -> None:
    """Replacing it would mend nothing, and it does not count as having polled."""
    link, end = ends
    link.report(a_worker(polled_at=1.0, away=True), CONFIG, 100.0)
    link.report(a_worker(polled_at=1.0, away=True), CONFIG, 100.0)
    assert heard(end) == POLLED + AWAY


@pytest.mark.parametrize(
    ("taking_since", "lease_s", "said"),
    [(71.0, 60, b"t"), (69.0, 60, b""), (41.0, 90, b"t"), (99.0, 20, b""), (None, 600, b"")],
)
def test_a_batch_on_its_way_is_progress_until_its_lease_would_be_over(
    ends: tuple[Supervised, socket.socket], taking_since: float | None, lease_s: float, said: bytes
) -> None:
    """With the supervisor's patience of 30 s behind it; a reader that hangs elsewhere is silent."""
    link, end = ends
    worker = a_worker(polled_at=1.0, away=False, taking_since=taking_since)
    config = WorkerConfig(hung_s=30, lease_s=lease_s)
    link.report(worker, config, 100.0)
    assert heard(end) == POLLED
    link.report(worker, config, 100.0)
    assert heard(end) == said


def test_one_sigterm_does_not_cut_a_drain_short_that_began_by_itself(
    ends: tuple[Supervised, socket.socket],
) -> None:
    """The supervisor's SIGTERM and the worker's word crossed; a second one is meant."""
    link, end = ends
    with OsSignals() as stop:
        config = WorkerConfig(max_deliveries=5)
        link.attend(a_worker(polled_at=1.0, away=False, handled=5), config, stop)
        assert heard(end) == UP + POLLED + RECYCLING
        signal.raise_signal(signal.SIGTERM)
        assert not link.interrupted(stop)
        signal.raise_signal(signal.SIGTERM)
        assert link.interrupted(stop)


def test_a_supervisor_that_does_not_listen_holds_up_nobody(
    ends: tuple[Supervised, socket.socket],
) -> None:
    """Words beyond what the socket takes are dropped."""
    link, _ = ends
    for _ in range(20_000):
        link.say(POLLED)


def test_each_worker_has_a_health_file_of_its_own(ends: tuple[Supervised, socket.socket]) -> None:
    """Named by its number; none without one."""
    link, _ = ends
    assert link.config(WorkerConfig(health_file="/run/h")).health_file == "/run/h.2"
    assert link.config(WorkerConfig()).health_file is None


class Script:
    """OS signals that come after so many ticks."""

    def __init__(self, *names: str | None) -> None:
        self.names = list(names)

    def wait(self, timeout_s: float) -> str | None:
        """Return the next one, without waiting."""
        return self.names.pop(0) if self.names else None

    def watch(self, number: int) -> None:
        """Do nothing."""


def test_a_command_that_can_not_be_started_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As after a young death, until an OS signal; nothing was in hand, so the code is 0."""
    supervisor = Supervisor(WorkerConfig(processes=2), ["/nonexistent/python"], lambda: 0.0)
    stop = cast(OsSignals, Script(None, None, "SIGTERM"))
    assert supervisor.run(stop) == 0
    assert "can't be started" in caplog.text


def test_a_worker_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """When the grace is over; then the exit code is 5."""
    program = (
        "import signal, sys, time; signal.signal(15, signal.SIG_IGN); "
        "open(sys.argv[1], 'w').close(); time.sleep(600)"
    )
    ready = tmp_path / "ready"

    class WhenReady(Script):
        def wait(self, timeout_s: float) -> str | None:
            if self.names and ready.exists():
                return self.names.pop()
            threading.Event().wait(timeout_s)
            return None

    config = WorkerConfig(processes=2, drain_timeout_s=0.1, stop_grace_s=0.2)
    supervisor = Supervisor(config, [sys.executable, "-c", program, str(ready)])
    assert supervisor.run(cast(OsSignals, WhenReady("SIGTERM"))) == 5
