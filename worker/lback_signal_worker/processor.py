"""One delivery in, one settlement out. Knows no broker, no thread and no clock.

A :class:`Run` is a delivery on its way through its handlers, one after the other, in the order in
which they were connected. Each handler ends for itself: a success is remembered, a failure becomes
a retry of that handler alone or a dead letter, and the next handler runs in any case. What is left
at the end is the delivery's settlement.

| the handler | becomes |
|---|---|
| returns | nothing: acknowledged |
| raises RetryLater | a retry after its delay |
| raises Reject, or touches a value that was not relayed | a dead letter at once ("rejected") |
| can't take the payload by its signature | a dead letter at once ("rejected") |
| raises anything else, SystemExit too | a retry with backoff |
| does so in its last attempt | a dead letter ("attempts", or "timeout") |

An envelope that can't be decoded is a dead letter ("malformed") that keeps the bytes, and so is one
whose signature can't be verified ("unverified"), of which nothing is decoded.
"""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lback_relay.broker.base import DeadLetter, Delivery, Retry, Settlement
from lback_relay.envelope import BROADCAST, QUEUE, Envelope
from lback_relay.error_text import MAX_ERROR_LENGTH, described
from lback_relay.errors import (
    EnvelopeError,
    Reject,
    RetryLater,
    SignatureRejected,
    ValueNotRelayed,
)
from lback_relay.redaction import redact_text
from lback_relay.remote import Handler, HandlerContext, HandlerOptions, misfit_of
from lback_signal_worker.retry import backoff_s

logger = logging.getLogger(__name__)

MAX_TRACEBACK_LENGTH: Final = 20_000
MAX_DELAY_S: Final = 366 * 86_400.0

# A retry for a handler that this worker does not have: another version may be on its way up or
# down, so it waits for hours before it is given up.
_MISSING: Final = HandlerOptions(max_attempts=20, backoff_base_s=10.0, backoff_max_s=600.0)


class AttemptTimeout(TimeoutError):
    """An attempt took longer than its handler's ``timeout_s``."""


