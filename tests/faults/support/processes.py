"""The processes of a row: a Redis that can be killed and paused, and workers of the real CLI.

Only processes started here are ever sent an OS signal, by their pids. A server ends with the test's
process, however that ends. Durations are seconds.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import redis
from faults.support.names import SECRET
from support.waiting import wait_until

from lback_relay.broker.guarded import GuardedProcess

ROOT: Final = Path(__file__).resolve().parents[3]
PYTHON_PATH: Final = os.pathsep.join(str(ROOT / name) for name in ("tests", "worker", "."))


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def url_of(port: int) -> str:
    """Return the URL of a row's server, or of a proxy before it."""
    return f"redis://:{SECRET}@127.0.0.1:{port}/0"


class RedisServer:
    """A real server on a port that stays the same from one start to the next.

    Args:
        binary: the executable.
        folder: where it keeps its data.
        options: as on its command line.

    Attributes:
        port: on 127.0.0.1.
        url: with its password, which is planted there to be looked for in logs.
    """

    def __init__(self, binary: str, folder: Path, options: Sequence[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = url_of(self.port)
        self.client: redis.Redis = redis.Redis.from_url(self.url, socket_timeout=60.0)
        self._folder = folder
        self._command = [
            binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder),
            "--requirepass", SECRET, "--save", "", "--loglevel", "warning", *options,
        ]  # fmt: skip
        self._process: GuardedProcess | None = None
        self._pid = 0

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self._folder / "server.log").open("ab") as log:
            self._process = GuardedProcess(self._command, self._folder, output=log, remove=False)
        wait_until(self.answers, what="the server")
        self._pid = int(self.client.info("server")["process_id"])

    def answers(self) -> bool:
        """Tell whether it is there and has loaded its data."""
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def kill(self) -> None:
        """Kill it by SIGKILL and wait for its end."""
        process = self._process
        assert process is not None
        os.kill(self._pid, signal.SIGKILL)
        wait_until(lambda: process.ended, what="the server's end")
        self.stop()

    def pause(self) -> None:
        """Stop it by SIGSTOP."""
        os.kill(self._pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self._pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is not None:
            process.end()

    def close(self) -> None:
        """End it, and the client."""
        self.stop()
        self.client.close()


class Process:
    """A Python process of the row's own.

    Args:
        arguments: of the interpreter.
        folder: where it runs.
        log: the file that gets what it says.
        environment: on top of this process's.
    """

    def __init__(
        self, arguments: Sequence[str], folder: Path, log: Path, environment: Mapping[str, str]
    ) -> None:
        self.log = log
        self.started_at = time.monotonic()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=folder,
                # What it keeps on disk (the spool) is the row's, not the user's.
                env={
                    **os.environ,
                    "PYTHONPATH": PYTHON_PATH,
                    "XDG_STATE_HOME": str(folder / "state"),
                    **environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.pid = self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def wait(self, timeout_s: float = 60.0) -> int:
        """Wait for its end and return its exit code; minus the OS signal that killed it."""
        return self._process.wait(timeout_s)

    def send(self, number: signal.Signals) -> None:
        """Send it an OS signal."""
        if not self.ended:
            os.kill(self.pid, number)

    def children(self) -> list[int]:
        """Return the pids of the processes that it has started and that still run."""
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(pid) for pid in listed if _runs(int(pid))]

    def kill(self) -> None:
        """Kill it by SIGKILL and wait for its end."""
        self.send(signal.SIGKILL)
        self.wait()

    def end(self) -> None:
        """End it by SIGTERM, by SIGKILL if that does not help."""
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            self.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()

    def said(self, pattern: str) -> list[str]:
        """Return the lines of its log that hold a pattern."""
        with contextlib.suppress(FileNotFoundError):
            lines = self.log.read_text(errors="replace").splitlines()
            return [line for line in lines if re.search(pattern, line)]
        return []

    def wait_for(self, pattern: str, timeout_s: float = 60.0) -> str:
        """Wait for a line in its log and return the first one."""

        def lines() -> list[str]:
            found = self.said(pattern)
            assert found or not self.ended, f"it has ended: {self.tail()}"
            return found

        return wait_until(lines, timeout_s, f"{pattern!r} in {self.log.name}")[0]

    def tail(self) -> str:
        """Return the last lines of its log."""
        return "\n".join(self.said("")[-15:])


def _runs(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
