"""How the command ``lback-signal-worker`` starts, and what it refuses, with which exit code."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
from time import monotonic

import pytest
from support.waiting import wait_until
from support.worker_processes import Workers, stop

pytestmark = pytest.mark.broker

SLOW = """
import threading, time
from pathlib import Path

threading.Thread(target=time.sleep, args=(600,)).start()
Path("importing").touch()
try:
    time.sleep(600)
except Exception:
    pass
"""


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
        env={**workers.environment, "WORKER": "refused", **environment},
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
        ("handlers.py", None, "is a file; name the module instead: handlers\n"),
        ("./shop/handlers.py", None, "is a file; name the module instead: shop.handlers\n"),
        ("/srv/shop/h.py", None, "is a file; start the worker in /srv/shop and name .* h\n"),
        ("../shop/h.py", None, "is a file; start the worker in /.*/shop and name .* h\n"),
        ("shop/../h.py", None, "is a file; start the worker in /.*[^.] and name .* h\n"),
        ("broken", "import os\n1 / 0\n", "ZeroDivisionError: division by zero at .*broken.py:2"),
        ("broken", "def (:\n", "SyntaxError: .* at .*broken.py:1"),
        (
            "broken",
            "import nothing_there\n",
            "ModuleNotFoundError: .* 'nothing_there'",
        ),
        ("broken", "import sys\nsys.exit(1)\n", "SystemExit: 1 at .*broken.py:2"),
        ("broken", "raise KeyboardInterrupt\n", "imported: KeyboardInterrupt at .*broken.py:1"),
        (
            "broken",
            "class Own(BaseException):\n    pass\n\nraise Own('password=geheim')\n",
            r"imported: Own: password=\[redacted\] at .*broken.py:4",
        ),
        (
            "broken",
            "class Odd(Exception):\n    def __str__(self):\n        raise self\n\nraise Odd\n",
            r"imported: Odd: \(its text can't be made\) at .*broken.py:5",
        ),
        (
            "broken",
            r"raise OSError('\x1b[2J\x07 redis://u:geheim@h ?token=geheim password=geheim')",
            r"OSError: \\x1b\[2J\\x07 redis://\S+@h \?token=\S+ password=\S+ at .*broken.py:1",
        ),
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
    assert "geheim" not in said
    assert said.startswith("lback-signal-worker: ")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "type('Own', (BaseException,), {})"])
def test_whatever_a_module_raises_several_processes_end_as_one_does(
    workers: Workers, raised: str
) -> None:
    """No restart can mend it."""
    (workers.folder / "broken.py").write_text(f"raise {raised}\n")
    code, said = refused(workers, "broken", "--processes", "2")
    assert code == 3, said
    assert said.count("broken can't be imported") == 1


def test_settings_with_an_error_are_2(workers: Workers) -> None:
    """With file, line and error."""
    (workers.folder / "settings.py").write_text("import os\nRELAY_URL = os.environ['NOT_SET']\n")
    code, said = refused(workers, "handlers")
    assert code == 2
    assert re.search(r"settings.py: line 2: KeyError: 'NOT_SET'", said)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_settings_that_interrupt_themselves_are_2(workers: Workers, processes: str) -> None:
    """Nobody has pressed Ctrl-C, and no restart can mend it."""
    (workers.folder / "settings.py").write_text("raise KeyboardInterrupt\n")
    code, said = refused(workers, "handlers", "--processes", processes)
    assert code == 2
    assert "the settings raise KeyboardInterrupt" in said


def test_settings_that_a_handler_module_needs_are_2(workers: Workers) -> None:
    """As wrong settings are elsewhere: each problem in its line, and whose they are."""
    code, said = refused(workers, "lback_relay.lback.email_handler")
    assert code == 2
    first, *problems = said.splitlines()
    assert first == (
        "lback-signal-worker: lback_relay.lback.email_handler: the project's mail settings: "
        "2 problems"
    )
    assert [problem.partition(":")[0] for problem in problems] == [
        "  - SMTP_SERVER",
        "  - EMAIL_USERNAME",
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".", "--health-file: is a folder; name a file in it"),
        ("missing/health", "--health-file: its folder 'missing' is not there; make it"),
        ("handlers.py/health", "--health-file: its folder 'handlers.py' is not there; make it"),
    ],
)
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_health_file_that_can_not_be_is_2(
    workers: Workers, path: str, expected: str, processes: str
) -> None:
    """By the option or its variable."""
    code, said = refused(workers, "handlers", "--health-file", path, "--processes", processes)
    assert code == 2
    assert said == f"lback-signal-worker: options: {expected}\n"
    code, said = refused(workers, "handlers", LBACK_SIGNAL_WORKER_HEALTH_FILE=path)
    assert code == 2
    assert expected in said


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


def test_misspelt_and_empty_variables_are_2(workers: Workers) -> None:
    """As those of the relay, and beside the options' own problems; also before several start."""
    environment = {"LBACK_SIGNAL_WORKER_CONCURENCY": "64", "LBACK_SIGNAL_WORKER_GROUP": ""}
    for arguments in ((), ("--processes", "2"), ("--group", "mails")):
        code, said = refused(workers, "handlers", "--hung-s", "1", *arguments, **environment)
        assert code == 2
        assert "environment and options: 3 problems" in said
        assert (
            "  - LBACK_SIGNAL_WORKER_CONCURENCY: is no variable of the worker; did you mean "
            "'LBACK_SIGNAL_WORKER_CONCURRENCY'?\n" in said
        )
        assert "  - LBACK_SIGNAL_WORKER_GROUP: is empty; give it a value or unset it\n" in said


def test_variables_that_kubernetes_makes_are_warned_of(workers: Workers) -> None:
    """A service named lback-signal-worker gives every container such variables."""
    port = "LBACK_SIGNAL_WORKER_PORT"
    workers.environment |= {port: "tcp://10.0.0.1:80", f"{port}_80_TCP_ADDR": "10.0.0.1"}
    worker = workers.start("odd", "handlers", "--processes", "2")
    assert stop(worker) == 0
    warning = f"WARNING worker 1 .*{port}: is no variable of the worker and is ignored"
    assert len(re.findall(warning, workers.log("odd"))) == 1


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
    del workers.environment["LBACK_RELAY_URL"]
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("processes", ["1", "2"])
def test_an_os_signal_while_handlers_are_imported_ends_the_command(
    workers: Workers, number: signal.Signals, processes: str
) -> None:
    """At once: nothing is in hand. Threads that a module has left behind hold up nobody."""
    (workers.folder / "slow.py").write_text(SLOW)
    worker = workers.start("early", "slow", "--processes", processes, wait=False)
    wait_until((workers.folder / "importing").exists, what="the import")
    begun = monotonic()
    worker.send_signal(number)
    assert worker.wait(60) == 0
    assert monotonic() - begun < 30
    assert "Traceback" not in workers.log("early")


def test_an_os_signal_while_settings_are_read_ends_the_command(workers: Workers) -> None:
    """They may ask a network for something."""
    (workers.folder / "settings.py").write_text(SLOW)
    worker = workers.start("early", wait=False)
    wait_until((workers.folder / "importing").exists, what="the settings")
    assert stop(worker) == 0


def test_an_os_signal_while_the_broker_is_awaited_ends_the_command(workers: Workers) -> None:
    """It has nothing to drain."""
    worker = workers.start("early", "handlers", "--url", "redis://127.0.0.1:1/0", wait=False)
    wait_until(lambda: "waiting for the broker" in workers.log("early"), what="the first try")
    assert stop(worker) == 0
