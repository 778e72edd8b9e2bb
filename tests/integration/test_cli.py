"""``lback-relay`` as a user runs it, and what it says when something is wrong."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import IO

import click
import pytest
from click.testing import CliRunner

from lback_relay.cli import main
from lback_relay.version import __version__

ROOT = Path(__file__).parents[2]
NO_BROKER = "redis://:hunter2@127.0.0.1:1/0"


def _run(
    *arguments: str, folder: Path = ROOT, stdout: IO[str] | int = subprocess.PIPE, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the real command in ``folder`` with ``variables`` added to a clean environment."""
    environ = {name: v for name, v in os.environ.items() if not name.startswith("LBACK_RELAY_")}
    return subprocess.run(
        [sys.executable, "-m", "lback_relay.cli", *arguments],
        cwd=folder,
        env={**environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **variables},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


def _project(folder: Path, text: str) -> Path:
    (folder / "settings.py").write_text(text, encoding="utf-8")
    return folder


def test_the_version_and_the_help_are_shown() -> None:
    """The help has examples."""
    assert _run("--version").stdout.strip() == f"lback-relay, version {__version__}"
    shown = _run("--help")
    assert shown.returncode == 0
    assert "lback-relay check --config relay.toml" in shown.stdout
    for command in ("check", "demo"):
        assert "Examples:" in _run(command, "--help").stdout


def test_check_lists_what_is_relayed(tmp_path: Path) -> None:
    """Name, delivery, publish, reveal, and what each signal carries."""
    _project(
        tmp_path,
        "RELAY_SIGNALS = {'user_registered': {'reveal': ['user.auth_token']},"
        " 'user_updated': {'delivery': ['queue', 'broadcast'], 'publish': 'immediate'},"
        " 'session_cleanup_started': {}, 'order_paid': {}}\nRELAY_EMAIL = True\n",
    )
    done = _run("check", "--no-ping", folder=tmp_path, LBACK_RELAY_URL=NO_BROKER)
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line}
    assert rows["broker"] == ["broker", "redis://:***@127.0.0.1:1/0"]
    assert rows["user_registered"][1:5] == ["queue", "on_commit", "user.auth_token", "user"]
    assert rows["user_updated"][1:4] == ["queue+broadcast", "immediate", "-"]
    assert rows["session_cleanup_started"][-1] == "nothing"
    assert rows["order_paid"][4:] == ["what", "the", "project", "sends"]
    assert rows["email_requested"][1] == "queue"
    assert done.stdout.splitlines()[-1] == "config is right: 5 signals relayed"


def test_check_reads_a_toml_file_or_a_named_project(tmp_path: Path) -> None:
    """From any folder."""
    file = tmp_path / "relay.toml"
    file.write_text("[signals.user_registered]\n")
    _project(tmp_path, "RELAY_SIGNALS = ['user_registered']\n")
    for given in (
        ("--config", str(file)),
        ("--settings", str(tmp_path)),
        ("--settings", str(tmp_path / "settings.py")),
    ):
        done = _run("check", "--no-ping", *given)
        assert done.returncode == 0, done.stderr
        assert "config is right: 1 signal relayed" in done.stdout


