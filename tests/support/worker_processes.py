"""Worker processes of the real command in one folder, with handlers that keep a ledger."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from support.waiting import wait_until

# The ledger is one file for all workers: one short line per run, appended in one write.
HANDLERS = '''
"""Handlers of this test."""
import os
import sys
import time

from lback_relay import remote_dispatcher

LEDGER = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def write(what, number):
    os.write(LEDGER, f"{what} {number} {os.environ['WORKER']}\\n".encode())


@remote_dispatcher.receiver("user_registered", name="plain")
def plain(sender, number, action="", **kwargs):
    write("start", number)
    while action == "hang" and not os.path.exists(os.environ["LEDGER"] + ".release"):
        time.sleep(0.01)
    if action == "die" and os.environ["WORKER"] != "careful":
        os._exit(9)
    write("end", number)


@remote_dispatcher.receiver("user_updated", delivery="broadcast", name="heard")
async def heard(sender, number, **kwargs):
    write("heard", number)
'''


class Workers:
    """Starts worker processes in one folder, and reads what their handlers wrote."""

    def __init__(self, folder: Path, url: str, namespace: str, stack: ExitStack) -> None:
        self.folder = folder
        self.ledger = folder / "ledger"
        self._stack = stack
        self.environment = {
            **{name: text for name, text in os.environ.items() if "LBACK_" not in name},
            "LEDGER": str(self.ledger),
            "LBACK_RELAY_URL": url,
            "LBACK_RELAY_NAMESPACE": namespace,
        }
        (folder / "handlers.py").write_text(HANDLERS)

    def start(self, name: str, *arguments: str, wait: bool = True) -> subprocess.Popen[bytes]:
        """Start a worker; its output goes to NAME.log. Waits until it says that it runs."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            worker = subprocess.Popen(
                [sys.executable, "-m", "lback_signal_worker", *(arguments or ("handlers",))],
                cwd=self.folder,
                env={**self.environment, "WORKER": name},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._stack.callback(_end, worker)
        if wait:
            wait_until(
                lambda: b"started: " in log.read_bytes() or worker.poll() is not None,
                what=f"the start of {name}",
            )
            assert worker.poll() is None, log.read_text()
        return worker

    def log(self, name: str) -> str:
        """Return what a worker has printed."""
        return (self.folder / f"{name}.log").read_text()

    def lines(self, what: str) -> list[tuple[int, str]]:
        """Return (number, worker) of each line of one kind."""
        if not self.ledger.exists():
            return []
        written = [line.split() for line in self.ledger.read_text().splitlines()]
        return [(int(number), worker) for kind, number, worker in written if kind == what]

    def release(self) -> None:
        """Let hanging handlers go on."""
        (self.folder / "ledger.release").touch()


def _end(worker: subprocess.Popen[bytes]) -> None:
    if worker.poll() is None:
        worker.kill()
    worker.wait()


def stop(worker: subprocess.Popen[bytes]) -> int:
    """Ask a worker to stop and return its exit code."""
    worker.send_signal(signal.SIGTERM)
    return worker.wait(60)
