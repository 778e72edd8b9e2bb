"""``lback-relay spool`` as a user runs it, with a real Redis that was away."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.brokers import raw_client
from support.outboxes import in_stream

from lback_relay.broker.keys import Keys
from lback_relay.cli import main
from lback_relay.config import RelayConfig, SignalConfig
from lback_relay.relay import Relay
from lback_relay.spool import Spool
from lback_relay.spool_place import spool_path

ROOT = Path(__file__).parents[2]
NOWHERE = "redis://:planted@127.0.0.1:1/0"
"""Nobody listens on that port."""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The user's folder for state."""
    return tmp_path / "state"


def run(
    *arguments: str, state: Path, group: tuple[str, ...] = ("spool",), **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the real command."""
    environ = {name: v for name, v in os.environ.items() if not name.startswith("LBACK_RELAY_")}
    return subprocess.run(
        [sys.executable, "-m", "lback_relay.cli", *group, *arguments],
        cwd=state.parent,
        env={**environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(state), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def config_of(url: str, namespace: str, state: Path) -> RelayConfig:
    """Return the config of a process that sends two signals."""
    return RelayConfig(
        signals={name: SignalConfig(name=name) for name in ("order_paid", "user_registered")},
        url=url,
        namespace=namespace,
        publishing="sync",
        spool_dir=str(state / "lback-relay"),
    )


def leave(config: RelayConfig, signal: str, *names: str) -> Path:
    """Leave envelopes as a process does that ends while its broker is away. Returns the file."""
    relay = Relay(config)
    for name in names:
        assert relay.relay(signal, "sender", {"order": name})
    relay.close()
    assert relay.counts()["spooled"] == len(names)
    return spool_path(Path(config.spool_dir), config)


def left_in(file: Path) -> dict[str, int]:
    """Return how many envelopes of each signal are in a spool."""
    spool = Spool(file)
    try:
        return {each.signal: each.envelopes for each in spool.waiting()}
    finally:
        spool.close()


def test_status_lists_what_waits(state: Path, namespace: str) -> None:
    """By signal, with its size and age; the broker's password is not told."""
    config = config_of(NOWHERE, namespace, state)
    nothing = run("status", "--url", NOWHERE, state=state, LBACK_RELAY_NAMESPACE=namespace)
    assert nothing.returncode == 0, nothing.stderr
    assert "nothing waits" in nothing.stdout
    file = leave(config, "order_paid", "a", "b")
    leave(config, "user_registered", "c")
    done = run("status", "--url", NOWHERE, state=state, LBACK_RELAY_NAMESPACE=namespace)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"folder  {state}/lback-relay"
    assert f"{file.name}  " in done.stdout
    assert f"for redis://:***@127.0.0.1:1/0, namespace {namespace}" in done.stdout
    rows = [line.split()[:2] for line in lines if line.startswith(("order", "user"))]
    assert rows == [["order_paid", "2"], ["user_registered", "1"]]
    assert "planted" not in done.stdout
    elsewhere = run("status", "--url", "redis://127.0.0.1:2/0", state=state)
    assert "for another broker or namespace" in elsewhere.stdout
    assert "order_paid" in elsewhere.stdout


def test_check_tells_what_waits(state: Path, namespace: str) -> None:
    """Where it is, and how much, with all else that it says of the config."""
    leave(config_of(NOWHERE, namespace, state), "order_paid", "a", "b")
    file = state.parent / "relay.toml"
    file.write_text(f'url = "{NOWHERE}"\nnamespace = "{namespace}"\n[signals.order_paid]\n')
    done = run("check", "--config", str(file), "--no-ping", state=state, group=())
    assert done.returncode == 0, done.stderr
    assert f"spool       {state}/lback-relay, 2 envelopes wait" in done.stdout


def test_drain_sends_it_once_and_in_order(state: Path, redis_url: str, namespace: str) -> None:
    """A dry run before only looks, and a second run finds nothing."""
    config = config_of(NOWHERE, namespace, state)
    names = [f"n{number}" for number in range(300)]
    file = leave(config, "order_paid", *names)
    leave(config, "user_registered", "u")
    # The broker has moved: the file is the one of its old URL.
    moved = ("--url", redis_url, "--file", str(file))

    def drain(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run("drain", *arguments, state=state, LBACK_RELAY_NAMESPACE=namespace)

    looked = drain(*moved, "--dry-run")
    assert looked.returncode == 0, looked.stderr
    assert "order_paid" in looked.stdout
    assert in_stream(redis_url, namespace) == []
    part = drain(*moved, "--signal", "user_registered")
    assert (part.returncode, part.stdout) == (0, "sent 1\n")
    assert in_stream(redis_url, namespace, "order_paid") == []
    done = drain(*moved)
    assert (done.returncode, done.stdout) == (0, "sent 300\n")
    again = drain(*moved)
    assert (again.returncode, again.stdout) == (0, "nothing waits\n")
    assert in_stream(redis_url, namespace, "order_paid") == names
    assert in_stream(redis_url, namespace, "user_registered") == ["u"]


def test_what_the_broker_refuses_stays(state: Path, redis_url: str, namespace: str) -> None:
    """The other signals are sent, and the exit code tells."""
    config = config_of(NOWHERE, namespace, state)
    file = leave(config, "order_paid", "a", "b", "c")
    leave(config, "user_registered", "u")
    with raw_client(redis_url) as client:
        client.set(Keys(namespace).events("order_paid"), "no stream")
    done = run(
        "drain", "--url", redis_url, "--file", str(file), state=state,
        LBACK_RELAY_NAMESPACE=namespace,
    )  # fmt: skip
    assert done.returncode == 4
    assert "order_paid was refused, and stays in the spool" in done.stderr
    assert done.stdout == "sent 1\n"
    assert left_in(file) == {"order_paid": 3}


def test_a_broker_that_is_away_changes_nothing(state: Path, namespace: str) -> None:
    """One sentence, the broker's exit code, and all of it is still there."""
    file = leave(config_of(NOWHERE, namespace, state), "order_paid", "a", "b")
    done = run("drain", "--url", NOWHERE, state=state, LBACK_RELAY_NAMESPACE=namespace)
    assert done.returncode == 4
    assert "does not answer" in done.stderr
    assert "Traceback" not in done.stderr
    assert "planted" not in done.stderr + done.stdout
    assert left_in(file) == {"order_paid": 2}


@pytest.mark.parametrize("command", ["status", "drain"])
def test_a_file_that_can_not_be_read_is_named(state: Path, namespace: str, command: str) -> None:
    """With what to do."""
    file = leave(config_of(NOWHERE, namespace, state), "order_paid", "a")
    file.write_bytes(b"what is this" * 1000)
    done = run(command, "--url", NOWHERE, state=state, LBACK_RELAY_NAMESPACE=namespace)
    assert "is damaged" in done.stderr
    assert "move it away" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if command == "status" else 2)


def test_a_newer_format_is_refused(state: Path, namespace: str) -> None:
    """Another version's file is left alone."""
    file = leave(config_of(NOWHERE, namespace, state), "order_paid", "a")
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    done = run("drain", "--url", NOWHERE, state=state, LBACK_RELAY_NAMESPACE=namespace)
    assert "written by another version of lback_relay (format 99" in done.stderr
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("shared", "others may write to the spool's folder {}; set spool_dir to a folder of its"),
        ("file/deeper", "the spool's folder {} can't be made or used (Not a directory)"),
    ],
)
def test_a_folder_that_can_not_be_used_is_said_before_an_outage(
    state: Path, folder: str, said: str
) -> None:
    """By check as a warning, and by status; neither makes anything."""
    state.parent.joinpath("shared").mkdir()
    state.parent.joinpath("shared").chmod(0o1777)
    state.parent.joinpath("file").write_text("")
    file = state.parent / "relay.toml"
    file.write_text(f'url = "{NOWHERE}"\n[signals.order_paid]\n')
    there = sorted(state.parent.rglob("*"))
    path = str(state.parent / folder)
    checked = run(
        "check", "--config", str(file), "--no-ping", state=state, group=(),
        LBACK_RELAY_SPOOL_DIR=path,
    )  # fmt: skip
    assert (checked.returncode, checked.stderr) == (0, "")
    assert f"spool       {path}\n" in checked.stdout
    warning = f"warning: nothing is kept while the broker is away: {said.format(path)}"
    assert warning in checked.stdout
    status = run("status", "--url", NOWHERE, state=state, LBACK_RELAY_SPOOL_DIR=path)
    assert status.returncode == 0
    assert status.stdout.startswith(f"folder  {path}\n")
    assert status.stderr.startswith(f"lback-relay: {said.format(path)}")
    assert sorted(state.parent.rglob("*")) == there


