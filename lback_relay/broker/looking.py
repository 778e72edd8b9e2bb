"""Looking at what is there, without changing it."""

from __future__ import annotations

from lback_relay.broker.base import DeadLetterRecord
from lback_relay.broker.part import BrokerPart
from lback_relay.broker.records import unpack_dead_letter, unpack_figures
from lback_relay.broker.scripts import BACKLOG

_SCAN_COUNT = 1000


class Looking(BrokerPart):
    """The operator's side."""

    def workers(self) -> dict[str, dict[str, str]]:
        """See :meth:`lback_relay.broker.base.Broker.workers`."""
        found: set[bytes] = set()
        cursor = b"0"
        while True:
            cursor, keys = self._redis.call(
                "SCAN", cursor, "MATCH", self._keys.worker_pattern(), "COUNT", _SCAN_COUNT
            )
            found.update(keys)
            if int(cursor) == 0:
                break
        if not found:
            return {}
        keys = sorted(found)
        values = self._redis.call("MGET", *keys)
        return {
            self._keys.worker_of(key.decode()): unpack_figures(value)
            for key, value in zip(keys, values, strict=True)
            if value is not None  # it has expired since
        }

    def backlog(self, signal: str, group: str) -> dict[str, int]:
        """See :meth:`lback_relay.broker.base.Broker.backlog`."""
        keys = self._keys
        figures: list[int] = self._redis.call(
            *BACKLOG.command(
                keys.events(signal),
                keys.redo(signal, group),
                keys.retry(signal, group),
                keys.dead(signal, group),
                group,
            )
        )
        return dict(zip(("waiting", "pending", "retrying", "dead"), figures, strict=True))

    def dead_letters(self, signal: str, group: str, *, count: int) -> list[DeadLetterRecord]:
        """See :meth:`lback_relay.broker.base.Broker.dead_letters`."""
        entries = self._redis.call(
            "XRANGE", self._keys.dead(signal, group), "-", "+", "COUNT", count
        )
        records = []
        for raw_id, values in entries:
            fields = dict(zip(values[::2], values[1::2], strict=True))
            entry_id = raw_id.decode()
            records.append(
                DeadLetterRecord(
                    entry_id=entry_id,
                    encoded=fields.get(b"e", b""),
                    letter=unpack_dead_letter(fields.get(b"d", b"")),
                    group=group,
                    dead_at_ms=int(entry_id.partition("-")[0]),
                )
            )
        return records
