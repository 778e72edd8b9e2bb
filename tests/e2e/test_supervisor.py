"""The real command with several processes: who dies is replaced, and all end together."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.waiting import wait_until
from support.workers import SIGNAL, publish, settled

from lback_relay.broker import Broker

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]

HANDLERS = """
import os, time
from pathlib import Path
from lback_relay import remote_dispatcher

kept = []

@remote_dispatcher.receiver("user_registered")
def note(sender, number, sleep_s=0, grow_mb=0, **kwargs):
    kept.append(bytearray(os.urandom(1024) * 1024 * grow_mb))
    with Path("begun").open("a") as begun:
        begun.write(f"{number}\\n")
    time.sleep(sleep_s)
    with Path("ledger").open("a") as ledger:
        ledger.write(f"{number} {os.getpid()}\\n")
"""


class Command:
    """The running command, and what it has said."""

    def __init__(self, folder: Path, url: str, namespace: str, *options: str) -> None:
        self.folder = folder
        self.log = folder / "log"
        (folder / "noting.py").write_text(HANDLERS)
        environment = {**os.environ, "LBACK_RELAY_URL": url, "LBACK_RELAY_NAMESPACE": namespace}
        module = [] if any(option.startswith("broken") for option in options) else ["noting"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lback_signal_worker", *module, "--group", "mailers",
                 "--lease-s", "3", *options],
                cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def text(self) -> str:
        """Return its log."""
        return self.log.read_text()

    def started(self) -> list[int]:
        """Return the pids of all workers so far."""
        return [int(pid) for pid in re.findall(r"worker \d+ started, pid (\d+)", self.text())]

    def wait_up(self, count: int) -> list[int]:
        """Wait until so many workers have started in all and are up. Returns their pids."""
        wait_until(lambda: self.text().count("started: group") >= count, 60, "the workers")
        return self.started()

    def ledger(self) -> list[int]:
        """Return the numbers that were handled."""
        path = self.folder / "ledger"
        return (
            [int(line.split()[0]) for line in path.read_text().splitlines()]
            if (path.exists())
            else []
        )

    def stop(self) -> int:
        """Send SIGTERM. Returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def end(self) -> None:
        """Kill whatever is left."""
        self.process.kill()
        self.process.wait()
        for pid in self.started():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Starter:
    """Starts commands on the session's server."""

    def __init__(self, folder: Path, url: str, namespace: str) -> None:
        self.given = (folder, url, namespace)
        self.commands: list[Command] = []

    def __call__(self, *options: str) -> Command:
        """Start one."""
        self.commands.append(Command(*self.given, *options))
        return self.commands[-1]


@pytest.fixture
def start(tmp_path: Path, redis_url: str, namespace: str) -> Iterator[Starter]:
    """Yield what starts the command; all is killed at the end."""
    starter = Starter(tmp_path, redis_url, namespace)
    yield starter
    for command in starter.commands:
        command.end()


def alive(pid: int) -> bool:
    """Tell whether a process runs (and is no zombie)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_killed_worker_is_replaced_and_all_drain_together(start: Starter, broker: Broker) -> None:
    """The log says why it died; nothing is lost; SIGTERM ends all with 0 and leaves no file."""
    command = start("--processes", "2", "--health-file", "health")
    pids = command.wait_up(2)
    wait_until((command.folder / "health").exists, what="the health of all")
    # A terminal's Ctrl-C goes to a process group: theirs are their own.
    assert [os.getpgid(pid) for pid in pids] == pids
    publish(broker, [{"number": number} for number in range(20)])
    os.kill(pids[0], signal.SIGKILL)
    command.wait_up(3)
    assert "killed by SIGKILL" in command.text()
    wait_until(lambda: settled(broker) and set(command.ledger()) == set(range(20)), 60, "all")
    assert command.stop() == 0
    assert not [pid for pid in command.started() if alive(pid)]
    assert not list(command.folder.glob("health*"))


def test_a_worker_that_is_stopped_is_replaced(start: Starter) -> None:
    """SIGSTOP leaves it alive and silent; it is killed, and another one starts."""
    command = start("--processes", "2", "--hung-s", "10")
    pids = command.wait_up(2)
    os.kill(pids[1], signal.SIGSTOP)
    command.wait_up(3)
    assert not alive(pids[1])
    assert alive(pids[0])
    assert command.stop() == 0


def test_workers_die_with_a_supervisor_that_is_killed(start: Starter) -> None:
    """There is nobody left to end them, and they end."""
    command = start("--processes", "2")
    pids = command.wait_up(2)
    command.process.kill()
    wait_until(lambda: not [pid for pid in pids if alive(pid)], what="the end of the workers")


def test_what_no_restart_can_mend_ends_the_command(start: Starter) -> None:
    """Handlers that can't be imported: exit code 3, said once."""
    command = start("--processes", "3", "broken_module_of_nobody")
    assert command.process.wait(60) == 3
    assert len(command.started()) == 1


