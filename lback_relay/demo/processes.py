"""Child processes that never outlive the demo, each with a log file of its own.

A child leads a process group, so that its own children end with it, and asks the kernel to be
killed when the demo dies (:mod:`lback_relay.demo.child`). Start children from the main thread:
Linux means the death of the *thread* that started them. Durations are seconds.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

STOP_TIMEOUT_S: Final = 10.0
AT_ONCE_S: Final = 0.5
"""For what is ended in a hurry: nobody waits for its drain."""
TAIL_LINES: Final = 20


class DemoFailed(Exception):
    """The demo can't go on; the message is for the user, the end of a log included."""


class Child:
    """One running process; leaving ``with`` ends it.

    Args:
        name: what the user is told, such as "worker-1".
        arguments: of ``python``: ``["-m", "waitress", …]``.
        folder: its working directory.
        environment: all of its environment.
        log: the file that takes its standard output and error.
        pass_fds: file descriptors that it inherits.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        log: Path,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and modules
                [
                    sys.executable,
                    "-m",
                    "lback_relay.demo.child",
                    str(os.getpid()),
                    sys.executable,
                    *arguments,
                ],
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=pass_fds,
                start_new_session=True,
            )

    def __enter__(self) -> Child:  # noqa: PYI034 - Self came with Python 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop(timeout_s=STOP_TIMEOUT_S if error is None else AT_ONCE_S)

    @property
    def pid(self) -> int:
        """Its process id, which is its group's too."""
        return self._process.pid

    def check(self) -> None:
        """Do nothing while it runs.

        Raises:
            DemoFailed: it has ended.
        """
        code = self._process.poll()
        if code is not None:
            raise DemoFailed(f"{self.name} ended by itself with exit code {code}; {self.tail()}")

    def wait(self, timeout_s: float) -> None:
        """Wait for its own, successful end.

        Raises:
            DemoFailed: it failed, or runs longer than ``timeout_s``.
        """
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise DemoFailed(
                f"{self.name} did not end within {timeout_s:g} s; {self.tail()}"
            ) from None
        if code != 0:
            raise DemoFailed(f"{self.name} failed with exit code {code}; {self.tail()}")

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Ask it to end, wait ``timeout_s``, then kill its group. Return its exit code."""
        try:
            if self._process.poll() is None:
                self._process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout_s)
        finally:
            # Also when it has ended: what it started may still run, in its group. And also when
            # an OS signal to the demo cuts the waiting short.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()

    def tail(self, lines: int = TAIL_LINES) -> str:
        """Return a phrase with the last lines of its log, indented."""
        written = self.log.read_text(errors="replace").splitlines()[-lines:]
        if not written:
            return "its log is empty"
        listed = "".join(f"\n    {line}" for line in written)
        return f"the end of its log:{listed}"
