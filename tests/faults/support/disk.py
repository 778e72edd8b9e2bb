"""A disk that fails: writing to spools is refused while it is told to."""

from __future__ import annotations

from pathlib import Path

from faults.support.preload import compiled


class Disk:
    """The switch of processes that run in its ``environment``.

    Args:
        folder: where the switch and the library are put.

    Attributes:
        environment: what a process needs for its disk to fail.
    """

    def __init__(self, folder: Path) -> None:
        self._switch = folder / "disk-fails"
        self.environment = {
            "LD_PRELOAD": str(compiled("disk", folder)),
            "FAULTS_DISK": str(self._switch),
        }

    def fail(self, number: int) -> None:
        """Let writes fail with this errno from now on."""
        made = self._switch.with_suffix(".new")
        made.write_text(str(number))
        made.rename(self._switch)

    def heal(self) -> None:
        """Let them succeed again."""
        self._switch.unlink()
