"""What becomes of one delivery."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.runs import SENT_AT, a_delivery, an_envelope

from lback_relay.broker.base import EVENTS, Delivery
from lback_relay.codec import decode, encode
from lback_relay.envelope import Envelope
from lback_relay.error_text import MAX_ERROR_LENGTH
from lback_relay.errors import Reject, RetryLater, SignatureRejected, ValueNotRelayed
from lback_relay.redaction import redact_text
from lback_relay.remote import Handler, HandlerContext, RemoteDispatcher
from lback_signal_worker.processor import (
    MAX_DELAY_S,
    MAX_TRACEBACK_LENGTH,
    AttemptTimeout,
    Processor,
    Run,
)
from lback_signal_worker.verification import Verification

SIGNAL = "user_registered"


def first(sender: object, **kwargs: Any) -> None: ...


def second(sender: object, **kwargs: Any) -> None: ...


def narrow(sender: object, user: object) -> None: ...


def knowing(sender: object, context: HandlerContext, **kwargs: Any) -> None: ...


def a_processor(
    *functions: Callable[..., Any], random: float = 0.5, **options: Any
) -> tuple[Processor, tuple[Handler, ...]]:
    """Return a processor whose handlers have the functions' names."""
    dispatcher = RemoteDispatcher()
    for function in functions:
        dispatcher.connect(SIGNAL, function, name=function.__name__, **options)
    handlers = dispatcher.handlers(SIGNAL)
    processor = Processor(
        group="mailers",
        handlers={SIGNAL: handlers},
        decode=Verification(None).decode,
        random=lambda: random,
    )
    return processor, handlers


def opened(processor: Processor, **delivery: Any) -> Run:
    """Return a run that is ready for its first handler."""
    run = processor.begin(a_delivery(**delivery))
    assert processor.open(run)
    return run


def raised(error: BaseException) -> BaseException:
    """Return an error as it looks after it was raised."""
    try:
        raise error
    except BaseException as caught:
        return caught


def test_a_delivery_whose_handlers_succeed_is_acknowledged() -> None:
    """Nothing is remembered of a success."""
    processor, handlers = a_processor(first, second)
    run = opened(processor)
    assert run.handlers == handlers
    run.position = 2
    assert run.finished
    settlement = run.settlement()
    assert (settlement.delivery, *settlement[1:]) == (run.delivery, (), ())


def test_a_failure_is_a_retry_of_that_handler_alone() -> None:
    """Its neighbours neither run again nor learn of it."""
    processor, handlers = a_processor(first, second, backoff_base_s=8)
    run = opened(processor)
    error = raised(OSError("no route"))
    processor.failed(run, handlers[1], error)
    (retry,) = run.settlement().retries
    assert retry.attempts == {"second": 1}
    assert retry.delay_s == 4.0
    assert run.settlement().dead_letters == ()
    assert error.__traceback__ is None, "what the handler saw would stay alive"


def test_a_retry_runs_only_the_handlers_it_names() -> None:
    """The attempt goes on counting from there."""
    processor, handlers = a_processor(first, second)
    run = opened(processor, attempts={"second": 3})
    assert run.handlers == handlers[1:]
    processor.failed(run, handlers[1], OSError())
    (retry,) = run.settlement().retries
    assert retry.attempts == {"second": 4}


def test_the_last_attempt_ends_in_a_dead_letter() -> None:
    """With all that is needed to understand it."""
    processor, handlers = a_processor(first, max_attempts=3)
    run = opened(processor, attempts={"first": 2})
    processor.failed(run, handlers[0], raised(OSError("no route")))
    settlement = run.settlement()
    assert settlement.retries == ()
    (letter,) = settlement.dead_letters
    assert (letter.handler, letter.reason, letter.attempts) == ("first", "attempts", 3)
    assert letter.error == "OSError: no route"
    assert "in raised" in letter.traceback


def test_a_timeout_in_the_last_attempt_is_named_as_such() -> None:
    """The place where it hung stands in for a traceback."""
    processor, handlers = a_processor(first, max_attempts=1)
    run = opened(processor)
    processor.failed(run, handlers[0], AttemptTimeout("took long"), stack="in socket.recv")
    (letter,) = run.settlement().dead_letters
    assert (letter.reason, letter.traceback) == ("timeout", "in socket.recv")


@pytest.mark.parametrize("error", [Reject("unknown customer"), ValueNotRelayed("was redacted")])
def test_what_can_never_succeed_is_put_aside_at_once(error: Exception) -> None:
    """Further attempts could not end otherwise."""
    processor, handlers = a_processor(first)
    run = opened(processor)
    processor.failed(run, handlers[0], raised(error))
    (letter,) = run.settlement().dead_letters
    assert (letter.reason, letter.attempts) == ("rejected", 1)
    assert str(error) in letter.error


