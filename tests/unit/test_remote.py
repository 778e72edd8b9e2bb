"""What may be registered as a handler, under which name, and with which options."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lback_relay.errors import DuplicateHandler, RegistrationError, UnsupportedHandler
from lback_relay.remote import (
    HandlerContext,
    HandlerOptions,
    RemoteDispatcher,
    make_handler,
    misfit_of,
)


def plain(sender: object, **kwargs: Any) -> None:
    """Take anything."""


async def awaited(sender: object, **kwargs: Any) -> None:
    """Take anything, later."""


class Mailer:
    """Holds handlers of several kinds."""

    def handle(self, sender: object, **kwargs: Any) -> None: ...

    async def __call__(self, sender: object, **kwargs: Any) -> None: ...


@pytest.fixture
def remote() -> RemoteDispatcher:
    """Return a dispatcher of the test's own."""
    return RemoteDispatcher()


def test_handlers_keep_the_order_in_which_they_were_connected(remote: RemoteDispatcher) -> None:
    """Handlers of one envelope run in this order."""
    remote.connect("a", plain)
    remote.connect("a", awaited)
    remote.connect("b", plain)
    assert remote.signals() == ("a", "b")
    assert [handler.function for handler in remote.handlers("a")] == [plain, awaited]
    assert remote.handlers("unknown") == ()


def test_receiver_returns_the_function_unchanged(remote: RemoteDispatcher) -> None:
    """A decorated handler can still be called directly."""

    @remote.receiver("a", max_attempts=8)
    def handler(sender: object, **kwargs: Any) -> str:
        return "called"

    assert handler(None) == "called"
    assert remote.handlers("a")[0].options.max_attempts == 8


def test_a_handler_is_named_by_module_and_qualname() -> None:
    """The name is what retries find their handler by."""
    assert make_handler(plain).name == f"{__name__}.plain"
    assert make_handler(Mailer().handle).name == f"{__name__}.Mailer.handle"
    assert make_handler(functools.partial(plain, extra=1)).name == f"{__name__}.plain"
    assert make_handler(plain, {"name": "own"}).name == "own"


@pytest.mark.parametrize(
    ("function", "is_async"),
    [
        (plain, False),
        (awaited, True),
        (Mailer().handle, False),
        (Mailer(), True),
        (functools.partial(awaited, extra=1), True),
    ],
)
def test_async_handlers_are_recognized(function: Callable[..., Any], is_async: bool) -> None:
    """Partials and callable objects too."""
    assert make_handler(function).is_async is is_async


def _generator(sender: object, **kwargs: Any) -> Iterator[int]:
    yield 1


def _position_only(sender: object, /, **kwargs: Any) -> None: ...


def _nothing() -> None: ...


def _no_sender(user: object) -> None: ...


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (_generator, "is a generator"),
        (_position_only, "'sender' by position only"),
        (_nothing, "takes no 'sender'; write def handler(sender, **kwargs)"),
        (_no_sender, "takes no 'sender'"),
        (Mailer, "is a class"),
        (Mailer.handle, "method without its object"),
        (42, "a value of type int can't be called"),
        ("name", "a value of type str can't be called"),
        (dict.fromkeys, "by position only"),
        (lambda sender, **kwargs: None, "a lambda has no name"),
    ],
)
def test_what_can_never_be_called_is_refused_when_declared(
    remote: RemoteDispatcher, function: Any, part: str
) -> None:
    """The sentence names the handler and the remedy."""
    with pytest.raises(UnsupportedHandler) as caught:
        remote.connect("a", function)
    assert part in str(caught.value)
    assert remote.signals() == ()


def test_a_lambda_with_a_name_is_accepted(remote: RemoteDispatcher) -> None:
    """The name is all that a lambda lacks."""
    remote.connect("a", lambda sender, **kwargs: None, name="own")
    assert remote.handlers("a")[0].name == "own"


def test_the_same_handler_twice_counts_once(remote: RemoteDispatcher) -> None:
    """A module imported twice must not run its handlers twice."""
    remote.connect("a", plain, max_attempts=2)
    remote.connect("a", plain, max_attempts=2)
    assert len(remote.handlers("a")) == 1


