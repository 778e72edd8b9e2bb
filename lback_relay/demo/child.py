"""Become another program that dies with its parent: ``python -m lback_relay.demo.child PID …``.

The wish to be killed with the parent (``PR_SET_PDEATHSIG``, Linux) survives ``exec``, so that no
code has to run between fork and exec in a process that has threads. Source: prctl(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from typing import NoReturn

PR_SET_PDEATHSIG = 1
PARENT_GONE = 1


def main(arguments: list[str]) -> NoReturn:
    """Ask for the parent's death signal and run the command.

    Args:
        arguments: the parent's process id, then the command.

    Raises:
        SystemExit: the parent has died before it could be watched.
    """
    parent, command = int(arguments[0]), arguments[1:]
    # Elsewhere than on Linux the demo still ends its children itself, unless it is killed.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(PARENT_GONE)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