def test_a_payload_that_does_not_fit_the_signature_is_rejected() -> None:
    """It is the call that fails, and it would fail again."""
    processor, handlers = a_processor(narrow)
    run = opened(processor, payload={"user": 1, "session": 2})
    processor.failed(run, handlers[0], raised(TypeError("unexpected keyword")))
    (letter,) = run.settlement().dead_letters
    assert letter.reason == "rejected"


def test_a_type_error_inside_a_handler_is_an_ordinary_failure() -> None:
    """The payload fits; the fault may pass."""
    processor, handlers = a_processor(narrow)
    run = opened(processor, payload={"user": 1})
    processor.failed(run, handlers[0], raised(TypeError("inside")))
    assert len(run.settlement().retries) == 1


@pytest.mark.parametrize(
    ("asked_s", "delay_s"),
    [(7.5, 7.5), (0, 0.0), (1e300, MAX_DELAY_S), (float("inf"), 0.5), (float("nan"), 0.5)],
)
def test_retry_later_is_taken_at_its_word(asked_s: float, delay_s: float) -> None:
    """But no delay is written that the broker can't hold."""
    processor, handlers = a_processor(first)
    run = opened(processor)
    processor.failed(run, handlers[0], RetryLater(asked_s))
    (retry,) = run.settlement().retries
    assert retry.delay_s == delay_s


def test_retry_later_does_not_extend_max_attempts() -> None:
    """A handler that asks for ever is given up too."""
    processor, handlers = a_processor(first, max_attempts=1)
    run = opened(processor)
    processor.failed(run, handlers[0], RetryLater(1))
    (letter,) = run.settlement().dead_letters
    assert letter.reason == "attempts"


def test_system_exit_is_a_failure_like_any_other() -> None:
    """A handler can't end the worker."""
    processor, handlers = a_processor(first)
    run = opened(processor)
    processor.failed(run, handlers[0], raised(SystemExit(1)))
    assert len(run.settlement().retries) == 1


def test_handlers_of_one_delivery_end_each_for_itself() -> None:
    """A dead letter of one, a retry of the other."""
    processor, handlers = a_processor(first, second)
    run = opened(processor)
    processor.failed(run, handlers[0], Reject("no"))
    processor.failed(run, handlers[1], OSError())
    settlement = run.settlement()
    assert [letter.handler for letter in settlement.dead_letters] == ["first"]
    assert [dict(retry.attempts) for retry in settlement.retries] == [{"second": 1}]


def test_bytes_that_are_no_envelope_become_a_raw_dead_letter() -> None:
    """No handler is called, and the bytes are kept."""
    processor, _ = a_processor(first)
    run = processor.begin(a_delivery(b"\xc1"))
    assert not processor.open(run)
    assert run.finished
    settlement = run.settlement()
    (letter,) = settlement.dead_letters
    assert (letter.handler, letter.reason) == ("", "malformed")
    assert settlement.delivery.encoded == b"\xc1"


def test_a_retry_that_can_not_be_read_keeps_whose_it_is() -> None:
    """So that a retry of the dead letter runs that handler alone."""
    processor, _ = a_processor(first, second)
    run = processor.begin(a_delivery(b"\xc1", attempts={"second": 2}))
    assert not processor.open(run)
    (letter,) = run.settlement().dead_letters
    assert (letter.handler, letter.reason, letter.attempts) == ("second", "malformed", 2)


def test_an_entry_without_a_body_is_acknowledged(caplog: pytest.LogCaptureFixture) -> None:
    """There is nothing to run or to keep, which is worth a line."""
    processor, _ = a_processor(first)
    run = processor.begin(Delivery(SIGNAL, EVENTS, "1-0", None))
    assert not processor.open(run)
    assert run.settlement()[1:] == ((), ())
    assert "trimmed before it was handled" in caplog.text


def test_a_retry_for_an_unknown_handler_waits() -> None:
    """Another version of the service may be on its way up."""
    processor, _ = a_processor(first)
    run = processor.begin(a_delivery(attempts={"renamed": 2}))
    assert run.finished
    (retry,) = run.settlement().retries
    assert retry.attempts == {"renamed": 3}
    assert retry.delay_s >= 10


def test_a_retry_for_an_unknown_handler_is_given_up_in_the_end() -> None:
    """It asks whether the handler was renamed."""
    processor, handlers = a_processor(first)
    run = processor.begin(a_delivery(attempts={"renamed": 19, "first": 1}))
    assert run.handlers == handlers
    (letter,) = run.settlement().dead_letters
    assert (letter.handler, letter.reason, letter.attempts) == ("renamed", "attempts", 20)


def test_an_entry_that_killed_its_workers_is_a_dead_letter_for_each_handler() -> None:
    """It is not run any more."""
    processor, _ = a_processor(first, second)
    run = processor.begin(a_delivery(deliveries=4))
    processor.crashed(run, 3)
    assert run.finished
    letters = run.settlement().dead_letters
    assert [(letter.handler, letter.reason, letter.attempts) for letter in letters] == [
        ("first", "crashed", 3),
        ("second", "crashed", 3),
    ]


