"""An older version of this repository, taken from its history, to run beside the present one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from faults.support.processes import ROOT

PACKAGES: Final = ("lback_relay", "worker/lback_signal_worker")
_SHOW: Final = "import lback_relay as r, lback_signal_worker as w; print(r.__file__, w.__file__)"


def older_version(folder: Path, revision: str | None) -> dict[str, str]:
    """Unpack an older version, and return the environment in which processes run it.

    Args:
        folder: where it is put.
        revision: which; None: the one before the last change of the packages.
    """
    revision = revision or _before_last_change()
    packed = subprocess.run(
        ["git", "archive", revision, *PACKAGES], cwd=ROOT, check=False, capture_output=True
    )
    if packed.returncode:
        pytest.fail(f"there is no version {revision} of this repository: {packed.stderr.decode()}")
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed.stdout, check=True)
    paths = (folder, folder / "worker", ROOT / "tests")
    environment = {"PYTHONPATH": os.pathsep.join(map(str, paths))}
    shown = subprocess.run(
        [sys.executable, "-c", _SHOW],
        cwd=folder,
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    for file in shown.stdout.split():
        assert Path(file).is_relative_to(folder), f"{file} is not of the older version"
    return environment


def _before_last_change() -> str:
    history = subprocess.run(
        ["git", "log", "-2", "--format=%H", "--", *PACKAGES],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    revisions = history.stdout.split()
    if len(revisions) < 2:
        pytest.fail(
            "row 21 needs an older version, and the history has none (a shallow clone?): fetch it, "
            "or name a revision by --faults-old"
        )
    return revisions[1]