def test_no_broker_at_the_first_start_ends_the_command(start: Starter) -> None:
    """Exit code 4, as with one process."""
    command = start("--processes", "2", "--url", "redis://127.0.0.1:1/0")
    assert command.process.wait(60) == 4


def test_a_crash_loop_backs_off(start: Starter) -> None:
    """A worker that dies young again and again waits longer each time."""
    command = start("--processes", "1", "--max-deliveries", "1000")
    for deaths in range(1, 4):
        os.kill(command.wait_up(deaths)[-1], signal.SIGKILL)
    command.wait_up(4)
    waits = [float(wait) for wait in re.findall(r"another in ([\d.]+) s", command.text())]
    assert len(waits) == 3
    assert waits[0] < 1.0
    assert waits[2] >= waits[0]
    assert command.stop() == 0


def test_workers_are_recycled_by_deliveries_and_nothing_is_lost(
    start: Starter, broker: Broker
) -> None:
    """Each is replaced after its share; every number is handled exactly once."""
    command = start("--processes", "2", "--max-deliveries", "10", "--concurrency", "1")
    command.wait_up(2)
    publish(broker, [{"number": number, "sleep_s": 0.05} for number in range(100)])
    command.wait_up(4)
    wait_until(lambda: settled(broker) and len(command.ledger()) >= 100, 120, "all")
    assert sorted(command.ledger()) == list(range(100))
    assert command.stop() == 0


def test_a_worker_that_grows_is_recycled(start: Starter, broker: Broker) -> None:
    """By its own look at its memory, and without losing what it had in hand."""
    command = start("--max-memory-mb", "150", "--concurrency", "1")
    command.wait_up(1)
    publish(broker, [{"number": number, "grow_mb": 60} for number in range(6)])
    command.wait_up(2)
    assert "MiB, more than 150" in command.text()
    wait_until(lambda: settled(broker) and len(command.ledger()) >= 6, 60, "all")
    assert sorted(command.ledger()) == list(range(6))
    assert command.stop() == 0


def test_a_drain_that_takes_too_long_is_exit_code_5(start: Starter, broker: Broker) -> None:
    """One worker of two is still running its handler."""
    command = start("--processes", "2", "--drain-timeout-s", "1")
    command.wait_up(2)
    publish(broker, [{"number": 1, "sleep_s": 600}])
    wait_until((command.folder / "begun").exists, what="the handler")
    assert command.stop() == 5


def test_a_second_os_signal_ends_all_at_once(start: Starter, broker: Broker) -> None:
    """The drain of a long handler is cut short."""
    command = start("--processes", "2")
    command.wait_up(2)
    publish(broker, [{"number": 1, "sleep_s": 600}])
    wait_until((command.folder / "begun").exists, what="the handler")
    command.process.send_signal(signal.SIGINT)
    wait_until(lambda: "SIGINT: all workers finish" in command.text(), what="the first one")
    assert command.stop() == 5
    assert "again: stopping at once" in command.text()


def test_sighup_recycles_one_after_the_other(start: Starter) -> None:
    """Four workers have started in the end, and two run."""
    command = start("--processes", "2")
    pids = command.wait_up(2)
    # Both must have told the supervisor that they are up; it waits for that by itself.
    command.process.send_signal(signal.SIGHUP)
    started = command.wait_up(4)
    assert not [pid for pid in pids if alive(pid)]
    assert len(started) == 4
    assert command.stop() == 0
    assert SIGNAL in command.text()
