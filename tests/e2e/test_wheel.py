"""The built wheel, in an environment of its own: what it needs, and that it fits beside Lback."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# What the core may bring (issue: redis with hiredis, msgpack, tenacity, click), with what those
# need themselves on some Pythons.
CORE = {"redis", "hiredis", "msgpack", "tenacity", "click"}
OF_THEIRS = {"async-timeout", "pyjwt", "tomli", "typing-extensions", "colorama"}
TOOLS = {"pip", "setuptools", "wheel"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(*command: object) -> str:
    """Run a command that has to succeed; return what it printed."""
    words = [str(word) for word in command]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=500, check=False)
    assert ran.returncode == 0, f"{words}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel by way of the source distribution, as a release is built."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_both_packages_and_their_data(wheel: Path) -> None:
    """Scripts, types and the demo's project travel; tests do not."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "lback_relay/py.typed",
        "lback_signal_worker/py.typed",
        "lback_signal_worker/cli.py",
        "lback_relay/broker/scripts/publish.lua",
        "lback_relay/demo/project/settings.py",
    } <= names
    assert not [name for name in names if name.startswith(("tests/", "worker/", "docs/"))]


def test_it_installs_alone_and_beside_lback(wheel: Path, tmp_path: Path) -> None:
    """The core needs four packages; with the framework and its pins nothing conflicts."""
    venv.create(tmp_path / "env", with_pip=True)
    bin_folder = tmp_path / "env" / "bin"
    pip = [bin_folder / "python", "-m", "pip", "--disable-pip-version-check"]

    run(*pip, "install", wheel)
    listed = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in run(*pip, "list", "--format=freeze").split()
    }
    assert listed >= CORE
    assert listed <= CORE | OF_THEIRS | TOOLS | {"lback-relay"}
    for script in ("lback-relay", "lback-signal-worker"):
        assert "Examples:" in run(bin_folder / script, "--help")

    run(*pip, "install", f"{wheel}[lback,sqlalchemy]")
    run(*pip, "check")
    code = "from lback_relay.lback import RelayMiddleware; print(RelayMiddleware.__name__)"
    assert run(bin_folder / "python", "-c", code).split()[-1] == "RelayMiddleware"
