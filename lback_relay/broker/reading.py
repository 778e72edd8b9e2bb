"""Taking entries from Redis Streams: new ones, and those whose lease has expired."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from lback_relay.broker.base import EVENTS, NO_ATTEMPTS, REDO, Delivery
from lback_relay.broker.connections import Command, Connections
from lback_relay.broker.failures import GroupLost
from lback_relay.broker.keys import Keys
from lback_relay.broker.part import BrokerPart
from lback_relay.broker.records import unpack_retry
from lback_relay.broker.scripts import CLAIM
from lback_relay.errors import BrokerError, MalformedEnvelope

logger = logging.getLogger(__name__)

_WARN_EVERY_S: Final = 1.0

Origin = tuple[str, str]
"""Signal and source of the entries of one stream."""


class Reading(BrokerPart):
    """The worker's side, as far as it takes."""

    def __init__(self, connections: Connections, keys: Keys) -> None:
        super().__init__(connections, keys)
        self._warned_at = -_WARN_EVERY_S

    def ensure_groups(self, signals: Sequence[str], group: str) -> None:
        """See :meth:`lback_relay.broker.base.Broker.ensure_groups`."""
        create = [
            ("XGROUP", "CREATE", stream, group, "0", "MKSTREAM")
            for stream in _streams(self._keys, tuple(signals), group)
        ]
        for reply in self._redis.call_all(create):
            if isinstance(reply, BrokerError) and "BUSYGROUP" not in str(reply):
                raise reply

    def read(
        self, signals: Sequence[str], group: str, consumer: str, *, count: int, block_s: float
    ) -> list[Delivery]:
        """See :meth:`lback_relay.broker.base.Broker.read`."""
        streams = _streams(self._keys, tuple(signals), group)

        def command(block_ms: int | None) -> Command:
            return _read_command(streams, group, consumer, count, block_ms)

        try:
            reply = self._redis.read(command, block_s)
        except GroupLost as error:
            self._recreate(signals, group, error)
            return []
        return _deliveries(reply, streams) if reply else []

    def ask(
        self, signals: Sequence[str], group: str, consumer: str, *, count: int
    ) -> Callable[[], list[Delivery]]:
        """See :meth:`lback_relay.broker.base.Broker.ask`."""
        streams = _streams(self._keys, tuple(signals), group)
        reply = self._redis.ask(*_read_command(streams, group, consumer, count, None))

        def answer() -> list[Delivery]:
            try:
                found = reply()
            except GroupLost as error:
                self._recreate(signals, group, error)
                return []
            return _deliveries(found, streams) if found else []

        return answer

    def claim(
        self, signals: Sequence[str], group: str, consumer: str, *, min_idle_s: float, count: int
    ) -> list[Delivery]:
        """See :meth:`lback_relay.broker.base.Broker.claim`."""
        streams = _streams(self._keys, tuple(signals), group)
        min_idle_ms = max(0, int(min_idle_s * 1000))
        # Mostly nothing has expired anywhere, which one round trip tells.
        look = [("XPENDING", stream, group, *_idle(min_idle_ms), "-", "+", 1) for stream in streams]
        expired = [
            stream
            for stream, reply in zip(streams, self._redis.call_all(look), strict=True)
            if _found(reply)
        ]
        for suspects, limit in ((0, count), (1, 1)):
            claimed: list[Delivery] = []
            for stream in expired:
                room = limit - len(claimed)
                claim = CLAIM.command(stream, group, consumer, min_idle_ms, room, suspects)
                claimed += (_claimed(streams[stream], *entry) for entry in self._entries(claim))
                if len(claimed) >= limit:
                    break
            if claimed:
                return claimed
        return []

    def _entries(self, claim: Command) -> list[Any]:
        try:
            entries: list[Any] = self._redis.call(*claim)
        except GroupLost:  # read makes it again
            return []
        return entries

    def _recreate(self, signals: Sequence[str], group: str, error: GroupLost) -> None:
        now = time.monotonic()
        if now - self._warned_at >= _WARN_EVERY_S:
            self._warned_at = now
            logger.warning("group %s is made again, at the streams' beginning: %s", group, error)
        self.ensure_groups(signals, group)


@lru_cache(maxsize=64)
def _streams(keys: Keys, signals: tuple[str, ...], group: str) -> dict[bytes, Origin]:
    """Return all streams of the signals, in the order of reading: due retries go first."""
    redo = {keys.redo(signal, group).encode(): (signal, REDO) for signal in signals}
    return redo | {keys.events(signal).encode(): (signal, EVENTS) for signal in signals}


def _read_command(
    streams: Iterable[bytes], group: str, consumer: str, count: int, block_ms: int | None
) -> Command:
    keys = tuple(streams)
    block = () if block_ms is None else ("BLOCK", block_ms)
    return (
        "XREADGROUP", "GROUP", group, consumer, "COUNT", count, *block,
        "STREAMS", *keys, *(">",) * len(keys),
    )  # fmt: skip


def _deliveries(reply: list[Any], streams: dict[bytes, Origin]) -> list[Delivery]:
    deliveries: list[Delivery] = []
    for stream, entries in reply:
        signal, source = streams[stream]
        if source == EVENTS:
            # tuple.__new__ spares the keyword handling of Delivery's own.
            deliveries += [
                tuple.__new__(
                    Delivery,
                    (
                        signal,
                        EVENTS,
                        entry_id.decode(),
                        fields[1] if fields[0] == b"e" else _foreign(fields),
                        NO_ATTEMPTS,
                        1,
                    ),
                )
                for entry_id, fields in entries
            ]
        else:
            deliveries += [_redo(signal, entry_id, fields, 1) for entry_id, fields in entries]
    return deliveries


def _claimed(origin: Origin, entry_id: bytes, deliveries: int, fields: Any) -> Delivery:
    signal, source = origin
    if not fields:
        return Delivery(signal, source, entry_id.decode(), None, deliveries=deliveries)
    if source == REDO:
        return _redo(signal, entry_id, fields, deliveries)
    encoded = fields[1] if fields[0] == b"e" else _foreign(fields)
    return Delivery(signal, source, entry_id.decode(), encoded, deliveries=deliveries)


def _redo(signal: str, entry_id: bytes, fields: list[bytes], deliveries: int) -> Delivery:
    try:
        if fields[0] != b"r":
            raise MalformedEnvelope("an entry of the redo stream has no field 'r'")
        attempts, encoded = unpack_retry(fields[1])
    except MalformedEnvelope:
        # As it came, so that the worker puts it aside as malformed.
        attempts, encoded = {}, _foreign(fields)
    return Delivery(signal, REDO, entry_id.decode(), encoded, attempts, deliveries)


def _foreign(fields: list[bytes]) -> bytes:
    """Return the bytes of an entry that somebody else has written."""
    return fields[1] if len(fields) == 2 else b" ".join(fields)


def _idle(min_idle_ms: int) -> tuple[object, ...]:
    return ("IDLE", min_idle_ms) if min_idle_ms else ()


def _found(reply: Any) -> bool:
    if isinstance(reply, GroupLost):
        return False
    if isinstance(reply, BrokerError):
        raise reply
    return bool(reply)
