"""A handler that fails until it is mended: dead letters, the fix, ``lback-relay dead retry``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.waiting import wait_until
from support.workers import GROUP, SIGNAL, publish, settled

from lback_relay.broker import Broker

pytestmark = pytest.mark.broker

# One short line per run, appended in one write.
HANDLERS = '''
"""Handlers of this test."""
import os

from lback_relay import HandlerContext, remote_dispatcher

LEDGER = os.open("ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def write(what, number, context):
    os.write(LEDGER, f"{what} {number} {context.attempt}\\n".encode())


@remote_dispatcher.receiver("user_registered", name="before")
def before(sender, number, context: HandlerContext, **kwargs):
    write("before", number, context)


@remote_dispatcher.receiver(
    "user_registered", name="broken", max_attempts=2, backoff_base_s=0.01
)
def broken(sender, number, context: HandlerContext, **kwargs):
    if not os.path.exists("mended"):
        raise ConnectionRefusedError("the mail server is away")
    write("broken", number, context)


@remote_dispatcher.receiver("user_registered", name="after")
def after(sender, number, context: HandlerContext, **kwargs):
    write("after", number, context)
'''


@pytest.fixture
def environment(redis_url: str, namespace: str) -> dict[str, str]:
    """What names the test's broker."""
    clean = {name: text for name, text in os.environ.items() if "LBACK_" not in name}
    return {**clean, "LBACK_RELAY_URL": redis_url, "LBACK_RELAY_NAMESPACE": namespace}


@pytest.fixture
def worker(tmp_path: Path, environment: dict[str, str]) -> Iterator[Path]:
    """Run a worker of the handlers above; yield its folder."""
    (tmp_path / "handlers.py").write_text(HANDLERS)
    with (
        (tmp_path / "worker.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "lback_signal_worker", "handlers", "--group", GROUP],
            cwd=tmp_path,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            yield tmp_path
        finally:
            process.kill()


@pytest.fixture
def dead(tmp_path: Path, environment: dict[str, str]) -> Callable[..., str]:
    """Run ``lback-relay dead`` and return what it prints."""

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "lback_relay.cli", "dead", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def lines(folder: Path, what: str) -> list[tuple[int, int]]:
    """Return (number, attempt) of each line of one handler, sorted."""
    written = [line.split() for line in (folder / "ledger").read_text().splitlines()]
    return sorted((int(number), int(attempt)) for kind, number, attempt in written if kind == what)


def test_a_mended_handler_gets_its_dead_letters_and_no_other_does(
    broker: Broker, worker: Path, dead: Callable[..., str]
) -> None:
    """Each once, as a first attempt; its neighbours, which had succeeded, do not run again."""
    publish(broker, [{"number": number} for number in range(5)])
    wait_until(lambda: broker.backlog(SIGNAL, GROUP)["dead"] == 5, 60, "the dead letters")
    wait_until(lambda: settled(broker), 60, "the settlements")
    assert lines(worker, "broken") == []
    shown = json.loads(dead("list", "--json"))
    assert [(each["handler"], each["reason"], each["letters"]) for each in shown["counts"]] == [
        ("broken", "attempts", 5)
    ]
    letter = dead("show", shown["newest"][0]["id"])
    assert "ConnectionRefusedError: the mail server is away" in letter
    assert "in broken" in letter

    (worker / "mended").touch()
    assert dead("retry", "--error", "mail server").startswith("retried 5 dead letters\n")
    wait_until(lambda: len(lines(worker, "broken")) == 5, 60, "the retried letters")
    wait_until(lambda: settled(broker), 60, "the settlements")
    once_each = [(number, 1) for number in range(5)]
    for handler in ("before", "broken", "after"):
        assert lines(worker, handler) == once_each
    assert dead("list") == "there are no dead letters\n"
