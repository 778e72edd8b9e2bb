"""What became of all that was published: the ledger and Redis put side by side.

The invariant: each (key, handler) is finished, waiting, pending, scheduled for a retry, or a dead
letter. What is none of these is *lost*. A *duplicate* is an end of a handler beyond its first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from faults.support.ledger import Ledger

from lback_relay.broker.base import DeadLetter
from lback_relay.broker.keys import Keys
from lback_relay.broker.records import unpack_dead_letter, unpack_retry
from lback_relay.codec import decode
from lback_relay.errors import EnvelopeError

Pair = tuple[str, str]
"""An envelope's key and a handler's name."""


def key_of(encoded: bytes) -> str | None:
    """Return the key that the sender gave an envelope; None when it can't be read."""
    try:
        return str(decode(encoded).payload["item"])
    except (EnvelopeError, KeyError):
        return None


@dataclass(frozen=True, kw_only=True)
class Account:
    """One look at ledger and Redis.

    Attributes:
        published: envelopes.
        finished: (key, handler) pairs that have ended well at least once.
        duplicates: ends beyond the first.
        lost: pairs of which nothing is known.
        dead: pairs with a dead letter.
        unsettled: pairs that wait, are pending, or scheduled.
    """

    published: int
    finished: int
    duplicates: int
    lost: frozenset[Pair]
    dead: frozenset[Pair]
    unsettled: frozenset[Pair]


class Shelf:
    """What one group of one signal has in Redis, read with a plain client."""

    def __init__(self, client: Any, keys: Keys, signal: str, group: str) -> None:
        self._client = client
        self._keys = keys
        self._signal = signal
        self._group = group

    def stream_keys(self) -> list[str | None]:
        """Return the key of every envelope in the signal's stream, in order."""
        entries = self._client.xrange(self._keys.events(self._signal))
        return [key_of(fields[b"e"]) for _, fields in entries]

    def dead_letters(self) -> list[tuple[bytes, DeadLetter]]:
        """Return the dead letters: the envelope's bytes, and what happened."""
        entries = self._client.xrange(self._keys.dead(self._signal, self._group))
        return [(fields[b"e"], unpack_dead_letter(fields[b"d"])) for _, fields in entries]

    def in_hand(self, consumer: str = "") -> int:
        """Return how many entries are pending, due retries among them.

        Args:
            consumer: only of those whose names hold this.
        """
        redo = self._keys.redo(self._signal, self._group)
        retries = self.pending(consumer, redo) if self._client.exists(redo) else {}
        return len(self.pending(consumer)) + len(retries)

    def pending(self, consumer: str = "", stream: str | None = None) -> dict[str, int]:
        """Return entry id to delivery count of what is pending in a stream.

        Args:
            consumer: only of those whose names hold this.
            stream: its key; None: the signal's own.
        """
        found: dict[str, int] = {}
        stream, start = stream or self._keys.events(self._signal), "-"
        while True:
            page = self._client.xpending_range(stream, self._group, start, "+", 1000)
            for entry in page:
                if consumer in entry["consumer"].decode():
                    found[entry["message_id"].decode()] = entry["times_delivered"]
            if len(page) < 1000:
                return found
            start = f"({page[-1]['message_id'].decode()}"

    def unsettled(self, handlers: Iterable[str]) -> set[Pair]:
        """Return the pairs that wait, are pending, or scheduled."""
        handlers = tuple(handlers)
        stream = self._keys.events(self._signal)
        last = self._last_delivered(stream)
        open_entries = self.pending() if last is not None else {}
        found: set[Pair] = set()
        for entry_id, fields in self._client.xrange(stream):
            if last is None or _order(entry_id) > last or entry_id.decode() in open_entries:
                found |= {(key_of(fields[b"e"]) or "", handler) for handler in handlers}
        records = [
            *self._client.zrange(self._keys.retry(self._signal, self._group), 0, -1),
            *(
                fields[b"r"]
                for _, fields in self._client.xrange(self._keys.redo(self._signal, self._group))
            ),
        ]
        for record in records:
            attempts, encoded = unpack_retry(record)
            found |= {(key_of(encoded) or "", handler) for handler in attempts}
        return found

    def _last_delivered(self, stream: str) -> tuple[int, int] | None:
        if not self._client.exists(stream):
            return None
        for group in self._client.xinfo_groups(stream):
            if group["name"].decode() == self._group:
                return _order(group["last-delivered-id"])
        return None


def _order(entry_id: bytes) -> tuple[int, int]:
    ms, sequence = entry_id.split(b"-")
    return int(ms), int(sequence)


def take_account(ledger: Ledger, shelf: Shelf, handlers: Sequence[str]) -> Account:
    """Look at everything. Call it when nothing runs, or what moves meanwhile is seen twice."""
    published = ledger.published()
    expected = {(key, handler) for key in published for handler in handlers}
    unsettled = shelf.unsettled(handlers)
    dead: set[Pair] = set()
    for encoded, letter in shelf.dead_letters():
        names = (letter.handler,) if letter.handler else handlers
        dead |= {(key_of(encoded) or "", name) for name in names}
    finished: Mapping[Pair, int] = ledger.finished()
    return Account(
        published=len(published),
        finished=len(expected & finished.keys()),
        duplicates=sum(finished.values()) - len(finished),
        lost=frozenset(expected - finished.keys() - unsettled - dead),
        dead=frozenset(dead),
        unsettled=frozenset(unsettled),
    )


def repeated(keys: Iterable[str | None]) -> list[str | None]:
    """Return the first few that occur more than once."""
    seen: set[str | None] = set()
    return list(islice((key for key in keys if key in seen or seen.add(key)), 5))  # type: ignore[func-returns-value]


def logs_with(folder: Path, text: str) -> list[str]:
    """Return the names of the logs that hold a text: a secret, or a payload's value."""
    sought = text.encode()
    return [path.name for path in sorted(folder.rglob("*.log")) if sought in path.read_bytes()]