def test_another_handler_of_the_same_name_is_refused(remote: RemoteDispatcher) -> None:
    """Retries could not tell them apart."""
    remote.connect("a", plain, name="same")
    with pytest.raises(DuplicateHandler, match=r"'a' already has a handler named 'same'.*name="):
        remote.connect("a", awaited, name="same")
    with pytest.raises(DuplicateHandler):
        remote.connect("a", plain, name="same", max_attempts=9)


def test_disconnect_takes_a_handler_out(remote: RemoteDispatcher) -> None:
    """Also a bound method, which is a new object each time it is looked up."""
    mailer = Mailer()
    remote.connect("a", mailer.handle)
    remote.connect("a", plain)
    assert remote.disconnect("a", mailer.handle)
    assert not remote.disconnect("a", mailer.handle)
    assert remote.disconnect("a", plain)
    assert remote.signals() == ()


def test_clear_forgets_everything(remote: RemoteDispatcher) -> None:
    """For tests of users."""
    remote.connect("a", plain)
    remote.clear()
    assert remote.signals() == ()


def test_all_problems_of_options_are_listed_at_once(remote: RemoteDispatcher) -> None:
    """An unknown option gets a suggestion."""
    with pytest.raises(RegistrationError) as caught:
        remote.connect("a", plain, max_attempt=3, max_attempts=0, timeout_s=-1, delivery="both")
    text = str(caught.value)
    assert "max_attempt is no option of a handler; did you mean 'max_attempts'?" in text
    assert "max_attempts must be a whole number from 1" in text
    assert "timeout_s must be a number of seconds above 0, or None" in text
    assert "delivery must be 'queue', 'broadcast' or None" in text


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": True},
        {"max_attempts": 1.5},
        {"timeout_s": float("nan")},
        {"backoff_base_s": "1"},
        {"backoff_base_s": 10.0, "backoff_max_s": 1.0},
        {"name": ""},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    """Each alone."""
    with pytest.raises(RegistrationError):
        HandlerOptions(**options)


@pytest.mark.parametrize("signal", ["", None, 3])
def test_a_signal_needs_a_name(remote: RemoteDispatcher, signal: Any) -> None:
    """The name is a key in the broker."""
    with pytest.raises(RegistrationError, match="a signal's name must be text"):
        remote.connect(signal, plain)


def _annotated(sender: object, info: HandlerContext, **kwargs: Any) -> None: ...


def _optional(sender: object, info: HandlerContext | None = None, **kwargs: Any) -> None: ...


def _only_for_type_checkers(sender: Missing, info: HandlerContext) -> None: ...  # type: ignore[name-defined] # noqa: F821


def _payload_named_context(sender: object, context: dict[str, Any]) -> None: ...


@pytest.mark.parametrize("function", [_annotated, _optional, _only_for_type_checkers])
def test_an_annotated_parameter_gets_the_context(function: Callable[..., Any]) -> None:
    """All annotations of this file are text, as with ``from __future__ import annotations``."""
    handler = make_handler(function)
    assert handler.wants_context
    assert handler.context_parameter == "info"


def test_a_payload_value_named_context_stays_one() -> None:
    """``template_rendered`` carries a value of that name."""
    assert not make_handler(_payload_named_context).wants_context


def test_a_payload_that_does_not_fit_is_explained() -> None:
    """Only a handler without ``**kwargs`` can meet one."""
    handler = make_handler(_payload_named_context)
    assert misfit_of(handler, {"context": {}}) is None
    assert "add **kwargs" in str(misfit_of(handler, {"context": {}, "session": 1}))
    assert "context" in str(misfit_of(handler, {}))
    assert misfit_of(make_handler(_annotated), {"anything": 1}) is None


def test_delivery_decides_which_deliveries_a_handler_takes() -> None:
    """None takes a broadcast only where no queue delivery comes as well."""
    either = make_handler(plain)
    assert either.takes_queue
    assert either.takes_broadcast(("broadcast",))
    assert not either.takes_broadcast(("queue", "broadcast"))
    assert either.takes_broadcast()
    queued = make_handler(plain, {"delivery": "queue"})
    assert queued.takes_queue
    assert not queued.takes_broadcast()
    heard = make_handler(plain, {"delivery": "broadcast"})
    assert not heard.takes_queue
    assert heard.takes_broadcast(("queue", "broadcast"))
