"""The demo as a user starts it: what it finds, how it is stopped, and what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 240.0
# As many as it takes until both workers must have had a share.
USERS = 10

pytestmark = [pytest.mark.timeout(600)]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for all temporary files of the demo; its name is short, for sockets are in it."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        yield Path(folder)


@contextmanager
def demo(temporary: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start the command in a session of its own."""
    importable = os.pathsep.join([str(ROOT), str(ROOT / "worker")])
    with subprocess.Popen(
        [sys.executable, "-m", "lback_relay.cli", "demo", *arguments],
        cwd=temporary,
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": importable},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def descendants(pid: int) -> set[int]:
    """Return the processes below a process, however deep."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            match = re.search(r"^PPid:\s+(\d+)$", status.read_text(), re.MULTILINE)
        except (FileNotFoundError, ProcessLookupError):
            continue
        if match is not None:
            parents[int(status.parent.name)] = int(match[1])
    found: set[int] = set()
    level = {pid}
    while level:
        level = {child for child, parent in parents.items() if parent in level}
        found |= level
    return found


def alive(pid: int) -> bool:
    """Tell whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.broker
@pytest.mark.lback
@pytest.mark.slow
def test_the_demo_keeps_its_promises(temporary: Path) -> None:
    """Every mail once, both workers at work, registrations far shorter; nothing left behind."""
    with demo(temporary, "--users", str(USERS), "--json") as running:
        said, progress = running.communicate(timeout=TIMEOUT_S)
    assert running.returncode == 0, progress
    found = json.loads(said.splitlines()[-1])
    counted = {name: found[name] for name in ("registered", "mails", "duplicates", "lost")}
    assert counted == {"registered": USERS, "mails": USERS, "duplicates": 0, "lost": 0}
    assert set(found["per_worker"]) == {"worker-1", "worker-2"}
    assert all(found["per_worker"].values())
    assert sum(found["per_worker"].values()) == USERS
    assert found["http_median_s_without"] > 2
    assert found["http_median_s_with"] < found["http_median_s_without"]
    assert f"Registered with the relay: {USERS} of {USERS}" in progress
    assert list(temporary.iterdir()) == []


@pytest.mark.broker
@pytest.mark.lback
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("number", "moment", "processes", "code"),
    [
        (signal.SIGINT, "Registered without the relay: 1 of 5", 3, 130),
        (signal.SIGTERM, "Registered with the relay: 2 of 10", 5, 143),
    ],
)
def test_an_os_signal_leaves_no_process_and_no_folder(
    temporary: Path, number: signal.Signals, moment: str, processes: int, code: int
) -> None:
    """In the first half and in the second: guard, broker, web application, workers are gone."""
    with demo(temporary, "--users", "10") as running:
        assert running.stdout is not None
        for line in running.stdout:
            if line.strip() == moment:
                break
        below = descendants(running.pid)
        assert len(below) >= processes
        running.send_signal(number)
        _, said = running.communicate(timeout=TIMEOUT_S)
    assert running.returncode == code, said
    assert said == "lback-relay: stopped; nothing is left behind\n"
    wait_until(lambda: not [pid for pid in below if alive(pid)], what="every process to be gone")
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("missing", ["aiosmtpd", "lback", "rich", "waitress"])
def test_a_missing_extra_is_told_with_the_remedy(temporary: Path, missing: str) -> None:
    """Whether the demo itself or one of its processes needs it; nothing is started."""
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from lback_relay.cli import main; main(['demo'], prog_name='lback-relay')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stderr == (
        "lback-relay: lback-relay demo needs the extra: pip install 'lback-relay[demo]' "
        f"({missing} is missing)\n"
    )
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert list(temporary.iterdir()) == []
