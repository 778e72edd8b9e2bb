"""Publish the outbox's rows and delete them: one sweep over the table.

A row: waiting -> claimed (committed) -> published -> deleted (committed). What can go wrong in
between:

- claimed, then killed: the claim runs out by the database's clock, and another sweep takes the row.
- published, no answer: the row stays, and is published again under the same number.
- published, then killed before the DELETE is committed: the same. Each row is a producer of its own
  (its envelope's id, sequence 1), so that the broker leaves out what it has already accepted,
  whoever publishes it, for a week.
- the claim runs out while its sweep is slow: two publish the same row; the broker accepts one.
- refused for one signal (its stream is full): the rows of that signal stay, in their order; the
  others go on.

Knows no thread and no application transaction. Durations are seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from lback_relay import outbox_table
from lback_relay.broker.base import Broker
from lback_relay.codec import decode
from lback_relay.codec_header import signed_header
from lback_relay.config import SignalConfig
from lback_relay.envelope import BROADCAST, QUEUE
from lback_relay.errors import BrokerError, BrokerUnavailable, EnvelopeError, RelayError
from lback_relay.outbox_table import Row
from lback_relay.throttle import ThrottledLog

if TYPE_CHECKING:
    from sqlalchemy import Engine

LEASE_S: Final = 10.0
"""For how long a row belongs to whoever claimed it."""
BATCH: Final = 100
"""Rows of one claim, which are in memory at once, and of one DELETE."""


@dataclass(slots=True)
class Published:
    """What came of publishing rows.

    Attributes:
        published: how many the broker has accepted and were deleted.
        doubled: how many of them the broker had already.
        refused: signals that the broker refused.
    """

    published: int = 0
    doubled: int = 0
    refused: set[str] = field(default_factory=set)


class Sweep:
    """Publishes what is in one database's outbox. One thread at a time may use it.

    Args:
        signals: how each signal is delivered; one that is not among them goes as its envelope says.
        connect: makes the broker when it is first needed.
        lease_s: for how long rows are claimed.
        claimant: who claims; None makes a new one.
    """

    def __init__(
        self,
        signals: Mapping[str, SignalConfig],
        connect: Callable[[], Broker],
        *,
        lease_s: float = LEASE_S,
        claimant: str | None = None,
    ) -> None:
        self.claimant = uuid4().hex if claimant is None else claimant
        self.lease_s = lease_s
        self._log = ThrottledLog(logging.getLogger("lback_relay.outbox"))
        self._signals = signals
        self._connect = connect
        self._broker: Broker | None = None

    def sweep(self, engine: Engine, *, until: Callable[[], bool] = lambda: False) -> Published:
        """Publish all rows that can be claimed, in the order in which they were written.

        Args:
            engine: of the database.
            until: asked before each claim; true ends the sweep.

        Raises:
            BrokerUnavailable: the broker does not answer; what is left stays in the table.
            SQLAlchemyError: as the database says.
        """
        done = Published()
        while not until():
            with engine.connect() as connection:
                if not outbox_table.has_claimable(connection, self.claimant):
                    break
            with engine.begin() as connection:
                rows = outbox_table.claim(
                    connection,
                    self.claimant,
                    lease_s=self.lease_s,
                    count=BATCH,
                    without=done.refused,
                )
            if not rows:
                break
            self.publish(engine, rows, done)
        return done

    def publish_committed(
        self, engine: Engine, envelope_ids: Sequence[str], done: Published
    ) -> None:
        """Publish the rows of these envelopes, in this order, as far as they are committed."""
        with engine.connect() as connection:
            found = {row.envelope_id: row for row in outbox_table.read(connection, envelope_ids)}
        self.publish(engine, [found[each] for each in envelope_ids if each in found], done)

    def publish(self, engine: Engine, rows: Iterable[Row], done: Published) -> None:
        """Publish rows in their order and delete them; add what came of it to ``done``.

        Raises: as :meth:`sweep`; what was published before is deleted all the same.
        """
        accepted: list[str] = []
        new = 0
        try:
            for row in rows:
                if row.signal in done.refused:
                    continue
                try:
                    new += self._publish(row)
                except BrokerUnavailable:
                    raise
                except BrokerError as error:
                    done.refused.add(row.signal)
                    self._log.say(
                        logging.ERROR,
                        "The broker refused a signal of the outbox; its rows stay: %s",
                        error,
                        signal=row.signal,
                    )
                else:
                    accepted.append(row.envelope_id)
        finally:
            if accepted:
                with engine.begin() as connection:
                    outbox_table.delete(connection, accepted)
                done.published += len(accepted)
                done.doubled += len(accepted) - new

    def close(self) -> None:
        """Close the broker."""
        broker, self._broker = self._broker, None
        if broker is not None:
            broker.close()

    def _publish(self, row: Row) -> int:
        if self._broker is None:
            self._broker = self._connect()
        signal = self._signals.get(row.signal) or _as_its_envelope_says(row)
        return self._broker.publish(
            row.signal,
            [row.encoded],
            producer_id=row.envelope_id,
            first_sequence=1,
            queue=QUEUE in signal.delivery,
            broadcast=BROADCAST in signal.delivery,
            max_backlog=signal.max_backlog,
        )


def _as_its_envelope_says(row: Row) -> SignalConfig:
    """Return the config of a signal that was taken out of the config while a row of it waited."""
    header = signed_header(row.encoded)
    if header is not None and header.delivery:  # it may be encrypted, and the keys be gone, too
        return SignalConfig(name=row.signal, delivery=header.delivery)
    try:
        return SignalConfig(name=row.signal, delivery=decode(row.encoded).delivery)
    except EnvelopeError:  # a worker makes a dead letter of it
        return SignalConfig(name=row.signal)


def described(error: Exception) -> str:
    """Say what went wrong without a value: SQLAlchemy's own text holds the parameters."""
    if isinstance(error, RelayError):
        return str(error)
    said = str(getattr(error, "orig", None) or "").strip().splitlines()  # the first is the cause
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__
