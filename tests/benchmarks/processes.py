"""The processes of a benchmark: a server for each dose, senders, workers; what they use.

A dose has everything of its own: an empty server, a folder, the processes. Only those are ended,
by their pids, and all of it goes when the dose ends, in whatever way. Durations are seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import redis
from support.brokers import running_server

ROOT: Final = Path(__file__).resolve().parents[2]
HERE: Final = ROOT / "tests" / "benchmarks"
PEERS: Final = HERE / "peers"
VENVS: Final = ROOT / "build" / "bench-venvs"
PYTHON_PATH: Final = os.pathsep.join(str(ROOT / name) for name in ("tests", "worker", "."))
END_S: Final = 5.0

FSYNC: Final = "everysec"
SERVER: Final = (
    "--appendonly", "yes", "--appendfsync", FSYNC,
    # It would copy the whole file in the middle of some doses and not of others.
    "--auto-aof-rewrite-percentage", "0",
)  # fmt: skip


_NOT_COUNTED: Final = frozenset(
    ["info", "ping", "client", "hello", "select", "config", "auth", "command"]
)


class BenchmarkFailed(Exception):
    """A dose gave no figure; says why."""


class Child:
    """A process of a dose.

    Args:
        command: what to run.
        folder: where.
        log: the file that gets what it says.
        environment: on top of this process's.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, log: Path, environment: Mapping[str, str]
    ) -> None:
        self.log = log
        self._output = log.open("wb")
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its own children can be ended with it
        )
        self.pid = self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def result(self, timeout_s: float) -> dict[str, Any]:
        """Wait for its end, and return the JSON object that it printed last."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise BenchmarkFailed(f"took longer than {timeout_s:g} s: {self.tail()}") from None
        if code:
            raise BenchmarkFailed(f"ended with {code}: {self.tail()}")
        found: dict[str, Any] = json.loads(self.log.read_text().strip().splitlines()[-1])
        return found

    def end(self) -> None:
        """End it and what it has started: SIGTERM, and SIGKILL when that does not help.

        It leads a process group of its own, whose id is its pid.
        """
        try:
            if not self.ended:
                os.kill(self.pid, signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(END_S)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait(END_S)
        finally:
            self._output.close()

    def tail(self) -> str:
        """Return the end of what it said."""
        return self.log.read_text(errors="replace")[-1500:]

    def tree(self) -> list[int]:
        """Return its pid and those of the processes below it."""
        found = [self.pid]
        for pid in found:  # grows
            with contextlib.suppress(OSError):
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    found += [int(child) for child in (thread / "children").read_text().split()]
        return found

    def rss_mib(self) -> float:
        """Return the resident memory of its whole tree."""
        return sum(_status_kib(pid, "VmRSS") for pid in self.tree()) / 1024

    def peak_mib(self) -> float:
        """Return the most resident memory that its processes ever had."""
        return sum(_status_kib(pid, "VmHWM") for pid in self.tree()) / 1024

    def cpu_s(self) -> float:
        """Return the processor time that its tree has used."""
        return sum(cpu_s(pid) for pid in self.tree())


def cpu_s(pid: int) -> float:
    """Return the processor time that a process's present threads have used; 0 when it is gone."""
    with contextlib.suppress(OSError):
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        # Exact, where the usual utime and stime are sampled and miss short spells.
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
    return 0.0


def _status_kib(pid: int, key: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1])
    return 0


class Stage:
    """What one dose runs on.

    Attributes:
        url: the server's.
        folder: a temporary one.
        marks: where handlers leave their marks.
        client: of the driver.
    """

    def __init__(self, url: str, folder: Path, stack: ExitStack) -> None:
        self.url = url
        self.folder = folder
        self.marks = folder / "marks"
        self.client: redis.Redis = redis.Redis.from_url(url, socket_timeout=60.0)
        self._stack = stack
        self._started = 0

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        folder: Path | None = None,
    ) -> Child:
        """Start a process; it is ended with the dose."""
        self._started += 1
        given = {
            "BENCH_URL": self.url,
            "BENCH_MARKS": str(self.marks),
            # What is kept on disk (the spool) is the dose's, not the user's.
            "XDG_STATE_HOME": str(self.folder / "state"),
            **environment,
        }
        log = self.folder / f"{self._started}.log"
        child = Child(command, folder or self.folder, log, given)
        self._stack.callback(child.end)
        return child

    def own(self, module: str, *arguments: object, **environment: str) -> Child:
        """Start one of our modules, with this environment."""
        command = [sys.executable, "-m", module, *map(str, arguments)]
        return self.start(command, {"PYTHONPATH": PYTHON_PATH, **environment})

    def wait_for_marks(self, child: Child, timeout_s: float) -> Any:
        """Return what a handler's marks are, once the last one is there."""
        until = time.monotonic() + timeout_s
        while not self.marks.exists():
            if child.ended:
                raise BenchmarkFailed(f"the worker has ended: {child.tail()}")
            if time.monotonic() > until:
                raise BenchmarkFailed(f"not handled within {timeout_s:g} s: {child.tail()}")
            time.sleep(0.02)
        return json.loads(self.marks.read_text())

    def commands(self) -> int:
        """Return how many commands the server has run, those within scripts too.

        Not counted: what the driver asks, and what every connection begins with.
        """
        stats: dict[str, Any] = self.client.info("commandstats")
        return sum(
            int(figures["calls"])
            for name, figures in stats.items()
            if name.removeprefix("cmdstat_").partition("|")[0] not in _NOT_COUNTED
        )

    def file_bytes(self) -> int:
        """Return how large the server's append-only file is."""
        return int(self.client.info("persistence")["aof_current_size"])

    def server_cpu_s(self) -> float:
        """Return the processor time that the server has used."""
        return cpu_s(int(self.client.info("server")["process_id"]))


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Set up a dose, and take it all away again."""
    folder = Path(tempfile.mkdtemp(prefix="lback-relay-bench-"))
    try:
        with running_server(*SERVER) as server, ExitStack() as stack:
            made = Stage(server.url, folder, stack)
            stack.callback(made.client.close)
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)
