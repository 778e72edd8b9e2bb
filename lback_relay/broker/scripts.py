"""The Lua scripts, read from the package once. Each file's head comment says what it takes."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Any, Final


def _read(name: str) -> tuple[str, str]:
    text = (files("lback_relay.broker") / "scripts" / f"{name}.lua").read_text(encoding="utf-8")
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), text


class Script:
    """One script.

    Args:
        name: the file's name without its suffix.
        keys: how many of the values are keys; they come first.
    """

    def __init__(self, name: str, *, keys: int) -> None:
        self._keys = keys
        self._sha, text = _read(name)
        _texts[self._sha] = text

    def command(self, *values: Any) -> tuple[Any, ...]:
        """Return the command that runs the script: its keys, then its arguments."""
        return ("EVALSHA", self._sha, self._keys, *values)


def in_full(command: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a command of :meth:`Script.command` with the script's text in its hash's place."""
    return ("EVAL", _texts[command[1]], *command[2:])


_texts: Final[dict[str, str]] = {}

PUBLISH: Final = Script("publish", keys=2)
CLAIM: Final = Script("claim", keys=1)
RENEW: Final = Script("renew", keys=1)
SETTLE: Final = Script("settle", keys=3)
FORGET: Final = Script("forget", keys=1)
GIVE_BACK: Final = Script("give_back", keys=1)
PROMOTE: Final = Script("promote", keys=2)
TRIM: Final = Script("trim", keys=2)
LEAVE: Final = Script("leave", keys=1)
RETRY_DEAD: Final = Script("retry_dead", keys=2)
BACKLOG: Final = Script("backlog", keys=4)