def test_a_folder_that_may_not_be_entered_is_said(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In sentences. The tests may run as root, who may enter everything."""
    folder = state / "closed"

    def closed(look: Callable[..., Any]) -> Callable[..., Any]:
        def denied(path: Path, *arguments: Any, **options: Any) -> Any:
            if folder in (path, path.parent):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return look(path, *arguments, **options)

        return denied

    with monkeypatch.context() as patch:
        for look in ("stat", "glob", "exists"):
            patch.setattr(Path, look, closed(getattr(Path, look)))
        done = CliRunner().invoke(
            main,
            ["spool", "status", "--url", NOWHERE],
            env={"LBACK_RELAY_SPOOL_DIR": str(folder)},
        )
    assert done.exit_code == 0, done.exception
    assert f"the spool's folder {folder} can't be made or used (Permission denied)" in done.output


def test_an_empty_signal_is_refused(state: Path) -> None:
    """A variable that is not set would find that nothing waits."""
    done = run("drain", "--url", NOWHERE, "--signal", "a", "--signal", "", state=state)
    assert done.returncode == 2
    assert "Invalid value for '--signal': is empty" in done.stderr


def test_no_spool_is_said(state: Path) -> None:
    """A broker inside of a process has none, and it can be turned off."""
    inside = run("status", "--url", "memory://", state=state)
    assert inside.returncode == 2
    assert "a broker of one process" in inside.stderr
    off = run("status", "--url", NOWHERE, state=state, LBACK_RELAY_SPOOL_DIR="off")
    assert off.returncode == 2
    assert "is off" in off.stderr
