"""The transport contract: what a broker does for publishers and workers.

Both sides know these types and :func:`lback_relay.broker.connect` alone. Whoever implements
:class:`Broker` passes ``tests/contract/test_broker.py``.

Threads: every method may be called from any thread at any time. Processes: a broker opens its
connections when first used and must not be used on both sides of a fork; make one per process.
Errors: :class:`~lback_relay.errors.BrokerUnavailable` when the broker did not answer (the outcome
is then unknown; publishing again under the same producer and sequence is safe), other
:class:`~lback_relay.errors.BrokerError` when it refused. Durations are seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, Protocol

EVENTS = "events"
"""Source of a delivery: the signal's own stream."""
REDO = "redo"
"""Source of a delivery: the group's stream of due retries."""

SUSPECT_DELIVERIES = 3
"""From this count on an entry may be what kills its workers: it is handed out alone."""


NO_ATTEMPTS: Mapping[str, int] = MappingProxyType({})


class Delivery(NamedTuple):
    """One handing of an envelope to a consumer of a group. Construct it by keywords.

    Attributes:
        signal: the signal's name.
        source: :data:`EVENTS` or :data:`REDO`.
        entry_id: the entry's id in that stream, unique per (signal, source).
        encoded: the envelope's bytes; None when the entry's body is gone (trimmed elsewhere).
        attempts: handler name to the number of attempts made; only these handlers run. Empty for
            :data:`EVENTS`: every handler of the group runs, none has yet.
        deliveries: how often the entry has been handed to a consumer, this time included; 1 for a
            first delivery.
    """

    # Named tuples, because one is made for every envelope: a frozen dataclass takes five times as
    # long.
    signal: str
    source: str
    entry_id: str
    encoded: bytes | None
    attempts: Mapping[str, int] = NO_ATTEMPTS
    deliveries: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Run these handlers again later.

    Attributes:
        attempts: handler name to the number of attempts made so far.
        delay_s: from now, by the broker's clock.
    """

    attempts: Mapping[str, int]
    delay_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """Put the envelope aside for one handler, or for all when it can't be decoded.

    Attributes:
        handler: the handler's name; "" when no handler was reached.
        reason: one word: "attempts", "rejected", "malformed", "unverified", "crashed", "timeout".
        error: "TypeName: message" of the last failure.
        traceback: its formatted traceback, or "".
        attempts: attempts made.
    """

    handler: str
    reason: str
    error: str
    traceback: str = ""
    attempts: int = 0


class Settlement(NamedTuple):
    """What became of one delivery. Neither retries nor dead letters: it is acknowledged.

    Several handlers of one delivery may end differently, so that one settlement can hold several
    retries (each with its own delay) and several dead letters. Construct it by keywords.
    """

    delivery: Delivery
    retries: Sequence[Retry] = ()
    dead_letters: Sequence[DeadLetter] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterRecord:
    """A dead letter as it is stored.

    Attributes:
        entry_id: its own id, unique per signal and group, and ordered by time.
        encoded: the envelope's bytes, as they came.
        letter: what happened; its fields are empty where somebody else wrote the entry.
        signal: the signal's name.
        group: whose handler failed.
        source: :data:`EVENTS` or :data:`REDO`, or "" where that is not known.
        source_id: the id of the entry that became it, or "".
        dead_at_ms: when, by the broker's clock.
    """

    entry_id: str
    encoded: bytes
    letter: DeadLetter
    signal: str
    group: str
    source: str
    source_id: str
    dead_at_ms: int


class DeadLetterStream(NamedTuple):
    """Where dead letters lie.

    Attributes:
        signal: the signal's name.
        group: whose they are.
        letters: how many there are, at least 1.
        last_id: the newest one's id.
    """

    signal: str
    group: str
    letters: int
    last_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """How a broker is set up: sentences that name what is wrong, and the remedy.

    Attributes:
        problems: for which the relay can't keep its promises, or can't work at all.
        warnings: what else endangers them, or could not be seen.
    """

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Subscription(Protocol):
    """A live subscription to the broadcasts of some signals. One thread gets, any may close."""

    def get(self, timeout_s: float) -> tuple[str, bytes] | None:
        """Return (signal, envelope bytes), or None when none came within ``timeout_s``.

        It reconnects by itself; raises BrokerUnavailable while it can't (call again later).
        """

    def close(self) -> None:
        """End it; a :meth:`get` that waits returns None within a second."""


class Broker(Protocol):
    """One broker in one namespace."""

    def ping(self) -> None:
        """Raise BrokerUnavailable, or BrokerError when it refuses us (password, rights)."""

    def inspect(self, *, persistence: bool) -> Inspection:
        """Look at how the broker is set up: its version, its eviction, its persistence.

        Args:
            persistence: whether to look at that too; a broker for development needs none.

        Raises:
            BrokerUnavailable, BrokerError: as :meth:`ping`.
        """

    def close(self) -> None:
        """Close all connections. The broker can be used again afterwards; it then reconnects."""

    # publishing ------------------------------------------------------------------------------

    def publish(
        self,
        signal: str,
        encoded: Sequence[bytes],
        *,
        producer_id: str,
        first_sequence: int,
        queue: bool,
        broadcast: bool,
        max_backlog: int | None = None,
        fresh: bool = False,
    ) -> int:
        """Append and/or broadcast a batch, each envelope once however often this is called.

        ``encoded[i]`` has the sequence number ``first_sequence + i`` of this producer and signal;
        what the broker has accepted before is left out. Atomic: all of the batch or none. The
        broker remembers a producer for a week after its last batch.

        ``fresh`` says that nobody has given any of these numbers to a broker or to a spool before,
        so that there is nothing to leave out.

        Returns: how many were new.
        Raises: BacklogFull (the stream held ``max_backlog`` entries before this batch),
            NumbersSpent (of a fresh batch: nothing was appended, and these numbers would be left
            out from now on), BrokerUnavailable, BrokerError (also at the broker's maxmemory;
            nothing was appended).
        """

    # consuming -------------------------------------------------------------------------------

    def ensure_groups(self, signals: Sequence[str], group: str) -> None:
        """Create the group on each signal's streams, at 0, if it is not there. Idempotent."""

    def read(
        self, signals: Sequence[str], group: str, consumer: str, *, count: int, block_s: float
    ) -> list[Delivery]:
        """Take up to ``count`` new entries (per stream), due retries before events.

        Blocks up to ``block_s`` when there are none. Recreates a lost group or stream (at 0, with
        a warning) and returns [] in that call.
        """

    def ask(
        self, signals: Sequence[str], group: str, consumer: str, *, count: int
    ) -> Callable[[], list[Delivery]]:
        """Ask for what :meth:`read` takes without blocking; return what waits for the answer.

        That is to be called once, by the same thread, before it calls anything else that reads.
        What the broker hands out it hands out now: the leases begin, and with an answer that
        nobody waits for, or that is lost, its entries are claimed when they end.
        """

    def claim(
        self, signals: Sequence[str], group: str, consumer: str, *, min_idle_s: float, count: int
    ) -> list[Delivery]:
        """Take over up to ``count`` entries whose lease has expired, whoever had them.

        All pending entries are looked at, however many are still leased. An entry that was in hand
        when two workers died is a suspect: it is returned only when there are no others, alone and
        with ``deliveries`` >= :data:`SUSPECT_DELIVERIES`, so that the caller can run it by itself
        and a thousand innocents do not pay for one that kills its worker. Entries whose body is
        gone come with ``encoded`` None; they are acknowledged already.
        """

    def renew(self, deliveries: Sequence[Delivery], group: str, consumer: str) -> list[Delivery]:
        """Renew the lease of each entry that still is this consumer's.

        Returns: those that are not (settling them will change nothing).
        """

    def settle(
        self, settlements: Sequence[Settlement], group: str, consumer: str
    ) -> list[Delivery]:
        """Acknowledge, schedule retries and write dead letters, each entry atomically.

        Entries that are not this consumer's any more are left alone, but for mere
        acknowledgements: what has been handled need not be handled again, whoever has it now.

        Returns: those that were left alone.
        Raises: SettlementRefused, when the broker refused retries or dead letters (it is at its
            maxmemory): those entries are pending as before and the error names them; everything
            else is settled. BrokerUnavailable: some may be settled; settling again is safe, and
            returns as left alone what was settled before.
        """

    def give_back(self, deliveries: Sequence[Delivery], group: str, consumer: str) -> None:
        """Return unstarted entries: the next claim of any consumer takes them at once.

        Their delivery count is set back by one.
        """

    def promote(self, signals: Sequence[str], group: str) -> float | None:
        """Move due retries to the redo streams.

        Returns: seconds until the next retry of these signals is due (0 when more are due than
            one call moves); None when there is none.
        Raises: BrokerError at the broker's maxmemory: what was not moved stays scheduled.
        """

    def trim(
        self, signals: Sequence[str], group: str = "", *, group_ttl_s: float | None = None
    ) -> int:
        """Drop the entries that every group has settled. Returns how many.

        Args:
            signals: whose entries.
            group: whose worker asks; the group is noted as seen. "" is nobody's.
            group_ttl_s: a group that was not seen for so long by the broker's clock does not count
                any more. What is dropped although such a group has not settled it is lost to that
                group; a warning names both. Time in which nobody asked is nobody's absence.
                None: every group counts.
        """

    def reap(self, signals: Sequence[str], group: str, *, idle_s: float) -> int:
        """Remove consumers whose workers are gone. Returns how many, counted by stream.

        Gone: nothing pending, silent for ``idle_s``, and without a heartbeat. One that lives all
        the same is not harmed: its next read makes it again. One call removes some thousands.
        """

    def leave(self, signals: Sequence[str], group: str, consumer: str) -> bool:
        """Remove the consumer where nothing of its own is pending. Returns whether all is gone."""

    def heartbeat(self, worker_id: str, figures: Mapping[str, str], *, ttl_s: float) -> None:
        """Say that this worker lives, with its figures, for ``ttl_s``."""

    # looking ---------------------------------------------------------------------------------

    def workers(self) -> dict[str, dict[str, str]]:
        """Return the live workers' last figures by worker id."""

    def backlog(self, signal: str, group: str) -> dict[str, int]:
        """Return ``{"waiting", "pending", "retrying", "dead"}`` of one signal and group.

        Waiting: sent and not yet delivered to the group. Pending: delivered and not yet settled.
        Retrying: scheduled, or due and not yet delivered. Dead: dead letters.
        """

    # dead letters ----------------------------------------------------------------------------

    def now_ms(self) -> int:
        """Return the broker's time, by which dead letters are dated."""

    def dead_letter_streams(
        self, signal: str | None = None, group: str | None = None
    ) -> list[DeadLetterStream]:
        """Return where there are dead letters, of one signal or one group or all, sorted."""

    def dead_letters(
        self, signal: str, group: str, *, count: int, after: str = "", until: str = ""
    ) -> list[DeadLetterRecord]:
        """Return the oldest ``count`` dead letters.

        Args:
            signal: the signal's name.
            group: whose they are.
            count: how many at most; an envelope may take megabytes.
            after: only those after this id. With the last id of a page it is the next page.
            until: only those up to this id, or up to this ms when it is an id's first half.
        """

    def find_dead_letters(
        self, signal: str, group: str, entry_ids: Sequence[str]
    ) -> list[DeadLetterRecord]:
        """Return those of these dead letters that are there."""

    def retry_dead_letters(
        self, signal: str, group: str, letters: Sequence[DeadLetterRecord]
    ) -> int:
        """Have the handler of each letter run again, from its first attempt, and no other one.

        A letter without a handler is run by all handlers of the group. In one step for all: a
        letter that is not there any more is left out, so that calling this again doubles nothing.

        Returns: how many were there.
        Raises: BrokerError at the broker's maxmemory: all of them stay.
        """

    def drop_dead_letters(self, signal: str, group: str, entry_ids: Sequence[str]) -> int:
        """Delete dead letters. Returns how many were there."""

    # broadcasting ----------------------------------------------------------------------------

    def subscribe(self, signals: Sequence[str]) -> Subscription:
        """Open a subscription. What is sent before this returns is not heard."""
