"""The demo's child processes end with the demo, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lback_relay.demo.processes import Child, DemoFailed
from lback_relay.demo.project_files import create_project, project_environment

ROOT = Path(__file__).resolve().parents[2]
SLEEP = "import time; print('up', flush=True); time.sleep(600)"
DEADLINE_S = 20.0


def until(predicate: Callable[[], object], what: str) -> None:
    """Wait until the predicate holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not predicate():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Tell whether the process has ended; a zombie has."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def child(tmp_path: Path, code: str) -> Child:
    """Start python with this code."""
    return Child(
        "sleeper",
        ["-c", code],
        folder=tmp_path,
        environment={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        log=tmp_path / "sleeper.log",
    )


def test_leaving_the_block_ends_the_child(tmp_path: Path) -> None:
    """And what it wrote is in its log."""
    with child(tmp_path, SLEEP) as running:
        until(lambda: "up" in running.log.read_text(), "the child did not start")
        running.check()
    assert gone(running.pid)
    assert "up" in running.tail()


def test_a_child_that_ignores_the_os_signal_is_killed(tmp_path: Path) -> None:
    """SIGTERM first, SIGKILL when the time is up."""
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEP
    with child(tmp_path, stubborn) as running:
        until(lambda: "up" in running.log.read_text(), "the child did not start")
        assert running.stop(timeout_s=0.1) == -signal.SIGKILL


def test_grandchildren_end_with_the_group(tmp_path: Path) -> None:
    """Also those that their parent leaves behind."""
    code = (
        "import subprocess, sys\n"
        f"inner = subprocess.Popen([sys.executable, '-c', {SLEEP!r}])\n"
        "print(inner.pid, flush=True)\n" + SLEEP
    )
    with child(tmp_path, code) as running:
        until(lambda: running.log.read_text().count("up") == 2, "the processes did not start")
        (inner,) = [int(line) for line in running.log.read_text().split() if line.isdigit()]
    until(lambda: gone(inner), "the grandchild outlived its group")


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_child_dies_when_the_demo_is_killed(tmp_path: Path) -> None:
    """SIGKILL leaves no time to clean up; the kernel does it."""
    code = (
        "import time\n"
        "from pathlib import Path\n"
        "from lback_relay.demo.processes import Child\n"
        f"folder = Path({str(tmp_path)!r})\n"
        f"running = Child('sleeper', ['-c', {SLEEP!r}], folder=folder,\n"
        f"    environment={{'PYTHONPATH': {str(ROOT)!r}}}, log=folder / 'sleeper.log')\n"
        "while 'up' not in running.log.read_text(): time.sleep(0.01)\n"
        "print(running.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
    ) as demo:
        assert demo.stdout is not None
        pid = int(demo.stdout.readline())
        assert not gone(pid)
        demo.kill()
    until(lambda: gone(pid), "the child outlived the killed demo")


def test_a_child_that_ended_is_told_with_its_code_and_log(tmp_path: Path) -> None:
    """The message needs no other look."""
    with child(tmp_path, "import sys; print('no such shop'); sys.exit(3)") as running:
        with pytest.raises(DemoFailed, match=r"(?s)sleeper failed with exit code 3.*no such shop"):
            running.wait(DEADLINE_S)
        with pytest.raises(DemoFailed, match="ended by itself with exit code 3"):
            running.check()


def test_a_child_that_does_not_end_is_told(tmp_path: Path) -> None:
    """Within the time that it was given."""
    late = pytest.raises(DemoFailed, match=r"did not end within 0\.05 s")
    with child(tmp_path, SLEEP) as running, late:
        running.wait(0.05)


def test_an_empty_log_is_said_to_be_empty(tmp_path: Path) -> None:
    """Not shown as nothing."""
    with child(tmp_path, "pass") as running:
        running.wait(DEADLINE_S)
        assert running.tail() == "its log is empty"


def test_the_shell_can_not_change_the_project() -> None:
    """Lback lets any environment variable win over settings.py; these do not get through."""
    environment = project_environment(
        host="127.0.0.1:8000",
        smtp_port=1025,
        login="web@example.org",
        relay_url=None,
        environ={"DB_NAME": "/other", "LBACK_RELAY_URL": "redis://other", "PATH": "/bin"},
    )
    assert "DB_NAME" not in environment
    assert "LBACK_RELAY_URL" not in environment
    assert environment["PATH"] == "/bin"
    assert environment["SHOP_RELAY"] == "off"


def test_the_relay_is_switched_on_by_the_broker_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a relative import path still means the folder of the call."""
    monkeypatch.chdir("/")
    environment = project_environment(
        host="127.0.0.1:8000",
        smtp_port=1025,
        login="worker-1@example.org",
        relay_url="unix:///run/redis.sock",
        environ={"PYTHONPATH": f"src{os.pathsep}/lib"},
    )
    assert environment["SHOP_RELAY"] == "on"
    assert environment["LBACK_RELAY_URL"] == "unix:///run/redis.sock"
    assert environment["PYTHONPATH"] == f"/src{os.pathsep}/lib"


def test_the_project_is_copied_without_bytecode(tmp_path: Path) -> None:
    """What a user would copy, and nothing else."""
    project = create_project(tmp_path / "shop")
    names = {str(file.relative_to(project)) for file in project.rglob("*") if file.is_file()}
    assert {"settings.py", "seed.py", "myproject/urls.py", "myproject/wsgi.py"} <= names
    assert not [name for name in names if name.endswith(".pyc")]
