"""Run a command until the process that asked for it is gone: ``python guard.py FOLDER COMMAND…``.

Standard input is a pipe whose other end that process holds: it closes when the process ends, in
whatever way, and never before its exit handlers have run. The command is ended then, and FOLDER
(if not "") removed. Run as a file of its own, with nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from typing import NoReturn

PR_SET_PDEATHSIG = 1
END_TIMEOUT_S = 10.0


def main(arguments: list[str]) -> NoReturn:
    """Run the command; end it, and this process, when standard input is at its end.

    Args:
        arguments: the folder to be removed at the end, or ""; then the command.
    """
    folder, command = arguments[0], arguments[1:]
    parent = os.getpid()
    try:
        # No thread has been started yet, so that code between fork and exec is safe.
        process = subprocess.Popen(  # noqa: S603 - no shell, and the command is our own
            command,
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: _die_with(parent),  # noqa: PLW1509
        )
    except OSError as error:
        _remove(folder)
        sys.exit(str(error))
    ended = threading.Thread(target=_leave_with, args=(process, folder), daemon=True)
    ended.start()
    while os.read(sys.stdin.fileno(), 1024):
        pass
    process.terminate()
    ended.join(END_TIMEOUT_S)
    process.kill()
    ended.join()
    os._exit(1)  # the other thread has ended the process already


def _die_with(parent: int) -> None:
    """Be killed when the guard is, on Linux. Source: prctl(2)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _leave_with(process: subprocess.Popen[bytes], folder: str) -> None:
    """Wait for the command's end, and end with its exit code."""
    code = process.wait()
    _remove(folder)
    os._exit(code if code >= 0 else 128 - code)


def _remove(folder: str) -> None:
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
