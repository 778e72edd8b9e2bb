"""What ``lback-relay demo`` says and returns, however its course ends. No process is started."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import pytest

from lback_relay.demo import command
from lback_relay.demo.figures import Figures, count
from lback_relay.demo.processes import DemoFailed
from lback_relay.demo.scenario import Stage

WORKERS = ("worker-1", "worker-2")
Course = Callable[[Stage], Figures]


class NoServer:
    """Stands in for the broker and for the mail server."""

    url = "unix:///nowhere"
    port = 25

    def __init__(self, **_: object) -> None:
        pass

    def __enter__(self) -> NoServer:  # noqa: PYI034 - Self came with Python 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Run the command with the given course in place of the real one; folders go to tmp_path."""
    monkeypatch.setattr(command, "EmbeddedServer", NoServer)
    monkeypatch.setattr(command, "SmtpServer", NoServer)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def run(course: Course, *, users: int = 1, as_json: bool = False) -> int:
        def with_relay(stage: Stage, **_: object) -> Figures:
            return course(stage)

        monkeypatch.setattr(command, "prepare", lambda _: None)
        monkeypatch.setattr(command, "without_relay", lambda _: [2.5])
        monkeypatch.setattr(command, "with_relay", with_relay)
        code = command.run_demo(users=users, as_json=as_json)
        assert list(tmp_path.iterdir()) == []
        return code

    return run


def figures(delivered: list[tuple[str, str]]) -> Figures:
    """Count these mails to one user."""
    return count(
        without_s=[2.5], with_s=[0.25], registered=["a"], delivered=delivered, workers=WORKERS
    )


def test_a_demo_that_kept_its_promises_ends_with_the_table(
    play: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0, and nothing on standard error."""
    assert play(lambda _: figures([("a", "worker-1")])) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.startswith("Starting a broker, and a mail server that takes 2 s per mail\n")
    assert captured.out.splitlines()[-1].startswith("delivered by worker-2")


def test_json_is_the_only_line_of_the_output(
    play: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """The progress goes to standard error, so that the output can be piped."""
    assert play(lambda _: figures([("a", "worker-1")]), as_json=True) == 0
    captured = capsys.readouterr()
    (line,) = captured.out.splitlines()
    assert json.loads(line)["per_worker"] == {"worker-1": 1, "worker-2": 0}
    assert captured.err.startswith("Starting")


def test_a_broken_promise_is_told_with_the_figures_and_the_ends_of_the_logs(
    play: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder goes, so that what the logs say has to be said now."""

    def course(stage: Stage) -> Figures:
        (stage.folder / "worker-1.log").write_text("starting\nno such mail server\n")
        return figures([])

    assert play(course, as_json=True) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["lost"] == 1
    assert "lback-relay: the demo broke its promise: 1 mails were lost" in captured.err
    assert "the end of worker-1's log:\n    starting\n    no such mail server" in captured.err


def test_a_demo_that_can_not_go_on_says_why(
    play: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """No figures, no traceback."""

    def course(_: Stage) -> Figures:
        raise DemoFailed("worker-1 ended by itself with exit code 3; its log is empty")

    assert play(course) == 1
    captured = capsys.readouterr()
    assert captured.err == (
        "lback-relay: the demo failed: worker-1 ended by itself with exit code 3; "
        "its log is empty\n"
    )
    assert "registered" not in captured.out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_os_signal_ends_it_after_every_process(
    play: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    code: int,
) -> None:
    """What runs is ended first; then the folder goes, and the exit code tells the OS signal."""
    started: list[Stage] = []

    def course(stage: Stage) -> Figures:
        (stage.project).mkdir()
        started.append(stage)
        child = stage.start("sleeper", ["-c", "import time; time.sleep(600)"])
        child.check()
        os.kill(os.getpid(), number)
        pytest.fail("it went on")

    assert play(course) == code
    (child,) = started[0].started
    with pytest.raises(ProcessLookupError):
        os.killpg(child.pid, 0)
    assert "stopped; nothing is left behind" in capsys.readouterr().err


def test_a_missing_extra_is_found_before_anything_starts(
    play: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processes need what the command itself never imports."""
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "waitress" else name)
    with pytest.raises(ModuleNotFoundError) as raised:
        play(lambda _: pytest.fail("it went on"))
    assert raised.value.name == "waitress"
