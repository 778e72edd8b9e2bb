"""The half of the demo without the relay: Lback as it is published, HTTP, SMTP, processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.smtp_server import smtp_server

from lback_relay.demo.processes import Child, DemoFailed
from lback_relay.demo.scenario import Stage, prepare, web_socket, without_relay

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.lback, pytest.mark.slow]


class Progress:
    """Remembers what was reported."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.steps: list[tuple[str, int, int]] = []

    def say(self, text: str) -> None:
        """Remember a text."""
        self.said.append(text)

    def advance(self, what: str, done: int, total: int) -> None:
        """Remember a step."""
        self.steps.append((what, done, total))


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let child processes import this checkout, installed or not."""
    found = os.pathsep.join([str(ROOT), str(ROOT / "worker")])
    monkeypatch.setenv("PYTHONPATH", found)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A mail server without delay and a seeded project."""
    with smtp_server() as smtp, web_socket() as web:
        ready = Stage(folder=tmp_path, smtp=smtp, web=web, reporter=Progress())
        prepare(ready)
        yield ready


def test_lback_alone_mails_from_the_web_process(stage: Stage) -> None:
    """Each registration sends its mail itself, to its user, with a link to this application."""
    assert len(without_relay(stage, users=2)) == 2
    mails = stage.smtp.mails
    assert [mail.to for mail in mails] == [("before1@example.org",), ("before2@example.org",)]
    assert {mail.login for mail in mails} == {"web-without-relay@example.org"}
    assert f"http://{stage.host}/api/auth/verify-email/?token=" in mails[0].body
    assert isinstance(stage.reporter, Progress)
    assert stage.reporter.steps[-1] == ("Registered without the relay", 2, 2)


def test_the_registration_takes_as_long_as_its_mail(stage: Stage) -> None:
    """The mail is sent inside the request: this is what the relay takes out."""
    stage.smtp.delay_s = 1.0
    (took_s,) = without_relay(stage, users=1)
    assert took_s > stage.smtp.delay_s


def test_a_refused_registration_ends_the_demo_with_the_answer(stage: Stage) -> None:
    """The same users again: the message has the status and the end of the log."""
    without_relay(stage, users=1)
    with pytest.raises(DemoFailed, match=r"1 registrations failed, the first with HTTP 4\d\d"):
        without_relay(stage, users=1)


def test_a_web_application_that_does_not_start_is_told_with_its_log(stage: Stage) -> None:
    """No waiting for the time limit: the process has ended, and the log says why."""
    (stage.project / "myproject" / "wsgi.py").write_text("raise ImportError('no such shop')\n")
    with pytest.raises(DemoFailed, match=r"(?s)web-without-relay ended by itself.*no such shop"):
        without_relay(stage, users=1)


def test_nothing_runs_once_the_half_is_over(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The web application's whole process group has gone."""
    started: list[int] = []
    original = Stage.start

    def remember(self: Stage, *arguments: object, **options: object) -> Child:
        child = original(self, *arguments, **options)  # type: ignore[arg-type]
        started.append(child.pid)
        return child

    monkeypatch.setattr(Stage, "start", remember)
    without_relay(stage, users=1)
    assert started
    for pid in started:
        with pytest.raises(ProcessLookupError):
            os.killpg(pid, 0)
