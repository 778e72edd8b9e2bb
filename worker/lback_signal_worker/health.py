"""Is the worker alive? It touches a file after each successful poll; this looks at the file's age.

``python -m lback_signal_worker.health PATH [--max-age S]`` exits with 0 when the file is young
enough, with 1 and one sentence when not: a worker that runs, but has not reached the broker, is
not healthy. Durations are seconds; the file's time is the machine's own clock.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

TOUCH_EVERY_S: Final = 1.0
MAX_AGE_S: Final = 30.0
"""Longer than the longest wait of a read, with room for a slow machine."""


def problems_of(path: str) -> list[str]:
    """Return why no file can be at this path, for what can be told before it is touched."""
    file = Path(path)
    if file.is_dir():
        return ["is a folder; name a file in it"]
    if not file.parent.is_dir():
        return [f"its folder {str(file.parent)!r} is not there; make it"]
    return []


class HealthFile:
    """The file of one worker.

    Args:
        path: where it is; None: there is none.

    Attributes:
        touched_at: when, on the monotonic clock, the last poll was noted.
    """

    def __init__(self, path: str | None) -> None:
        self._path = None if path is None else Path(path)
        self.touched_at = float("-inf")

    def touch(self, now: float) -> None:
        """Note a successful poll; costs a system call once a second at most.

        Args:
            now: the time on the monotonic clock.
        """
        if now - self.touched_at < TOUCH_EVERY_S:
            return
        self.touched_at = now
        if self._path is None:
            return
        try:
            self._path.touch()
        except OSError as error:
            logger.warning("the health file can't be touched: %s", error)

    def remove(self) -> None:
        """Take the file away: a worker that has stopped is not healthy."""
        if self._path is None:
            return
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("the health file can't be removed: %s", error)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m lback_signal_worker.health",
        description="Exit with 0 when the worker has reached its broker lately.",
    )
    parser.add_argument("path", metavar="PATH", help="the worker's --health-file")
    parser.add_argument(
        "--max-age", type=float, default=MAX_AGE_S, metavar="S", help="default: %(default)s seconds"
    )
    given = parser.parse_args(arguments)
    try:
        age_s = time.time() - Path(given.path).stat().st_mtime
    except OSError as error:
        print(f"not healthy: {given.path}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 1
    if age_s > given.max_age:
        print(f"not healthy: the last poll was {age_s:.0f} s ago", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