def test_a_handler_gets_what_a_receiver_gets() -> None:
    """Sender and payload, by name; the payload is never the sender."""
    processor, handlers = a_processor(first)
    encoded = encode(an_envelope(payload={"number": 1, "sender": "mallory"}))
    run = opened(processor, encoded=encoded)
    assert processor.arguments(run, handlers[0]) == {"sender": "UserManager", "number": 1}


def test_a_handler_that_asks_for_it_gets_the_context() -> None:
    """It wins over a payload value of that name."""
    processor, handlers = a_processor(knowing, max_attempts=7)
    run = opened(processor, attempts={"knowing": 2}, payload={"context": "mine"})
    context = processor.arguments(run, handlers[0])["context"]
    assert isinstance(context, HandlerContext)
    assert run.envelope is not None
    assert context == HandlerContext(
        envelope_id=run.envelope.id,
        signal=SIGNAL,
        group="mailers",
        handler="knowing",
        attempt=3,
        max_attempts=7,
        sent_at=SENT_AT,
        origin="web:1",
        trace={},
    )


def test_a_broadcast_runs_the_handlers_that_take_it() -> None:
    """One that came by queue as well is left to the queue."""
    processor, handlers = a_processor(knowing)
    run = processor.begin_broadcast(SIGNAL, encode(an_envelope(delivery=("broadcast",))))
    assert processor.open(run)
    assert run.handlers == handlers
    context = processor.arguments(run, handlers[0])["context"]
    assert (context.delivery, context.attempt, context.max_attempts) == ("broadcast", 1, 1)
    both = processor.begin_broadcast(SIGNAL, encode(an_envelope(delivery=("queue", "broadcast"))))
    assert not processor.open(both)


def test_a_failed_or_unreadable_broadcast_is_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """There is nothing to settle."""
    processor, handlers = a_processor(first)
    run = processor.begin_broadcast(SIGNAL, encode(an_envelope(delivery=("broadcast",))))
    assert processor.open(run)
    processor.failed(run, handlers[0], raised(OSError("no route")))
    assert not processor.open(processor.begin_broadcast(SIGNAL, b"junk"))
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    with pytest.raises(ValueError, match="not settled"):
        run.settlement()


def test_handlers_of_broadcasts_are_not_run_for_the_queue() -> None:
    """A signal with no other handler is not read at all."""
    processor, _ = a_processor(first, delivery="broadcast")
    assert processor.queued == {}
    assert processor.begin(a_delivery()).finished


def test_errors_that_can_not_be_written_are_made_writable() -> None:
    """One odd message must not hold up the settlements beside it."""

    class Unprintable(Exception):
        def __str__(self) -> str:
            raise SystemExit

    processor, handlers = a_processor(first, second, max_attempts=1)
    run = opened(processor)
    processor.failed(run, handlers[0], raised(Unprintable()))
    processor.failed(run, handlers[1], raised(OSError("\ud800" + "x" * 100_000)))
    odd, long = run.settlement().dead_letters
    assert odd.error == "Unprintable: (its text can't be made)"
    assert long.error.startswith("OSError: \\ud800x")
    assert len(long.error) == MAX_ERROR_LENGTH
    assert len(long.traceback) <= MAX_TRACEBACK_LENGTH
    (long.error + long.traceback).encode()


def test_arguments_need_an_open_run() -> None:
    """A fault of the worker itself is said as such."""
    processor, handlers = a_processor(first)
    with pytest.raises(ValueError, match="not open"):
        processor.arguments(processor.begin(a_delivery()), handlers[0])


def test_an_envelope_that_is_not_verified_becomes_a_raw_dead_letter(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Verification is told where it was found."""
    found: list[tuple[bytes, str, str]] = []

    def refuse(encoded: bytes, signal: str, mode: str) -> Envelope:
        found.append((encoded, signal, mode))
        raise SignatureRejected("the envelope is not signed")

    processor, _ = a_processor(first)
    processor = replace(processor, decode=refuse)
    delivery = a_delivery()
    run = processor.begin(delivery)
    assert not processor.open(run)
    (letter,) = run.settlement().dead_letters
    assert (letter.handler, letter.reason) == ("", "unverified")
    assert letter.error == redact_text(letter.error) == "the envelope is not signed"
    assert "dead letter (unverified)" in caplog.text
    assert not processor.open(processor.begin_broadcast(SIGNAL, delivery.encoded or b""))
    assert "a broadcast of user_registered can't be read" in caplog.text
    assert [mode for _, _, mode in found] == ["queue", "broadcast"]
    assert found[0][:2] == (delivery.encoded, SIGNAL)


def test_the_raw_bytes_stay_for_a_dead_letter() -> None:
    """Signature and all, whatever decoding makes of them."""
    processor, _ = a_processor(first)
    processor = replace(processor, decode=lambda encoded, *_: decode(encoded[3:]))
    delivery = a_delivery(b"xyz" + encode(an_envelope()))
    run = processor.begin(delivery)
    assert processor.open(run)
    assert run.envelope is not None
    assert run.encoded == delivery.encoded