class Run:
    """One delivery on its way through its handlers. Owned by one thread at a time.

    Attributes:
        signal: the signal's name.
        delivery: what was read; None for a broadcast.
        encoded: the envelope's bytes.
        handlers: those that run.
        position: index of the handler that runs or comes next.
        envelope: once it is decoded.
        taken_at: when its lease began or was renewed, on the monotonic clock; not ours to judge.
        lost: the entry belongs to another consumer now; it need not be started any more.
    """

    __slots__ = (
        "dead_letters",
        "delivery",
        "encoded",
        "envelope",
        "handlers",
        "lost",
        "position",
        "retries",
        "signal",
        "taken_at",
    )

    def __init__(
        self,
        signal: str,
        encoded: bytes | None,
        handlers: tuple[Handler, ...],
        delivery: Delivery | None = None,
        taken_at: float = 0.0,
    ) -> None:
        self.signal = signal
        self.encoded = encoded
        self.handlers = handlers
        self.delivery = delivery
        self.taken_at = taken_at
        self.position = 0
        self.lost = False
        self.envelope: Envelope | None = None
        self.retries: list[Retry] | None = None
        self.dead_letters: list[DeadLetter] | None = None

    @property
    def finished(self) -> bool:
        """Whether no handler is left."""
        return self.position >= len(self.handlers)

    def settlement(self) -> Settlement:
        """Return what became of a queue delivery."""
        if self.delivery is None:
            raise ValueError("a broadcast is not settled")
        # tuple.__new__ spares the keyword handling of Settlement's own.
        return tuple.__new__(
            Settlement, (self.delivery, self.retries or (), self.dead_letters or ())
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """Opens runs and turns each handler's end into an outcome.

    Attributes:
        group: the worker's group.
        handlers: signal to its handlers.
        decode: takes an envelope's bytes, and the signal and the mode of where they were taken
            from; returns the envelope; raises EnvelopeError.
        random: returns a number from 0 up to, not including, 1; for the jitter.
    """

    group: str
    handlers: Mapping[str, tuple[Handler, ...]]
    decode: Callable[[bytes, str, str], Envelope]
    random: Callable[[], float]
    queued: dict[str, tuple[Handler, ...]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for signal, handlers in self.handlers.items():
            taking = tuple(handler for handler in handlers if handler.takes_queue)
            if taking:
                self.queued[signal] = taking

    def begin(self, delivery: Delivery, taken_at: float = 0.0) -> Run:
        """Return the run of a queue delivery."""
        handlers = self.queued.get(delivery.signal, ())
        attempts = delivery.attempts
        run = Run(delivery.signal, delivery.encoded, handlers, delivery, taken_at)
        if delivery.encoded is None:
            logger.error(
                "the entry %s of %s was trimmed before it was handled: its envelope is lost",
                delivery.entry_id, delivery.signal, extra={"relay_signal": delivery.signal},
            )  # fmt: skip
            run.handlers = ()
        elif attempts:
            run.handlers = tuple(handler for handler in handlers if handler.name in attempts)
            if len(run.handlers) != len(attempts):
                self._defer_missing(run, attempts)
        return run

    def begin_broadcast(self, signal: str, encoded: bytes) -> Run:
        """Return the run of a broadcast; which handlers take it is known once it is open."""
        # It has no lease that could end.
        return Run(signal, encoded, self.handlers.get(signal, ()), taken_at=math.inf)

    def open(self, run: Run) -> bool:
        """Decode the envelope. Returns False when there is nothing to run."""
        if run.envelope is None and run.handlers:
            mode = QUEUE if run.delivery else BROADCAST
            try:
                run.envelope = self.decode(run.encoded or b"", run.signal, mode)
            except EnvelopeError as error:
                self._put_aside(run, error)
                return False
            if run.delivery is None:
                sent_by = run.envelope.delivery
                run.handlers = tuple(
                    handler for handler in run.handlers if handler.takes_broadcast(sent_by)
                )
        return run.position < len(run.handlers)

    def arguments(self, run: Run, handler: Handler) -> dict[str, Any]:
        """Return what the handler is called with, by name. The run is open."""
        envelope = run.envelope
        if envelope is None:
            raise ValueError("the run is not open")
        arguments = dict(envelope.payload)
        arguments["sender"] = envelope.sender
        if handler.context_parameter is not None:
            arguments[handler.context_parameter] = HandlerContext(
                envelope_id=envelope.id,
                signal=run.signal,
                group=self.group,
                handler=handler.name,
                attempt=_attempt(run, handler),
                max_attempts=handler.options.max_attempts if run.delivery else 1,
                sent_at=envelope.sent_at,
                delivery=QUEUE if run.delivery else BROADCAST,
                origin=envelope.origin,
                trace=envelope.trace,
            )
        return arguments

    def failed(
        self, run: Run, handler: Handler, error: BaseException, *, stack: str | None = None
    ) -> None:
        """Record that a handler failed: a retry, a dead letter, or for a broadcast a log line.

        Args:
            run: the run.
            handler: which one failed.
            error: what it raised; its traceback is dropped, so that nothing it saw stays alive.
            stack: where it was, in place of the error's traceback.
        """
        attempt = _attempt(run, handler)
        extra = {
            "relay_signal": run.signal,
            "relay_handler": handler.name,
            "relay_envelope_id": run.envelope.id if run.envelope else "",
        }
        shown = _described(error)
        if run.delivery is None:
            logger.error(
                "handler %s failed on a broadcast of %s, which is not retried: %s",
                handler.name, run.signal, shown, exc_info=error, extra=extra,
            )  # fmt: skip
            error.__traceback__ = None
            return
        reason = self._reason(run, handler, error, attempt)
        if reason is None:
            delay_s = self._delay_s(handler, error, attempt)
            logger.warning(
                "handler %s failed on %s, attempt %d of %d, next in %.1f s: %s",
                handler.name, run.signal, attempt, handler.options.max_attempts, delay_s, shown,
                exc_info=None if isinstance(error, RetryLater) else error, extra=extra,
            )  # fmt: skip
            _add_retry(run, Retry(attempts={handler.name: attempt}, delay_s=delay_s))
        else:
            logger.error(
                "handler %s failed on %s, attempt %d of %d, now a dead letter (%s): %s",
                handler.name, run.signal, attempt, handler.options.max_attempts, reason, shown,
                exc_info=None if isinstance(error, Reject) else error, extra=extra,
            )  # fmt: skip
            letter = DeadLetter(
                handler=handler.name,
                reason=reason,
                error=shown,
                traceback=_writable(redact_text(stack or _formatted(error)))[
                    -MAX_TRACEBACK_LENGTH:
                ],
                attempts=attempt,
            )
            _add_dead_letter(run, letter)
        error.__traceback__ = None

    def crashed(self, run: Run, deaths: int) -> None:
        """End a run that has not begun: its entry was in hand when that many workers died."""
        logger.error(
            "an entry of %s was in hand when %d workers died; now a dead letter (crashed)",
            run.signal, deaths, extra={"relay_signal": run.signal},
        )  # fmt: skip
        error = f"WorkerDied: {deaths} workers died while they had this entry in hand"
        made = dict(run.delivery.attempts) if run.delivery else {}
        for handler in run.handlers:
            attempts = made.get(handler.name, 0) + deaths
            _add_dead_letter(
                run,
                DeadLetter(handler=handler.name, reason="crashed", error=error, attempts=attempts),
            )
        run.position = len(run.handlers)

    def _reason(self, run: Run, handler: Handler, error: BaseException, attempt: int) -> str | None:
        """Return why the handler gets no further attempt; None when it does."""
        if isinstance(error, Reject | ValueNotRelayed):
            return "rejected"
        if isinstance(error, TypeError) and run.envelope is not None:
            misfit = misfit_of(handler, run.envelope.payload)
            if misfit is not None:
                logger.error("%s", misfit, extra={"relay_handler": handler.name})
                return "rejected"
        if attempt < handler.options.max_attempts:
            return None
        return "timeout" if isinstance(error, AttemptTimeout) else "attempts"

    def _delay_s(self, handler: Handler, error: BaseException, attempt: int) -> float:
        if isinstance(error, RetryLater) and math.isfinite(error.delay_s):
            return min(error.delay_s, MAX_DELAY_S)
        options = handler.options
        return backoff_s(
            attempt,
            base_s=options.backoff_base_s,
            max_s=options.backoff_max_s,
            random=self.random,
        )

    def _put_aside(self, run: Run, error: EnvelopeError) -> None:
        extra = {"relay_signal": run.signal}
        handlers, run.handlers = run.handlers, ()
        if run.delivery is None:
            logger.error("a broadcast of %s can't be read: %s", run.signal, error, extra=extra)
            return
        reason = "unverified" if isinstance(error, SignatureRejected) else "malformed"
        logger.error(
            "an envelope of %s can't be read, now a dead letter (%s): %s",
            run.signal, reason, error, extra=extra,
        )  # fmt: skip
        # Of a retry it stays known whose it is: what has succeeded must not run again.
        made = run.delivery.attempts
        for name in [handler.name for handler in handlers] if made else [""]:
            letter = DeadLetter(
                handler=name,
                reason=reason,
                # With the class's name before it, its first word would be redacted as a signature.
                error=_described(error) if reason == "malformed" else str(error),
                attempts=made.get(name, 0),
            )
            _add_dead_letter(run, letter)

    def _defer_missing(self, run: Run, attempts: Mapping[str, int]) -> None:
        present = {handler.name for handler in run.handlers}
        for name, made in attempts.items():
            if name in present:
                continue
            attempt = made + 1
            extra = {"relay_signal": run.signal, "relay_handler": name}
            if attempt < _MISSING.max_attempts:
                delay_s = backoff_s(
                    attempt,
                    base_s=_MISSING.backoff_base_s,
                    max_s=_MISSING.backoff_max_s,
                    random=lambda: 1.0,
                )
                logger.warning(
                    "a retry waits for the handler %s of %s, which this worker does not have; "
                    "next in %.0f s", name, run.signal, delay_s, extra=extra,
                )  # fmt: skip
                _add_retry(run, Retry(attempts={name: attempt}, delay_s=delay_s))
            else:
                logger.error(
                    "no worker has the handler %s of %s, now a dead letter (attempts); was it "
                    "renamed?", name, run.signal, extra=extra,
                )  # fmt: skip
                error = f"UnknownHandler: no worker of the group has a handler named {name}"
                letter = DeadLetter(handler=name, reason="attempts", error=error, attempts=attempt)
                _add_dead_letter(run, letter)


def _attempt(run: Run, handler: Handler) -> int:
    """Return the number of the attempt at hand."""
    if run.delivery is None:
        return 1
    return run.delivery.attempts.get(handler.name, 0) + 1


def _add_retry(run: Run, retry: Retry) -> None:
    if run.retries is None:
        run.retries = []
    run.retries.append(retry)


def _add_dead_letter(run: Run, letter: DeadLetter) -> None:
    if run.dead_letters is None:
        run.dead_letters = []
    run.dead_letters.append(letter)


def _described(error: BaseException) -> str:
    return _writable(described(error))[:MAX_ERROR_LENGTH]


def _writable(text: str) -> str:
    """Escape what UTF-8 can't hold; the text comes from anywhere."""
    return text.encode("utf-8", "backslashreplace").decode()


def _shown_end(trace: str) -> str:
    return _writable(redact_text(trace))[-MAX_TRACEBACK_LENGTH:]


def _formatted(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except BaseException:  # noqa: BLE001 - a handler's own exception class may do anything
        return ""
