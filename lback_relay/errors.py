"""Every error the relay raises, below one base::

    RelayError
    ├── ConfigError(ValueError)      config, settings, URLs; lists all problems at once
    ├── RegistrationError            a handler that can't be registered
    │   ├── DuplicateHandler
    │   └── UnsupportedHandler
    ├── EnvelopeError                bytes that are no envelope, or values that can't become one
    │   ├── MalformedEnvelope
    │   ├── UnsupportedVersion
    │   ├── PayloadTooLarge
    │   ├── PayloadEncrypted         it is encrypted, and its key is not here
    │   └── SignatureRejected        not signed, altered, moved, too old, or of an unknown key
    ├── ValueNotRelayed              a handler touched a redacted or omitted value
    ├── BrokerError                  what the broker answered
    │   ├── BrokerUnavailable        it did not answer: the outcome may be unknown
    │   ├── BacklogFull              the stream has reached max_backlog
    │   ├── SettlementRefused        retries or dead letters could not be written
    │   └── LeaseLost                the entry belongs to another consumer now
    ├── SpoolError                   the spool's file can't be written or read
    │   └── SpoolDamaged
    └── DrainTimeout                 handlers were still running when the drain's time was up

Two exceptions are not errors but a handler's word to the worker, and stand apart:
:class:`RetryLater` and :class:`Reject`.

A message is one sentence that names the thing, and where there is one, a remedy. No message
carries a payload's value or an unmasked URL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class RelayError(Exception):
    """Base of every error that the relay raises."""


class ConfigError(RelayError, ValueError):
    """Config that can't be used.

    Attributes:
        problems: every problem found, one sentence each; never empty.
        source: where the config came from (a file, "settings.py", "environment"), for the message.
    """

    def __init__(self, problems: Sequence[str], *, source: str = "config") -> None:
        self.problems = tuple(problems)
        self.source = source
        if len(self.problems) == 1:
            text = f"{source}: {self.problems[0]}"
        else:
            listed = "".join(f"\n  - {problem}" for problem in self.problems)
            text = f"{source}: {len(self.problems)} problems{listed}"
        super().__init__(text)


class RegistrationError(RelayError):
    """A handler that can't be registered; raised where it is declared."""


class DuplicateHandler(RegistrationError):
    """Another handler of the same signal already bears this name."""


class UnsupportedHandler(RegistrationError):
    """The object can't serve as a handler: not callable, or its signature can't take a signal."""


class EnvelopeError(RelayError):
    """Bytes that are no envelope, or values that can't become one."""


class MalformedEnvelope(EnvelopeError):
    """The bytes do not follow ``docs/wire-format.md``."""


class UnsupportedVersion(EnvelopeError):
    """The envelope was written by a version that this one can't read."""


class PayloadTooLarge(EnvelopeError):
    """The encoded envelope is over the size limit, even with its largest values omitted."""


class PayloadEncrypted(EnvelopeError):
    """The envelope is encrypted, and this process has no keys."""


class SignatureRejected(EnvelopeError):
    """The envelope is not signed, was altered or moved, is too old, or its key is not known."""


class ValueNotRelayed(RelayError, AttributeError, TypeError):
    """A handler touched a value that was redacted or omitted on the sending side.

    It is an AttributeError and a TypeError too, so that ``getattr(value, name, default)``,
    ``hasattr`` and duck typing behave as they would with any object lacking the attribute.
    """


class BrokerError(RelayError):
    """The broker refused or failed."""


class BrokerUnavailable(BrokerError):
    """The broker did not answer: whether it applied the call is unknown."""


class BacklogFull(BrokerError):
    """The stream holds ``max_backlog`` envelopes; nothing was appended."""


class NumbersSpent(BrokerError):
    """The broker has refused a batch and counts its numbers as accepted: it needs others."""


class SettlementRefused(BrokerError):
    """The broker refused to write some retries or dead letters; their entries stay pending.

    Attributes:
        unsettled: the settlements that were refused; all others of the call took effect.
        left_alone: deliveries of the call that are not this consumer's any more.
    """

    def __init__(self, text: str, *, unsettled: Sequence[Any], left_alone: Sequence[Any]) -> None:
        self.unsettled = tuple(unsettled)
        self.left_alone = tuple(left_alone)
        super().__init__(text)


class LeaseLost(BrokerError):
    """The entry belongs to another consumer now; nothing was changed."""


class SpoolError(RelayError):
    """The spool can't be written or read now; what is in it stays."""


class SpoolDamaged(SpoolError):
    """The spool's file is no such file any more; it has to be looked at by a person."""


class DrainTimeout(RelayError):
    """Handlers were still running when the drain's time was up; their entries stay pending."""


class RetryLater(Exception):  # a request to the worker, not an error
    """Raised by a handler: run me again after ``delay_s`` seconds, as the next attempt.

    Args:
        delay_s: seconds from now, at least 0. ``max_attempts`` still holds.
    """

    def __init__(self, delay_s: float, reason: str = "") -> None:
        if delay_s < 0:
            raise ValueError(f"delay_s is {delay_s}; it must be 0 or more seconds")
        self.delay_s = float(delay_s)
        self.reason = reason
        super().__init__(reason or f"retry in {delay_s} s")


class Reject(Exception):  # a request to the worker, not an error
    """Raised by a handler: do not try again; make it a dead letter with this reason at once."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)
