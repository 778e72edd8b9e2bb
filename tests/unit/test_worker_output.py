"""What the worker's process writes: a line that a handler prints comes at once, and whole."""

import io
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from lback_signal_worker.logs import write_whole_lines

LINES_OF_EACH = 50


class Pipe(io.RawIOBase):
    """Keeps what each write brings, and lets all other threads run before it returns."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.written.append(bytes(data))
        threading.Event().wait(0.001)
        return len(data)


def _stdout(pipe: Any, *, unbuffered: bool) -> io.TextIOWrapper:
    """Return what Python makes of a pipe, as PYTHONUNBUFFERED is set or not."""
    if unbuffered:
        return io.TextIOWrapper(pipe, encoding="utf-8", write_through=True)
    return io.TextIOWrapper(io.BufferedWriter(pipe), encoding="utf-8")


@pytest.mark.parametrize("unbuffered", [True, False])
def test_lines_of_two_threads_do_not_mix(
    monkeypatch: pytest.MonkeyPatch, *, unbuffered: bool
) -> None:
    """As those of two handlers that run at once."""
    pipe = Pipe()
    monkeypatch.setattr(sys, "stdout", _stdout(pipe, unbuffered=unbuffered))
    write_whole_lines()

    def print_all() -> None:
        for _ in range(LINES_OF_EACH):
            print("Signal received")  # noqa: T201 - as handlers do

    threads = [threading.Thread(target=print_all) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Each write is whole lines: whatever comes between two of them can't break one.
    assert all(data.endswith(b"\n") for data in pipe.written)
    assert b"".join(pipe.written) == b"Signal received\n" * 2 * LINES_OF_EACH


@pytest.mark.parametrize("unbuffered", [True, False])
def test_a_line_is_written_when_it_is_printed(
    monkeypatch: pytest.MonkeyPatch, *, unbuffered: bool
) -> None:
    """A worker that is killed after it has lost none."""
    pipe = Pipe()
    monkeypatch.setattr(sys, "stdout", _stdout(pipe, unbuffered=unbuffered))
    write_whole_lines()
    print("Signal received")  # noqa: T201 - as handlers do
    assert b"".join(pipe.written) == b"Signal received\n"


@pytest.mark.parametrize("replaced", [None, io.StringIO()])
def test_an_output_that_is_not_the_interpreters_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch, replaced: io.StringIO | None
) -> None:
    """Closed (pythonw, some supervisors), or replaced by a handlers' module."""
    monkeypatch.setattr(sys, "stdout", replaced)
    write_whole_lines()
    assert sys.stdout is replaced


def test_the_command_loses_nothing_that_was_printed(tmp_path: Path) -> None:
    """Not even when it is killed, as far as anybody can tell, in the next moment."""
    (tmp_path / "relay.toml").write_text("[signals.user_registered]\n")
    (tmp_path / "fatal.py").write_text("import os\nprint('Signal received')\nos._exit(9)\n")
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-m", "lback_signal_worker", "fatal", "--config", "relay.toml"],
        cwd=tmp_path, env=kept, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (9, "Signal received\n"), done.stderr
