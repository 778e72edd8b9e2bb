"""A process that ends when this one does, in whatever way this one ends (see ``guard.py``)."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

_GUARD: Final = str(Path(__file__).with_name("guard.py"))


class GuardedProcess:
    """A running command, watched over by a guard that holds the other end of a pipe.

    In a child made by fork it is not the child's own: it goes on, and the methods do nothing.

    Args:
        command: what to run.
        folder: where to run it.
        output: the file that gets what it says.
        remove: whether the folder is removed at its end.

    Raises:
        OSError: it can't be started.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, *, output: BinaryIO, remove: bool
    ) -> None:
        self._removed = str(folder) if remove else ""
        held, self._pipe = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - no shell, and our own command
                [sys.executable, "-I", "-S", _GUARD, self._removed, *command],
                stdin=held,
                stdout=output,
                stderr=output,
                cwd=folder,
                start_new_session=True,  # Ctrl-C is not meant for it
            )
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            os.close(held)
        _own.add(self)

    @property
    def ended(self) -> bool:
        """Whether it was this process's own and has ended."""
        return self in _own and self._process.poll() is not None

    def end(self) -> None:
        """End it and wait for its end."""
        if self in _own:
            _own.discard(self)
            os.close(self._pipe)
            self._process.wait()
            if self._removed:  # a guard that was killed has not done it
                shutil.rmtree(self._removed, ignore_errors=True)

    def disown(self) -> None:
        """Let it end after this process, without a warning of Popen's that it still runs."""
        self._process.returncode = 0

    def forget(self) -> None:
        """Take it for another process's: close the inherited end of the pipe."""
        os.close(self._pipe)
        self.disown()


_own: set[GuardedProcess] = set()


@atexit.register
def _disown_all() -> None:
    for process in _own:
        process.disown()


def _forget_all() -> None:
    while _own:
        _own.pop().forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
