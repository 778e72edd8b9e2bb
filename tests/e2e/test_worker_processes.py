"""The command ``lback-signal-worker`` in real processes on a real broker."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.waiting import wait_until
from support.workers import SIGNAL, publish, settled

from lback_relay.broker import Broker
from lback_signal_worker.health import main as health

pytestmark = pytest.mark.broker

# The ledger is one file for all workers: one short line per run, appended in one write.
HANDLERS = '''
"""Handlers of this test."""
import os
import sys
import time

from lback_relay import remote_dispatcher

LEDGER = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def write(what, number):
    os.write(LEDGER, f"{what} {number} {os.environ['WORKER']}\\n".encode())


@remote_dispatcher.receiver("user_registered", name="plain")
def plain(sender, number, action="", **kwargs):
    write("start", number)
    while action == "hang" and not os.path.exists(os.environ["LEDGER"] + ".release"):
        time.sleep(0.01)
    if action == "die" and os.environ["WORKER"] != "careful":
        os._exit(9)
    write("end", number)


@remote_dispatcher.receiver("user_updated", delivery="broadcast", name="heard")
async def heard(sender, number, **kwargs):
    write("heard", number)
'''


class Workers:
    """Starts worker processes in one folder, and reads what their handlers wrote."""

    def __init__(self, folder: Path, url: str, namespace: str, stack: ExitStack) -> None:
        self.folder = folder
        self.ledger = folder / "ledger"
        self._stack = stack
        self._environment = {
            **{name: text for name, text in os.environ.items() if "LBACK_" not in name},
            "LEDGER": str(self.ledger),
            "LBACK_RELAY_URL": url,
            "LBACK_RELAY_NAMESPACE": namespace,
        }
        (folder / "handlers.py").write_text(HANDLERS)

    def start(self, name: str, *arguments: str, wait: bool = True) -> subprocess.Popen[bytes]:
        """Start a worker; its output goes to NAME.log. Waits until it says that it runs."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            worker = subprocess.Popen(
                [sys.executable, "-m", "lback_signal_worker", *(arguments or ("handlers",))],
                cwd=self.folder,
                env={**self._environment, "WORKER": name},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._stack.callback(_end, worker)
        if wait:
            wait_until(
                lambda: b"started: " in log.read_bytes() or worker.poll() is not None,
                what=f"the start of {name}",
            )
            assert worker.poll() is None, log.read_text()
        return worker

    def log(self, name: str) -> str:
        """Return what a worker has printed."""
        return (self.folder / f"{name}.log").read_text()

    def lines(self, what: str) -> list[tuple[int, str]]:
        """Return (number, worker) of each line of one kind."""
        if not self.ledger.exists():
            return []
        written = [line.split() for line in self.ledger.read_text().splitlines()]
        return [(int(number), worker) for kind, number, worker in written if kind == what]

    def release(self) -> None:
        """Let hanging handlers go on."""
        (self.folder / "ledger.release").touch()


def _end(worker: subprocess.Popen[bytes]) -> None:
    if worker.poll() is None:
        worker.kill()
    worker.wait()


@pytest.fixture
def workers(tmp_path: Path, redis_url: str, namespace: str) -> Iterator[Workers]:
    """Yield what starts workers in this test's folder; they end with the test."""
    with ExitStack() as stack:
        yield Workers(tmp_path, redis_url, namespace, stack)


def stop(worker: subprocess.Popen[bytes]) -> int:
    """Ask a worker to stop and return its exit code."""
    worker.send_signal(signal.SIGTERM)
    return worker.wait(60)


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


def test_the_start_line_says_what_runs(workers: Workers) -> None:
    """Group, slots, signals with their handlers, and no password."""
    worker = workers.start("one", "handlers", "--group", "shop mails", "--concurrency", "3")
    assert stop(worker) == 0
    assert re.search(
        r"INFO started: group shop mails, 3 slots, redis://127\.0\.0\.1:\d+.*"
        r"user_registered -> plain; user_updated -> heard",
        workers.log("one"),
    )


# What a user can get wrong --------------------------------------------------------------------