def test_check_shows_warnings_and_still_succeeds(tmp_path: Path) -> None:
    """A misspelt name, and one that is never sent."""
    _project(tmp_path, "RELAY_SIGNALS = ['user_registred', 'user_login_successful']\n")
    done = _run("check", "--no-ping", folder=tmp_path)
    assert done.returncode == 0
    assert "did you mean 'user_registered'?" in done.stdout
    assert "is never sent by lback-framework 1.0.3; user_logged_in is" in done.stdout
    assert "never sent by the framework" in done.stdout


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("RELAY_SIGNALS = [\n", "line 1: SyntaxError: '[' was never closed"),
        ("X = 1 / 0\n", "line 1: ZeroDivisionError: division by zero"),
        ("RELAY_SIGNALS = {'a': {'delivry': 1}}\n", "did you mean 'delivery'?"),
        ("RELAY_URL = 'redis://:hunter2@h'\n", "LBACK_RELAY_URL"),
        ("RELAY_SIGNALS = {'a': {'publish': 'outbx'}}\n", "did you mean 'outbox'?"),
    ],
)
def test_check_tells_wrong_config_in_a_sentence(tmp_path: Path, settings: str, said: str) -> None:
    """Exit code 2, stderr, no traceback, no password."""
    done = _run("check", folder=_project(tmp_path, settings))
    assert done.returncode == 2
    assert done.stderr.startswith(f"lback-relay: {tmp_path / 'settings.py'}: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr + done.stdout


def test_check_outside_of_a_project_says_where_it_looked(tmp_path: Path) -> None:
    """And what to do."""
    done = _run("check", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"lback-relay: {tmp_path}: no settings.py in it or above it")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check", "--config", "no.toml"), "no.toml: there is no such file"),
        (("check", "--settings", "no.py"), "no.py: there is no such file"),
        (("check", "--config", "a", "--settings", "b"), "either --settings or --config"),
        (("chek",), "No such command"),
        (("demo", "--users", "0"), "1<=x<=1000"),
        (("demo", "--users", "1001"), "1<=x<=1000"),
        (("demo", "--users", "many"), "not a valid int"),
    ],
)
def test_wrong_usage_is_told(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    """Exit code 2."""
    done = _run(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_check_without_a_broker_says_so(tmp_path: Path) -> None:
    """Exit code 4, after the config was found right; the password is not shown."""
    _project(tmp_path, "RELAY_SIGNALS = ['user_registered']\n")
    done = _run("check", folder=tmp_path, LBACK_RELAY_URL=NO_BROKER)
    assert done.returncode == 4, done.stderr
    assert "config is right" in done.stdout
    assert done.stderr.startswith("lback-relay: ")
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr + done.stdout


def test_check_pings_the_broker(tmp_path: Path, redis_url: str, namespace: str) -> None:
    """A real one; that of the tests keeps nothing on disk."""
    _project(tmp_path, f"RELAY_SIGNALS = ['user_registered']\nRELAY_NAMESPACE = {namespace!r}\n")
    done = _run("check", folder=tmp_path, LBACK_RELAY_URL=redis_url)
    assert done.returncode == 0, done.stderr
    answer, warning = done.stdout.splitlines()[-2:]
    assert "broker answers, in " in answer
    assert warning == (
        f"warning: broker {redis_url} keeps nothing on disk: what is queued is lost when it "
        "restarts; set appendonly yes"
    )


def test_check_starts_no_embedded_server(tmp_path: Path) -> None:
    """It would answer for itself only."""
    _project(tmp_path, "RELAY_SIGNALS = ['a']\nRELAY_URL = 'embedded://'\n")
    done = _run("check", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "not pinged" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(
    "command",
    [
        ("--help",),
        ("--version",),
        ("keys", "--help"),
        ("keys", "new"),
        ("check", "--no-ping", "--config", "relay.toml"),
        ("spool", "status", "--config", "relay.toml"),
    ],
)
def test_an_output_that_can_not_be_written_is_said_in_a_line(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    """As any other thing that could not be done."""
    (tmp_path / "relay.toml").write_text("[signals.user_registered]\n")
    for unbuffered in ("", "1"):
        with Path("/dev/full").open("w") as full:
            done = _run(*command, folder=tmp_path, stdout=full, PYTHONUNBUFFERED=unbuffered)
        assert done.returncode == 1
        assert done.stderr == "lback-relay: standard output: No space left on device\n"


def test_a_reader_that_has_seen_enough_is_left_in_peace(tmp_path: Path) -> None:
    """As that of "| head -1": no line."""
    behind, ahead = os.pipe()
    os.close(behind)
    with os.fdopen(ahead, "w") as closed:
        done = _run("keys", "rotate-help", folder=tmp_path, stdout=closed)
    assert (done.returncode, done.stderr) == (1, "")


def test_an_error_of_another_file_is_not_laid_on_the_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That is a defect, and is shown as one."""
    _demo(monkeypatch, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert isinstance(CliRunner().invoke(main, ["demo"]).exception, OSError)


# demo ----------------------------------------------------------------------------------------


def _demo(monkeypatch: pytest.MonkeyPatch, outcome: object) -> list[tuple[int, bool]]:
    """Put a demo into place that ends with ``outcome``; return the list of its calls."""
    calls: list[tuple[int, bool]] = []

    def run_demo(*, users: int, as_json: bool) -> object:
        calls.append((users, as_json))
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    module = types.ModuleType("lback_relay.demo.command")
    module.run_demo = run_demo  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lback_relay.demo.command", module)
    return calls


@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        ((), (20, False)),
        (("--users", "1000", "--json"), (1000, True)),
        (("--users", "1"), (1, False)),
    ],
)
def test_demo_hands_its_options_on(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], call: tuple[int, bool]
) -> None:
    """And ends with the demo's exit code."""
    calls = _demo(monkeypatch, 3)
    assert CliRunner().invoke(main, ["demo", *arguments]).exit_code == 3
    assert calls == [call]


def test_demo_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2."""
    _demo(monkeypatch, ModuleNotFoundError("No module", name="aiosmtpd.controller"))
    done = CliRunner().invoke(main, ["demo"])
    assert done.exit_code == 2
    assert "demo needs the extra: pip install 'lback-relay[demo]'" in done.output


def test_a_missing_module_of_our_own_is_not_taken_for_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That is a defect, and is shown as one."""
    _demo(monkeypatch, ModuleNotFoundError("No module", name="lback_relay.gone"))
    assert isinstance(CliRunner().invoke(main, ["demo"]).exception, ModuleNotFoundError)


def test_an_interrupt_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 130, as shells expect."""
    _demo(monkeypatch, KeyboardInterrupt())
    done = CliRunner().invoke(main, ["demo"])
    assert done.exit_code == 130
    assert done.output.strip() == ""


def test_usage_errors_stay_clicks_own() -> None:
    """They show the usage line."""
    done = CliRunner().invoke(main, ["check", "--settings", "a", "--config", "b"])
    assert done.exit_code == click.UsageError.exit_code
    assert "Usage: " in done.output
