"""What a worker does beside handling: promote, trim, leave, reap, say that it lives."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

from lback_relay.broker.connections import Connections
from lback_relay.broker.failures import GroupLost
from lback_relay.broker.keys import Keys
from lback_relay.broker.part import BrokerPart
from lback_relay.broker.records import pack_figures
from lback_relay.broker.scripts import LEAVE, PROMOTE, TRIM
from lback_relay.errors import BrokerError

MAX_PROMOTED: Final = 500
"""Retries that one call moves, per signal; the broker does nothing else meanwhile."""


MAX_REAPED: Final = 5000
"""Consumers of one stream that one call removes."""
REAPED_AT_ONCE: Final = 250
"""Consumers that one script removes; the broker does nothing else meanwhile."""
LONGEST_PAUSE_S: Final = 300.0
"""Workers trim more often than this; a longer pause means that all of them were away."""
WARN_EVERY_S: Final = 3600.0
"""A group that is absent is warned of so often, after the first time."""

logger = logging.getLogger(__name__)

Item = TypeVar("Item")


class Keeping(BrokerPart):
    """The worker's side, as far as it keeps house."""

    def __init__(self, connections: Connections, keys: Keys) -> None:
        super().__init__(connections, keys)
        # By signal and group: when it was warned of, and what it has missed since.
        self._absent: dict[tuple[str, str], tuple[float, int]] = {}

    def promote(self, signals: Sequence[str], group: str) -> float | None:
        """See :meth:`lback_relay.broker.base.Broker.promote`."""
        keys = self._keys
        replies = self._redis.call_all(
            [
                PROMOTE.command(keys.retry(signal, group), keys.redo(signal, group), MAX_PROMOTED)
                for signal in signals
            ]
        )
        waits = [wait_ms / 1000 for wait_ms in _checked(replies) if wait_ms >= 0]
        return min(waits, default=None)

    def trim(
        self, signals: Sequence[str], group: str = "", *, group_ttl_s: float | None = None
    ) -> int:
        """See :meth:`lback_relay.broker.base.Broker.trim`."""
        keys = self._keys
        ttl_ms = 0 if group_ttl_s is None else max(1, round(group_ttl_s * 1000))
        pause_ms = round(LONGEST_PAUSE_S * 1000)
        replies = self._redis.call_all(
            [
                TRIM.command(keys.events(signal), keys.seen(signal), group, ttl_ms, pause_ms)
                for signal in signals
            ]
        )
        total = 0
        trimmed = _checked(replies, where_lost=(0, 0))  # no stream, no entries
        for signal, (dropped, missed, *absent) in zip(signals, trimmed, strict=True):
            total += dropped
            for name, silent_ms in zip(absent[::2], absent[1::2], strict=True):
                self._warn(signal, name.decode("utf-8", "replace"), missed, silent_ms / 1000)
        return total

    def _warn(self, signal: str, group: str, missed: int, silent_s: float) -> None:
        """Say that entries were dropped which a group that is absent had not settled."""
        now = time.monotonic()
        warned_at, before = self._absent.get((signal, group), (float("-inf"), 0))
        missed += before
        if now - warned_at < WARN_EVERY_S:
            self._absent[signal, group] = warned_at, missed
            return
        self._absent[signal, group] = now, 0
        logger.warning(
            "group %s has not been seen for %s: %d entries of %s that it had not settled are "
            "dropped, and further ones will be; start its workers (with a longer --group-ttl-s "
            "everywhere, if it is to be away for long), or remove it: "
            "redis-cli XGROUP DESTROY '%s' '%s'",
            group, _as_long(silent_s), missed, signal, self._keys.events(signal), group,
        )  # fmt: skip

    def reap(self, signals: Sequence[str], group: str, *, idle_s: float) -> int:
        """See :meth:`lback_relay.broker.base.Broker.reap`."""
        streams = self._streams_of(signals, group)
        look = [("XINFO", "CONSUMERS", stream, group) for stream in streams]
        silent = [
            list(islice(_silent(consumers, idle_s), MAX_REAPED))
            for consumers in _checked(self._redis.call_all(look), where_lost=())
        ]
        # Older servers (6.2, 7.0) do not note the reads of a consumer that gets nothing, so that
        # silence alone would remove, again and again, workers that have nothing to do.
        living = self._with_heartbeat({name for names in silent for name in names})
        removed = 0
        for stream, names in zip(streams, silent, strict=True):
            gone = [name for name in names if name not in living]
            for page in _pages(gone, REAPED_AT_ONCE):
                removed += self._leave(stream, group, page)
        return removed

    def _with_heartbeat(self, names: set[bytes]) -> set[bytes]:
        """Return those consumers whose worker says that it lives: its id is the consumer's name."""
        found: set[bytes] = set()
        for page in _pages(sorted(names), REAPED_AT_ONCE):
            workers = [self._keys.worker(name.decode("utf-8", "replace")) for name in page]
            replies = _checked(self._redis.call_all([("EXISTS", worker) for worker in workers]))
            found.update(name for name, there in zip(page, replies, strict=True) if there)
        return found

    def _leave(self, stream: str, group: str, names: Sequence[bytes]) -> int:
        try:
            return int(self._redis.call(*LEAVE.command(stream, group, *names)))
        except GroupLost:  # and its consumers with it
            return 0

    def leave(self, signals: Sequence[str], group: str, consumer: str) -> bool:
        """See :meth:`lback_relay.broker.base.Broker.leave`."""
        replies = self._redis.call_all(
            [LEAVE.command(stream, group, consumer) for stream in self._streams_of(signals, group)]
        )
        return all(_checked(replies, where_lost=1))  # no group, no consumer

    def heartbeat(self, worker_id: str, figures: Mapping[str, str], *, ttl_s: float) -> None:
        """See :meth:`lback_relay.broker.base.Broker.heartbeat`."""
        ttl_ms = max(1, round(ttl_s * 1000))
        self._redis.call("SET", self._keys.worker(worker_id), pack_figures(figures), "PX", ttl_ms)

    def _streams_of(self, signals: Sequence[str], group: str) -> list[str]:
        keys = self._keys
        return [
            stream
            for signal in signals
            for stream in (keys.events(signal), keys.redo(signal, group))
        ]


def _silent(consumers: list[list[Any]], idle_s: float) -> Iterator[bytes]:
    """Yield the names of those that have nothing pending and were silent for so long."""
    for fields in consumers:
        info = dict(zip(fields[::2], fields[1::2], strict=True))
        if info[b"pending"] == 0 and info[b"idle"] >= idle_s * 1000:
            yield info[b"name"]


def _pages(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _as_long(seconds: float) -> str:
    days = seconds / 86_400
    return f"{days:.1f} days" if days >= 1 else f"{seconds:.0f} s"


def _checked(replies: list[Any], *, where_lost: Any = None) -> list[Any]:
    """Return the replies; raise the first refusal: the others have taken effect.

    Args:
        replies: of calls in one round trip.
        where_lost: stands for the reply where there is no such stream or group; None: that is a
            refusal, too.
    """
    checked = []
    for reply in replies:
        lost = where_lost is not None and isinstance(reply, GroupLost)
        if isinstance(reply, BrokerError) and not lost:
            raise reply
        checked.append(where_lost if lost else reply)
    return checked
