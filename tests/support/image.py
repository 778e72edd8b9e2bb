"""The Dockerfile carried out without a container engine, in a folder.

The folder plays the image's file system, and a virtual environment the base image's Python. Users
other than root do not run anything here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "worker" / "Dockerfile"
TIMEOUT_S = 600.0
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass
class Image:
    """What the Dockerfile has made so far."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    command: list[str] = field(default_factory=list)

    @property
    def python(self) -> Path:
        """The virtual environment that stands for the base image's Python."""
        return self.root / "python"

    def inside(self, text: str, volumes: Mapping[str, Path] | None = None) -> str:
        """Let the absolute paths of a container lead into the image's folder, or into volumes."""

        def place(match: re.Match[str]) -> str:
            return str((volumes or {}).get(match[0], f"{self.root}{match[0]}"))

        return re.sub(r"(?<![\w./])/(src|srv|data|tmp)\b", place, text)

    def path(self, text: str) -> Path:
        """Return the place of a path, relative to the current folder or absolute."""
        return Path(
            self.inside(os.path.normpath(f"{self.folder}/{text}" if text[0] != "/" else text))
        )

    def variables(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a process in a container of this image."""
        path = f"{self.python / 'bin'}:{SYSTEM_PATH}"
        return {"PATH": path, "HOME": str(self.root), **self.environment, **(more or {})}


def build(image: Image) -> None:
    """Carry out the Dockerfile, or fail at an instruction that is not known here."""
    text = re.sub(r"\\\n\s*", "", DOCKERFILE.read_text())
    steps = {
        "FROM": from_base,
        "ENV": environment,
        "WORKDIR": folder,
        "COPY": copy,
        "RUN": run,
        "USER": user,
        "CMD": command,
    }
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            instruction, _, rest = line.partition(" ")
            assert instruction in steps, f"no such step is known here: {line}"
            steps[instruction](image, rest)


def from_base(image: Image, rest: str) -> None:
    """Make a virtual environment of that Python, or of this one where there is no such."""
    match = re.match(r"python:(3\.\d+)\.", rest)
    assert match is not None
    subprocess.run([python_of(match[1]), "-m", "venv", image.python], check=True, timeout=TIMEOUT_S)
    (image.root / "tmp").mkdir()


def environment(image: Image, rest: str) -> None:
    """Set variables."""
    image.environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))


def folder(image: Image, rest: str) -> None:
    """Make the folder, and be in it."""
    image.folder = rest
    image.path(rest).mkdir(parents=True, exist_ok=True)


def copy(image: Image, rest: str) -> None:
    """Copy what ``.dockerignore`` lets through; a folder's contents, as docker does."""
    match = re.fullmatch(r"(--chown=(?P<owner>\d+):(?P<group>\d+) )?(?P<words>[^-].*)", rest)
    assert match is not None, f"no such copy is known here: {rest}"
    *sources, target = match["words"].split()
    for source in sources:
        assert sent_to_the_builder(source), f"{source} is left out by .dockerignore"
        place = image.path(target)
        if (ROOT / source).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(ROOT / source, place, ignore=ignored, dirs_exist_ok=True)
        else:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, place)
        if match["owner"]:
            for path in (place, *place.rglob("*")):
                os.chown(path, int(match["owner"]), int(match["group"]))


def run(image: Image, rest: str) -> None:
    """Run the command with the system's shell."""
    ran = subprocess.run(
        ["sh", "-c", image.inside(rest)],
        cwd=image.path("."),
        env=image.variables(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == 0, f"{rest}\n{ran.stdout}\n{ran.stderr}"


def user(image: Image, rest: str) -> None:
    """Nothing here runs as somebody else; what was given to that user has to be there."""
    assert {path.stat().st_uid for path in map(image.path, ("/data", "/srv/shop"))} == {
        int(rest.partition(":")[0])
    }


def command(image: Image, rest: str) -> None:
    """Remember the command."""
    image.command = json.loads(rest)


def python_of(version: str) -> str:
    """Return that Python if this machine has it, on the PATH or in pyenv; else this one."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(f"python{version}"), *map(str, versions.glob(f"{version}.*/bin/python"))]
    for candidate in filter(None, found):
        asked = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        ran = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
        if ran.stdout.strip() == version:
            return candidate
    return sys.executable


def sent_to_the_builder(source: str) -> bool:
    """Tell whether ``.dockerignore``, which begins by leaving out everything, names it."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    named = [line[1:] for line in lines if line.startswith("!")]
    return any(source == name or source.startswith(f"{name}/") for name in named)
