"""Retrying and dropping dead letters, batch by batch, so that it can stop between any two."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from lback_relay.broker.base import EVENTS, Broker, DeadLetterRecord
from lback_relay.cli.dead_selection import Walk
from lback_relay.codec import decode
from lback_relay.errors import EnvelopeError, PayloadEncrypted, SignatureRejected
from lback_relay.keyring import KeyRing
from lback_relay.signing import signed_anew, vouched_for

MAX_BATCH_BYTES: Final = 1_048_576
"""Of one step: the broker does nothing else meanwhile."""
MAX_NAMED: Final = 10
"""How many refused letters are named; of all others the number is enough."""


class Change(Protocol):
    """What is done to dead letters.

    Attributes:
        verb: what it is called: "retry".
        done: what it is called afterwards: "retried".
    """

    verb: str
    done: str

    def refusal(self, letter: DeadLetterRecord) -> str | None:
        """Return why it can't be done to this letter, or None."""

    def apply(
        self, broker: Broker, signal: str, group: str, letters: Sequence[DeadLetterRecord]
    ) -> int:
        """Do it to letters of one signal and group. Returns to how many: others may be gone."""


class Retrying:
    """Hand letters to the handlers that failed; with keys, signed anew: their age counts from now.

    Args:
        keys: None leaves the envelopes as they are.
        vouch: sign also what is not verified, for the person who retries it answers for it.
    """

    verb = "retry"
    done = "retried"

    def __init__(self, keys: KeyRing | None = None, *, vouch: bool = False) -> None:
        self._keys = keys
        self._vouch = vouch

    def refusal(self, letter: DeadLetterRecord) -> str | None:
        """Refuse what a worker could only make a dead letter of again, and what is not known."""
        try:
            self._as_sent(letter)
        except SignatureRejected as error:
            return f"{error}; --vouch retries it all the same, if you know where it comes from"
        except EnvelopeError as error:
            return f"its envelope can't be read: {error}"
        reason = letter.letter.reason
        reached_none = reason in ("malformed", "unverified") and letter.source == EVENTS
        if not letter.letter.handler and not reached_none:
            # Run by all handlers, it would be run by those that had succeeded, too.
            return "it does not say which handler failed"
        return None

    def apply(
        self, broker: Broker, signal: str, group: str, letters: Sequence[DeadLetterRecord]
    ) -> int:
        """See :class:`Change`."""
        sent = [replace(letter, encoded=self._as_sent(letter)) for letter in letters]
        return broker.retry_dead_letters(signal, group, sent)

    def _as_sent(self, letter: DeadLetterRecord) -> bytes:
        """Return the envelope as a worker gets it.

        Raises:
            EnvelopeError: it can't be read, or is not verified.
        """
        encoded = letter.encoded
        if self._keys is None:
            with suppress(PayloadEncrypted):  # the workers have the keys
                decode(encoded)
            return encoded
        try:
            return signed_anew(encoded, letter.signal, self._keys)
        except SignatureRejected:
            if not self._vouch:
                raise
        return vouched_for(encoded, letter.signal, self._keys)


class Dropping:
    """Delete letters."""

    verb = "drop"
    done = "dropped"

    def refusal(self, letter: DeadLetterRecord) -> str | None:  # noqa: ARG002 - every letter may go
        """See :class:`Change`."""
        return None

    def apply(
        self, broker: Broker, signal: str, group: str, letters: Sequence[DeadLetterRecord]
    ) -> int:
        """See :class:`Change`."""
        return broker.drop_dead_letters(signal, group, [letter.entry_id for letter in letters])


@dataclass(slots=True)
class Outcome:
    """How far it came.

    Attributes:
        looked_at: letters read.
        done: letters that were changed.
        gone: letters that somebody else had retried or dropped meanwhile.
        refused: letters that it can't be done to.
        reasons: (id, why) of the first of these.
        groups: whose letters were changed.
        stopped: it ended before its end.
    """

    looked_at: int = 0
    done: int = 0
    gone: int = 0
    refused: int = 0
    reasons: list[tuple[str, str]] = field(default_factory=list)
    groups: set[str] = field(default_factory=set)
    stopped: bool = False


def sort_out(
    change: Change, letters: Iterable[DeadLetterRecord], outcome: Outcome
) -> list[DeadLetterRecord]:
    """Return the letters that it can be done to, and count the others."""
    taken = []
    for letter in letters:
        why = change.refusal(letter)
        if why is None:
            taken.append(letter)
            continue
        outcome.refused += 1
        if len(outcome.reasons) < MAX_NAMED:
            outcome.reasons.append((letter.entry_id, why))
    return taken


def carry_out(
    change: Change,
    broker: Broker,
    walk: Walk,
    outcome: Outcome,
    *,
    stop: Callable[[], bool],
    progress: Callable[[], None],
) -> None:
    """Do it to all letters of a walk.

    Args:
        change: what.
        broker: where.
        walk: to which letters.
        outcome: is kept up to date, also for a caller that gets an error.
        stop: asked between two batches.
        progress: called after each page.

    Raises:
        BrokerError: what the outcome counts is done; of the last batch nothing is known when the
            broker did not answer, and doing it again is safe.
    """
    for page in walk:
        outcome.looked_at += page.looked_at
        # A page without any is a step, too: a long way through others can be stopped.
        for batch in list(batches(sort_out(change, page.letters, outcome))) or [[]]:
            if stop():
                outcome.stopped = True
                return
            changed = change.apply(broker, page.signal, page.group, batch)
            outcome.done += changed
            outcome.gone += len(batch) - changed
            if changed:
                outcome.groups.add(page.group)
        progress()


def batches(letters: Iterable[DeadLetterRecord]) -> Iterator[list[DeadLetterRecord]]:
    """Yield the letters in batches that are not too large for one step."""
    batch: list[DeadLetterRecord] = []
    size = 0
    for letter in letters:
        size += len(letter.encoded)
        if batch and size > MAX_BATCH_BYTES:
            yield batch
            batch, size = [], len(letter.encoded)
        batch.append(letter)
    if batch:
        yield batch
