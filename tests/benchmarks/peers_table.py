"""The peers: where each is installed, how its worker is started, how much it is given at once."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.processes import PEERS, VENVS, BenchmarkFailed

INSTALL_S: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One peer.

    Attributes:
        name: as the table shows it; its module is ``NAME_app``, its packages are in ``NAME.txt``.
        worker: its worker's command, the executable first, which is in its environment; "{url}"
            stands for the broker's.
        count: of a dose: about two seconds of its work.
        is_async: whether its handler is async; the form in which its documentation runs it.
        environment: of its worker.
    """

    name: str
    worker: tuple[str, ...]
    count: int
    is_async: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Its virtual environment."""
        return VENVS / self.name

    def command(self, *command: str) -> list[str]:
        """Return a command whose executable is in its environment."""
        return [str(self.folder / "bin" / command[0]), *command[1:]]


PEERS_BY_NAME: Final = {
    peer.name: peer
    for peer in (
        Peer(
            name="celery",
            worker=(
                "celery", "-A", "celery_app", "worker", "-P", "threads", "-c", "8", "-l", "WARNING",
                "--without-gossip", "--without-mingle", "--without-heartbeat",
            ),
            count=2_000,
        ),
        Peer(
            name="dramatiq",
            worker=("dramatiq", "dramatiq_app", "--processes", "1", "--threads", "8"),
            count=4_000,
            environment={"dramatiq_queue_prefetch": "1000"},
        ),
        Peer(
            name="taskiq",
            worker=(
                "taskiq", "worker", "taskiq_app:broker", "--workers", "1", "--no-parse",
                "--max-async-tasks", "1000", "--log-level", "WARNING",
            ),
            count=6_000,
            is_async=True,
        ),
        Peer(
            name="faststream",
            worker=("faststream", "run", "faststream_app:app", "--log-level", "error"),
            count=8_000,
            is_async=True,
        ),
        Peer(
            name="huey",
            worker=("huey_consumer", "huey_app.huey", "-w", "8", "-k", "thread", "-n", "-q"),
            count=5_000,
        ),
        Peer(name="arq", worker=("arq", "arq_app.WorkerSettings"), count=3_000, is_async=True),
        Peer(
            name="rq",
            worker=("rq", "worker", "-q", "-u", "{url}", "-w", "rq.SimpleWorker", "bench"),
            count=1_000,
        ),
    )
}  # fmt: skip


def install(name: str, requirements: Path) -> Path:
    """Make a virtual environment, or take the one that is there and fits its requirements."""
    folder = VENVS / name
    stamp = folder / ".installed"
    wanted = requirements.read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return folder
    sys.stderr.write(f"setting up {name} in build/{VENVS.name}\n")
    sys.stderr.flush()
    VENVS.mkdir(parents=True, exist_ok=True)
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r")
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(folder / "bin" / "python"), *pip, str(requirements)],
    ):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
        if done.returncode:
            raise BenchmarkFailed(f"{name} can't be installed: {done.stderr[-1000:]}")
    stamp.write_text(wanted)
    return folder


def install_peers(names: list[str]) -> None:
    """Install those that are not installed yet."""
    for name in names:
        install(name, PEERS / f"{name}.txt")
