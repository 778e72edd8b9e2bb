"""Names of keys and channels (design section 5), and how odd names are escaped.

All keys of one signal share the hash tag ``{signal}``, so that a script's keys lie in one slot of
a Redis Cluster. Signal and group names are any non-empty strings: what would break a key or make
two names collide is percent-encoded, which :func:`unescape` undoes.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote

_BREAKING = re.compile(r"[%{}:\x00-\x20\x7f]")


@lru_cache(maxsize=1024)
def escape(name: str) -> str:
    """Percent-encode braces, colons, percent signs, blanks and control characters."""
    return _BREAKING.sub(lambda match: f"%{ord(match[0]):02X}", name)


def unescape(escaped: str) -> str:
    """Undo :func:`escape`."""
    return unquote(escaped)


class Keys:
    """Every key of one namespace."""

    def __init__(self, namespace: str) -> None:
        self._prefix = escape(namespace)

    def _signal(self, signal: str) -> str:
        return f"{self._prefix}:{{{escape(signal)}}}"

    def events(self, signal: str) -> str:
        """Stream of the envelopes of ``queue`` delivery."""
        return f"{self._signal(signal)}:events"

    def retry(self, signal: str, group: str) -> str:
        """Sorted set of one group's failed deliveries, scored by when they are due (ms)."""
        return f"{self._signal(signal)}:retry:{escape(group)}"

    def redo(self, signal: str, group: str) -> str:
        """Stream of one group's due retries."""
        return f"{self._signal(signal)}:redo:{escape(group)}"

    def dead(self, signal: str, group: str) -> str:
        """Stream of one group's dead letters."""
        return f"{self._signal(signal)}:dead:{escape(group)}"

    def dead_pattern(self, signal: str | None = None, group: str | None = None) -> str:
        """Pattern of the streams of dead letters, for SCAN; None stands for every name."""
        named = _literally(escape(signal)) if signal is not None else "*"
        of_group = _literally(escape(group)) if group is not None else "*"
        return f"{_literally(self._prefix)}:{{{named}}}:dead:{of_group}"

    def dead_of(self, key: bytes) -> tuple[str, str] | None:
        """Return (signal, group) of a stream of dead letters; None when the key is none of ours."""
        text = key.decode("utf-8", "replace")
        parts = re.fullmatch(r"\{([^{}:]+)\}:dead:([^{}:]+)", text[len(self._prefix) + 1 :])
        if parts is None:
            return None
        signal, group = map(unescape, parts.groups())
        return (signal, group) if self.dead(signal, group).encode() == key else None

    def seen(self, signal: str) -> str:
        """Sorted set of the groups of a signal, scored by when they were last seen (ms)."""
        return f"{self._signal(signal)}:seen"

    def producer(self, signal: str, producer_id: str) -> str:
        """Last sequence number accepted from one producer for one signal."""
        return f"{self._signal(signal)}:producer:{escape(producer_id)}"

    def broadcast(self, signal: str) -> str:
        """Channel of ``broadcast`` delivery; channels ignore the database, hence the prefix."""
        return f"{self._signal(signal)}:broadcast"

    def worker(self, worker_id: str) -> str:
        """Heartbeat of one worker."""
        return f"{self._prefix}:worker:{escape(worker_id)}"

    def worker_of(self, key: str) -> str:
        """Return the id of the worker whose heartbeat has this key."""
        return unescape(key[len(self._prefix) + len(":worker:") :])

    def worker_pattern(self) -> str:
        """Pattern of all heartbeats, for SCAN."""
        return f"{_literally(self._prefix)}:worker:*"


def _literally(text: str) -> str:
    """Escape what means something in a pattern."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", text)
