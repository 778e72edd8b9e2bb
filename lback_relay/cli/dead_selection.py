"""Which dead letters a command is about, and the way to them, page by page.

A page is read, looked at and forgotten, so that a million letters take no more memory than fifty.
What dies while a command runs is not met by it: a letter that is retried and fails again at once
would be met for ever. Durations are seconds, instants ms of the broker's clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from lback_relay.broker.base import Broker, DeadLetterRecord, DeadLetterStream
from lback_relay.cli.text import ABSENT

PAGE: Final = 50
REASONS: Final = ("attempts", "rejected", "malformed", "unverified", "crashed", "timeout")

_LAST: Final = 2**64 - 1
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def parse_age(text: str) -> float:
    """Return the seconds of ``90s``, ``15m``, ``2h``, ``3d``, ``1w`` or ``1.5h``.

    Raises:
        ValueError: with a sentence that says how to write it.
    """
    parts = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s?([smhdw])", text.strip())
    if parts is None:
        raise ValueError(f"{text!r} is no age; write 90s, 15m, 2h, 3d or 1w")
    return float(parts[1]) * _UNITS[parts[2]]


def is_entry_id(text: str) -> bool:
    """Return whether the text has the form of a dead letter's id: ``1764039172123-0``."""
    parts = re.fullmatch(r"(\d{1,20})-(\d{1,20})", text, re.ASCII)
    return parts is not None and all(int(part) <= _LAST for part in parts.groups())


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a letter must be like. None and () let every letter through.

    Attributes:
        ids: one of these.
        signal: of this signal.
        group: of this group.
        handler: of the handler of this name; "-" for those that reached none, as they are listed.
        reason: why it died.
        error: is part of its error, in any case.
        older_than_s: died at least so long ago.
        newer_than_s: died less than so long ago.
    """

    ids: tuple[str, ...] = ()
    signal: str | None = None
    group: str | None = None
    handler: str | None = None
    reason: str | None = None
    error: str | None = None
    older_than_s: float | None = None
    newer_than_s: float | None = None

    @property
    def narrow(self) -> bool:
        """Whether it leaves anything out."""
        return self != Selection()

    def until_ms(self, now_ms: int) -> int | None:
        """Return the last ms in which a letter may have died, or None."""
        return None if self.older_than_s is None else now_ms - int(self.older_than_s * 1000)

    def after_ms(self, now_ms: int) -> int | None:
        """Return the ms after which a letter must have died, or None."""
        return None if self.newer_than_s is None else now_ms - int(self.newer_than_s * 1000)

    def takes(self, record: DeadLetterRecord, now_ms: int) -> bool:
        """Return whether a letter, of the right signal and group, is one of these."""
        letter = record.letter
        until, after = self.until_ms(now_ms), self.after_ms(now_ms)
        return (
            (not self.ids or record.entry_id in self.ids)
            and (self.handler is None or (letter.handler or ABSENT) == self.handler)
            and (self.reason is None or letter.reason == self.reason)
            and (self.error is None or self.error.casefold() in letter.error.casefold())
            and (until is None or record.dead_at_ms <= until)
            and (after is None or record.dead_at_ms > after)
        )


class Page(NamedTuple):
    """Some letters of one signal and group.

    Attributes:
        signal: the signal's name.
        group: whose they are.
        looked_at: how many were read.
        letters: those of the selection among them.
    """

    signal: str
    group: str
    looked_at: int
    letters: list[DeadLetterRecord]


class Walk:
    """The way through the letters of a selection, as they are now; it can be gone several times.

    Args:
        broker: where they are.
        selection: which ones.

    Attributes:
        now_ms: when "now" is.
        total: how many letters are to be looked at, at most.
    """

    def __init__(self, broker: Broker, selection: Selection) -> None:
        self._broker = broker
        self._selection = selection
        self._streams = broker.dead_letter_streams(selection.signal, selection.group)
        self.now_ms = broker.now_ms()
        self.total = sum(
            min(len(selection.ids), stream.letters) if selection.ids else stream.letters
            for stream in self._streams
        )

    def __iter__(self) -> Iterator[Page]:
        for stream in self._streams:
            pages = self._of_ids(stream) if self._selection.ids else self._of_stream(stream)
            for records in pages:
                letters = [each for each in records if self._selection.takes(each, self.now_ms)]
                yield Page(stream.signal, stream.group, len(records), letters)

    def _of_ids(self, stream: DeadLetterStream) -> Iterator[list[DeadLetterRecord]]:
        ids = list(dict.fromkeys(self._selection.ids))
        for start in range(0, len(ids), PAGE):
            some = ids[start : start + PAGE]
            yield self._broker.find_dead_letters(stream.signal, stream.group, some)

    def _of_stream(self, stream: DeadLetterStream) -> Iterator[list[DeadLetterRecord]]:
        until_ms = self._selection.until_ms(self.now_ms)
        after_ms = self._selection.after_ms(self.now_ms)
        until = stream.last_id
        if until_ms is not None and until_ms < int(until.partition("-")[0]):
            if until_ms < 0:
                return
            until = str(until_ms)
        after = f"{after_ms}-{_LAST}" if after_ms is not None and after_ms >= 0 else ""
        while True:
            records = self._broker.dead_letters(
                stream.signal, stream.group, count=PAGE, after=after, until=until
            )
            if records:
                yield records
            if len(records) < PAGE:
                return
            after = records[-1].entry_id