def refused(workers: Workers, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run the command until its end. Returns its exit code and what it said."""
    ran = subprocess.run(
        [sys.executable, "-m", "lback_signal_worker", *arguments],
        cwd=workers.folder,
        env={**workers._environment, "WORKER": "refused", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stdout == ""
    assert "Traceback" not in ran.stderr
    return ran.returncode, ran.stderr


def test_no_broker_at_the_url_is_4_after_some_tries(workers: Workers) -> None:
    """It says where, and what to do."""
    code, said = refused(
        workers, "handlers", "--url", "redis://:secret@127.0.0.1:1/0", LEDGER=str(workers.ledger)
    )
    assert code == 4
    assert "waiting for the broker" in said
    last = said.splitlines()[-1]
    assert "127.0.0.1:1" in last
    assert "start it, or give its address in LBACK_RELAY_URL or --url" in last
    assert "secret" not in said


def test_a_wrong_password_is_4_at_once(workers: Workers, redis_url: str) -> None:
    """Trying again would not help."""
    url = redis_url.replace("redis://", "redis://nobody:wrong@")
    code, said = refused(workers, "handlers", "--url", url)
    assert code == 4
    assert "LBACK_RELAY_URL" in said
    assert "waiting" not in said
    assert "wrong@" not in said


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("handlres", None, "no module named 'handlres'; did you mean 'handlers'?"),
        ("zzz.handlers", None, "no module named 'zzz' on sys.path"),
        ("handlers.py", None, "is a file; name the module instead: handlers"),
        ("broken", "import os\n1 / 0\n", "ZeroDivisionError: division by zero at .*broken.py:2"),
        ("broken", "def (:\n", "SyntaxError: .* at .*broken.py:1"),
        (
            "broken",
            "import nothing_there\n",
            "ModuleNotFoundError: .* 'nothing_there'",
        ),
        ("broken", "import sys\nsys.exit(1)\n", "SystemExit: 1 at .*broken.py:2"),
        ("silent", "x = 1\n", "no handler is registered by silent: decorate"),
        (
            "impossible",
            """
            from lback_relay import remote_dispatcher

            @remote_dispatcher.receiver("user_registered")
            def handler(user):
                pass
            """,
            r"impossible.handler takes no 'sender'; .* at .*impossible.py:4",
        ),
    ],
)
def test_a_module_that_can_not_be_used_is_3(
    workers: Workers, module: str, source: str | None, expected: str
) -> None:
    """The sentence names the module, the place, and what to do."""
    if source is not None:
        (workers.folder / f"{module}.py").write_text(textwrap.dedent(source))
    code, said = refused(workers, module)
    assert code == 3, said
    assert re.search(expected, said), said
    assert said.startswith("lback-signal-worker: ")
    assert len(said.splitlines()) == 1


def test_settings_with_an_error_are_2(workers: Workers) -> None:
    """With file, line and error."""
    (workers.folder / "settings.py").write_text("import os\nRELAY_URL = os.environ['NOT_SET']\n")
    code, said = refused(workers, "handlers")
    assert code == 2
    assert re.search(r"settings.py: line 2: KeyError: 'NOT_SET'", said)


def test_all_wrong_options_are_named_at_once(workers: Workers) -> None:
    """By the names that the user wrote."""
    code, said = refused(
        workers, "handlers", "--concurrency", "0", "--drain-timeout-s", "-1", "--group", ""
    )
    assert code == 2
    assert "3 problems" in said
    for option in ("--concurrency", "--drain-timeout-s", "--group"):
        assert f"  - {option}: must" in said
    code, said = refused(workers, "handlers", "--drain-timeout-s", "30")
    assert code == 2
    assert "not below stop_grace_s (30)" in said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("handlers", "--concurency", "3"), "Did you mean --concurrency"),
        ((), "Missing argument"),
        (("handlers", "--url", "http://x"), "--url: "),
        (("handlers", "--config", "missing.toml"), "missing.toml: there is no such file"),
        (("handlers", "--settings", "missing.py"), "missing.py"),
    ],
)
def test_wrong_usage_is_2(workers: Workers, arguments: tuple[str, ...], expected: str) -> None:
    """In one sentence."""
    code, said = refused(workers, *arguments)
    assert code == 2, said
    assert expected in said


def test_without_project_and_url_it_asks_for_one(workers: Workers) -> None:
    """The default broker would be a guess."""
    del workers._environment["LBACK_RELAY_URL"]
    code, said = refused(workers, "handlers")
    assert code == 2
    assert "--settings FILE, --config FILE.toml or --url URL" in said


def test_handlers_that_nothing_will_reach_are_warned_of(workers: Workers) -> None:
    """A misspelt signal is the likely reason; the worker runs all the same."""
    (workers.folder / "settings.py").write_text(
        "RELAY_SIGNALS = {'user_registerd': {}, 'user_updated': {'delivery': 'queue'}}\n"
    )
    worker = workers.start("warned")
    assert stop(worker) == 0
    said = workers.log("warned")
    assert (
        "nothing will arrive for the handlers of 'user_registered': it is not in RELAY_SIGNALS; "
        "did you mean 'user_registerd'?" in said
    )
    assert "nothing will arrive for heard: it takes 'user_updated' by broadcast" in said


def test_an_os_signal_while_the_broker_is_awaited_ends_the_command(workers: Workers) -> None:
    """It has nothing to drain."""
    worker = workers.start("early", "handlers", "--url", "redis://127.0.0.1:1/0", wait=False)
    wait_until(lambda: "waiting for the broker" in workers.log("early"), what="the first try")
    assert stop(worker) == 0
