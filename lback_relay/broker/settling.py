"""Settling, renewing and giving back what a consumer has in hand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from lback_relay.broker.base import EVENTS, REDO, Delivery, Settlement
from lback_relay.broker.connections import Command
from lback_relay.broker.failures import GroupLost
from lback_relay.broker.part import BrokerPart
from lback_relay.broker.records import pack_dead_letter, pack_retry
from lback_relay.broker.scripts import FORGET, GIVE_BACK, RENEW, SETTLE
from lback_relay.errors import BrokerError, SettlementRefused

_MAX_IDS = 1000
"""Ids in one command; the broker does nothing else meanwhile."""

ByStream = dict[tuple[str, str], list[Delivery]]


class Settling(BrokerPart):
    """The worker's side, as far as it holds."""

    def renew(self, deliveries: Sequence[Delivery], group: str, consumer: str) -> list[Delivery]:
        """See :meth:`lback_relay.broker.base.Broker.renew`."""
        chunks = _chunks(_by_stream(deliveries))
        replies = self._redis.call_all(
            [
                RENEW.command(self._of(chunk[0], group), group, consumer, *_ids(chunk))
                for chunk in chunks
            ]
        )
        lost: list[Delivery] = []
        for chunk, reply in zip(chunks, replies, strict=True):
            if isinstance(reply, GroupLost):
                lost += chunk
                continue
            if isinstance(reply, BrokerError):
                raise reply
            gone = {entry_id.decode() for entry_id in reply}
            lost += (delivery for delivery in chunk if delivery.entry_id in gone)
        return lost

    def give_back(self, deliveries: Sequence[Delivery], group: str, consumer: str) -> None:
        """See :meth:`lback_relay.broker.base.Broker.give_back`."""
        replies = self._redis.call_all(
            [
                GIVE_BACK.command(self._of(chunk[0], group), group, consumer, *_ids(chunk))
                for chunk in _chunks(_by_stream(deliveries))
            ]
        )
        for reply in replies:
            if isinstance(reply, BrokerError) and not isinstance(reply, GroupLost):
                raise reply

    def settle(
        self, settlements: Sequence[Settlement], group: str, consumer: str
    ) -> list[Delivery]:
        """See :meth:`lback_relay.broker.base.Broker.settle`."""
        done: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
        others: list[Settlement] = []
        for settlement in settlements:
            delivery, retries, dead_letters = settlement
            if retries or dead_letters:
                others.append(settlement)
            else:
                done[delivery[:2]].append(delivery[2])
        commands = [self._settle(settlement, group, consumer) for settlement in others]
        for (signal, source), ids in done.items():
            commands += self._acknowledge(self._stream(signal, source, group), source, group, ids)
        replies = self._redis.call_all(commands)
        for reply in replies[len(others) :]:
            if isinstance(reply, BrokerError) and not isinstance(reply, GroupLost):
                raise reply
        return _outcome(others, replies[: len(others)])

    def _settle(self, settlement: Settlement, group: str, consumer: str) -> Command:
        """Return the call that settles one entry that is more than acknowledged."""
        delivery = settlement.delivery
        values: list[Any] = []
        for index, retry in enumerate(settlement.retries):
            delay_ms = max(0, round(retry.delay_s * 1000))
            values += (delay_ms, pack_retry(delivery, index, retry.attempts))
        for letter in settlement.dead_letters:
            record = pack_dead_letter(letter, source=delivery.source, entry_id=delivery.entry_id)
            values += (delivery.encoded or b"", record)
        return SETTLE.command(
            self._of(delivery, group),
            self._keys.retry(delivery.signal, group),
            self._keys.dead(delivery.signal, group),
            group,
            consumer,
            delivery.entry_id,
            1 if delivery.source == REDO else 0,
            len(settlement.retries),
            *values,
        )

    @staticmethod
    def _acknowledge(stream: str, source: str, group: str, ids: list[str]) -> list[Command]:
        chunks = [ids[start : start + _MAX_IDS] for start in range(0, len(ids), _MAX_IDS)]
        if source == EVENTS:
            return [("XACK", stream, group, *chunk) for chunk in chunks]
        return [FORGET.command(stream, group, *chunk) for chunk in chunks]

    def _of(self, delivery: Delivery, group: str) -> str:
        return self._stream(delivery.signal, delivery.source, group)


def _outcome(settlements: list[Settlement], replies: list[Any]) -> list[Delivery]:
    """Return the deliveries that were left alone, or raise what was refused."""
    left_alone, unsettled, cause = [], [], None
    for settlement, reply in zip(settlements, replies, strict=True):
        if isinstance(reply, BrokerError) and not isinstance(reply, GroupLost):
            unsettled.append(settlement)
            cause = cause or reply
        elif reply != 1:
            left_alone.append(settlement.delivery)
    if cause is not None:
        raise SettlementRefused(
            f"{len(unsettled)} entries with retries or dead letters stay pending: {cause}",
            unsettled=unsettled,
            left_alone=left_alone,
        ) from cause
    return left_alone


def _by_stream(deliveries: Sequence[Delivery]) -> ByStream:
    streams: ByStream = {}
    for delivery in deliveries:
        streams.setdefault((delivery.signal, delivery.source), []).append(delivery)
    return streams


def _chunks(streams: ByStream) -> list[list[Delivery]]:
    return [
        deliveries[start : start + _MAX_IDS]
        for deliveries in streams.values()
        for start in range(0, len(deliveries), _MAX_IDS)
    ]


def _ids(deliveries: list[Delivery]) -> list[str]:
    return [delivery.entry_id for delivery in deliveries]
