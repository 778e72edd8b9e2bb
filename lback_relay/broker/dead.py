"""Dead letters: finding, reading, retrying and dropping them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lback_relay.broker.base import DeadLetterRecord, DeadLetterStream, Delivery
from lback_relay.broker.part import BrokerPart
from lback_relay.broker.records import pack_retry, unpack_dead_letter, unpack_origin
from lback_relay.broker.scripts import RETRY_DEAD
from lback_relay.errors import BrokerError


class DeadLetters(BrokerPart):
    """The operator's side, as far as it changes something."""

    def now_ms(self) -> int:
        """See :meth:`lback_relay.broker.base.Broker.now_ms`."""
        seconds, microseconds = self._redis.call("TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000

    def dead_letter_streams(
        self, signal: str | None = None, group: str | None = None
    ) -> list[DeadLetterStream]:
        """See :meth:`lback_relay.broker.base.Broker.dead_letter_streams`."""
        if signal is not None and group is not None:
            named = {(signal, group)}
        else:
            keys = self._redis.scan(self._keys.dead_pattern(signal, group), kind="stream")
            named = {found for key in keys if (found := self._keys.dead_of(key))}
        places = sorted(named)
        commands: list[tuple[Any, ...]] = []
        for place in places:
            key = self._keys.dead(*place)
            commands += [("XLEN", key), ("XREVRANGE", key, "+", "-", "COUNT", 1)]
        replies = _checked(self._redis.call_all(commands))
        return [
            DeadLetterStream(*place, length, last[0][0].decode())
            for place, length, last in zip(places, replies[::2], replies[1::2], strict=True)
            if last
        ]

    def dead_letters(
        self, signal: str, group: str, *, count: int, after: str = "", until: str = ""
    ) -> list[DeadLetterRecord]:
        """See :meth:`lback_relay.broker.base.Broker.dead_letters`."""
        first = f"({after}" if after else "-"
        key = self._keys.dead(signal, group)
        entries = self._redis.call("XRANGE", key, first, until or "+", "COUNT", count)
        return [_record(signal, group, *entry) for entry in entries]

    def find_dead_letters(
        self, signal: str, group: str, entry_ids: Sequence[str]
    ) -> list[DeadLetterRecord]:
        """See :meth:`lback_relay.broker.base.Broker.find_dead_letters`."""
        key = self._keys.dead(signal, group)
        replies = self._redis.call_all([("XRANGE", key, each, each) for each in entry_ids])
        return [_record(signal, group, *entry) for reply in _checked(replies) for entry in reply]

    def retry_dead_letters(
        self, signal: str, group: str, letters: Sequence[DeadLetterRecord]
    ) -> int:
        """See :meth:`lback_relay.broker.base.Broker.retry_dead_letters`."""
        if not letters:
            return 0
        keys = self._keys
        values = [value for letter in letters for value in (letter.entry_id, _retry(letter))]
        moved: int = self._redis.call(
            *RETRY_DEAD.command(keys.dead(signal, group), keys.redo(signal, group), group, *values)
        )
        return moved

    def drop_dead_letters(self, signal: str, group: str, entry_ids: Sequence[str]) -> int:
        """See :meth:`lback_relay.broker.base.Broker.drop_dead_letters`."""
        if not entry_ids:
            return 0
        dropped: int = self._redis.call("XDEL", self._keys.dead(signal, group), *entry_ids)
        return dropped


def _retry(letter: DeadLetterRecord) -> bytes:
    """Return the record that has the letter's handler run again, or all when none was reached."""
    delivery = Delivery(
        signal=letter.signal,
        source=letter.source,
        entry_id=letter.source_id,
        encoded=letter.encoded,
    )
    handler = letter.letter.handler
    return pack_retry(delivery, 0, {handler: 0} if handler else {})


def _record(signal: str, group: str, raw_id: bytes, values: list[bytes]) -> DeadLetterRecord:
    fields = dict(zip(values[::2], values[1::2], strict=True))
    entry_id, described = raw_id.decode(), fields.get(b"d", b"")
    source, source_id = unpack_origin(described)
    return DeadLetterRecord(
        entry_id=entry_id,
        encoded=fields.get(b"e", b""),
        letter=unpack_dead_letter(described),
        signal=signal,
        group=group,
        source=source,
        source_id=source_id,
        dead_at_ms=int(entry_id.partition("-")[0]),
    )


def _checked(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, BrokerError):
            raise reply
    return replies
