"""The spool's folder: how it is made, and whether envelopes are safe in it.

Knows nothing of the files there.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

from lback_relay.errors import SpoolError

_OTHER_FOLDER = "set spool_dir to a folder that this user may write to"


def make_folder(folder: Path) -> None:
    """Make a spool's folder, and see that envelopes are safe in it.

    Raises:
        SpoolError: it can't be made, or others may write to it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error) from error
    check_folder(folder)


def check_folder(folder: Path) -> None:
    """See that envelopes are safe in a spool's folder, or will be once it is made. Makes nothing.

    Raises:
        SpoolError: it can't be made or used, or others may write to it.
    """
    try:
        found = folder.stat()
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except FileNotFoundError:
        _check_place(folder)
        return
    except OSError as error:
        raise _unusable(folder, error) from error
    if sys.platform != "win32" and found.st_mode & 0o022:
        # Whoever closes a folder that others need, such as /tmp, locks them out.
        others_need_it = found.st_mode & stat.S_ISVTX or found.st_uid != os.geteuid()
        remedy = (
            f"set spool_dir to a folder of its own, such as {folder / 'lback-relay'}"
            if others_need_it
            else f"forbid it: chmod 700 {folder}"
        )
        raise SpoolError(f"others may write to the spool's folder {folder}; {remedy}")
    if not os.access(folder, os.W_OK):
        raise SpoolError(f"the spool's folder {folder} can't be written to; {_OTHER_FOLDER}")


def _check_place(folder: Path) -> None:
    """See that a folder that is not there can be made."""
    there = next(each for each in folder.parents if each.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise SpoolError(
            f"the spool's folder {folder} can't be made in {there}, which can't be written to; "
            f"{_OTHER_FOLDER}"
        )


def _unusable(folder: Path, error: OSError) -> SpoolError:
    return SpoolError(
        f"the spool's folder {folder} can't be made or used ({error.strerror}); {_OTHER_FOLDER}"
    )
