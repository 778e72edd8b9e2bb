"""Processes whose wall clocks are off."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from faults.support.preload import compiled


def shifted_clock(folder: Path, shift_s: int) -> dict[str, str]:
    """Return the environment in which a process's wall clock is off by so much.

    Args:
        folder: where the library is put.
        shift_s: seconds; negative: behind.
    """
    library = compiled("clock", folder)
    environment = {"LD_PRELOAD": str(library), "FAULTS_CLOCK_SHIFT_S": str(shift_s)}
    shown = subprocess.run(
        [sys.executable, "-S", "-c", "import time; print(time.time())"],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
    )
    assert abs(float(shown.stdout) - time.time() - shift_s) < 60, "the clock is not shifted"
    return environment
