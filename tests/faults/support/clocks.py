"""Processes whose wall clocks are off: a small library, compiled here, is put before libc."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from support.brokers import skip_or_fail

_SOURCE: Final = Path(__file__).with_name("clock.c")


def shifted_clock(folder: Path, shift_s: int) -> dict[str, str]:
    """Return the environment in which a process's wall clock is off by so much.

    Args:
        folder: where the library is put.
        shift_s: seconds; negative: behind.
    """
    compiler = shutil.which("cc") or skip_or_fail("there is no C compiler (cc) on the PATH")
    library = folder / "clock.so"
    if not library.exists():
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(_SOURCE)], check=True
        )
    environment = {"LD_PRELOAD": str(library), "FAULTS_CLOCK_SHIFT_S": str(shift_s)}
    shown = subprocess.run(
        [sys.executable, "-S", "-c", "import time; print(time.time())"],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
    )
    assert abs(float(shown.stdout) - time.time() - shift_s) < 60, "the clock is not shifted"
    return environment
