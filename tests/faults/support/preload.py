"""Small libraries that are put before libc in a process, compiled when they are needed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from support.brokers import skip_or_fail


def compiled(name: str, folder: Path) -> Path:
    """Return the library made of ``name``.c.

    Args:
        name: of the source beside this module.
        folder: where the library is put.
    """
    compiler = shutil.which("cc") or skip_or_fail("there is no C compiler (cc) on the PATH")
    library = folder / f"{name}.so"
    if not library.exists():
        source = Path(__file__).with_name(f"{name}.c")
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"],
            check=True,
        )
    return library
