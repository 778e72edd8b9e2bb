"""Handlers and their policy: what ``remote_dispatcher.connect`` and ``.receiver`` register.

A handler is called as a local receiver is: ``handler(sender=sender, **payload)``. So it must take
``sender`` and whatever else its signal carries; ``**kwargs`` takes what it does not name. A
handler without ``**kwargs`` is accepted, because it works as long as the payload fits, exactly as
it did locally; a payload that does not fit makes a dead letter at once, since no further attempt
could end otherwise.

A parameter annotated :class:`HandlerContext` (as text too) gets the context of the attempt. It
wins over a payload value of the same name.

What can never be called is refused where it is declared, not when the first signal comes. Nothing
here knows a broker, a clock or a thread pool. Durations are seconds.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
import threading
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar

from lback_relay.config_checks import closest
from lback_relay.envelope import BROADCAST, QUEUE
from lback_relay.errors import DuplicateHandler, RegistrationError, UnsupportedHandler

HandlerFunction = Callable[..., Any]
_Function = TypeVar("_Function", bound=HandlerFunction)


class RemoteDispatcher:
    """The handlers of this process by signal, in the order in which they were connected.

    Every method may be called from any thread.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, tuple[Handler, ...]] = {}
        self._lock = threading.Lock()

    def connect(self, signal: str, handler: HandlerFunction, **options: Any) -> None:
        """Register a handler of a signal.

        Connecting the same handler with the same options again does nothing.

        Args:
            signal: the signal's name.
            handler: a plain or ``async def`` function, bound method or callable object.
            **options: see :class:`HandlerOptions`.

        Raises:
            UnsupportedHandler: it could never be called with a signal.
            DuplicateHandler: another handler of this signal bears the same name.
            RegistrationError: the signal's name or the options are wrong; lists every problem.
        """
        if not isinstance(signal, str) or not signal:
            given = "empty" if signal == "" else type(signal).__name__
            raise RegistrationError(f"a signal's name must be text, not {given}")
        added = make_handler(handler, options)
        with self._lock:
            present = self._handlers.get(signal, ())
            for other in present:
                if other.name != added.name:
                    continue
                if other == added:
                    return
                raise DuplicateHandler(
                    f"{signal!r} already has a handler named {added.name!r}; give this one "
                    "another name: name='…'"
                )
            self._handlers[signal] = (*present, added)

    def receiver(self, signal: str, **options: Any) -> Callable[[_Function], _Function]:
        """Decorate a function to register it as a handler; the function itself is unchanged.

        Args and Raises: as :meth:`connect`.
        """

        def register(function: _Function) -> _Function:
            self.connect(signal, function, **options)
            return function

        return register

    def disconnect(self, signal: str, handler: HandlerFunction) -> bool:
        """Take a handler out again. Returns whether it was there."""
        with self._lock:
            present = self._handlers.get(signal, ())
            kept = tuple(other for other in present if other.function != handler)
            if kept:
                self._handlers[signal] = kept
            else:
                self._handlers.pop(signal, None)
            return len(kept) != len(present)

    def signals(self) -> tuple[str, ...]:
        """Return the names of the signals that have a handler."""
        with self._lock:
            return tuple(self._handlers)

    def handlers(self, signal: str) -> tuple[Handler, ...]:
        """Return the handlers of one signal, in the order in which they were connected."""
        with self._lock:
            return self._handlers.get(signal, ())

    def clear(self) -> None:
        """Forget every handler."""
        with self._lock:
            self._handlers.clear()


remote_dispatcher: Final = RemoteDispatcher()
"""The one that ``lback-signal-worker`` runs the handlers of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerOptions:
    """The policy of one handler.

    Attributes:
        max_attempts: how often it is run for one envelope before that becomes a dead letter.
        timeout_s: longest time of one attempt; None means no limit.
        backoff_base_s: upper bound of the wait after the first failed attempt; it doubles with
            each further one. The wait is drawn evenly between 0 and the bound.
        backoff_max_s: the bound does not grow beyond this.
        delivery: "queue", "broadcast", or None: queue, and broadcast only for envelopes that were
            not sent by queue as well.
        name: what retries and dead letters call it. None means ``module.qualname``. It must stay
            the same as long as retries wait for it.

    Raises:
        RegistrationError: with every problem.
    """

    max_attempts: int = 5
    timeout_s: float | None = None
    backoff_base_s: float = 1.0
    backoff_max_s: float = 300.0
    delivery: Literal["queue", "broadcast"] | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        problems = []
        if not _is_integer(self.max_attempts) or self.max_attempts < 1:
            problems.append("max_attempts must be a whole number from 1")
        if self.timeout_s is not None and not (_is_number(self.timeout_s) and self.timeout_s > 0):
            problems.append("timeout_s must be a number of seconds above 0, or None")
        for name in ("backoff_base_s", "backoff_max_s"):
            value = getattr(self, name)
            if not _is_number(value) or value < 0:
                problems.append(f"{name} must be a number of seconds from 0")
        if not problems and self.backoff_max_s < self.backoff_base_s:
            problems.append(
                f"backoff_max_s ({self.backoff_max_s}) is below backoff_base_s "
                f"({self.backoff_base_s}); make it at least as long"
            )
        if self.delivery not in (None, QUEUE, BROADCAST):
            problems.append("delivery must be 'queue', 'broadcast' or None")
        if self.name is not None and not (isinstance(self.name, str) and self.name):
            problems.append("name must be text that is not empty, or None")
        if problems:
            raise RegistrationError("; ".join(problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """One registered handler.

    Attributes:
        name: ``module.qualname``, or the option ``name``.
        function: what is called.
        options: its policy.
        is_async: whether calling it returns a coroutine.
        context_parameter: the name of the parameter that gets the :class:`HandlerContext`.
    """

    name: str
    function: HandlerFunction
    options: HandlerOptions
    is_async: bool = False
    context_parameter: str | None = None

    @property
    def wants_context(self) -> bool:
        """Whether it gets a :class:`HandlerContext`."""
        return self.context_parameter is not None

    @property
    def takes_queue(self) -> bool:
        """Whether it handles what comes by queue delivery."""
        return self.options.delivery in (None, QUEUE)

    def takes_broadcast(self, delivery: tuple[str, ...] | None = None) -> bool:
        """Tell whether it handles a broadcast envelope.

        Args:
            delivery: the envelope's delivery modes; None asks whether it may handle any.
        """
        if self.options.delivery == BROADCAST:
            return True
        return self.options.delivery is None and (delivery is None or QUEUE not in delivery)


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerContext:
    """What a handler may know about the attempt it is.

    Attributes:
        envelope_id: the same for every attempt and group: the key for the handler's idempotency.
        signal: the signal's name.
        group: the worker's group.
        handler: this handler's name.
        attempt: counted from 1.
        max_attempts: the last attempt's number.
        sent_at: when the signal was sent (aware, UTC).
        delivery: "queue" or "broadcast": how this delivery came.
        origin: ``host:pid`` of the process that sent it.
        trace: W3C trace context headers, if there were any.
    """

    envelope_id: str
    signal: str
    group: str
    handler: str
    attempt: int
    max_attempts: int
    sent_at: datetime
    delivery: str = QUEUE
    origin: str = ""
    trace: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def make_handler(function: HandlerFunction, options: Mapping[str, Any] | None = None) -> Handler:
    """Check a callable and its options, and return the handler.

    Raises:
        UnsupportedHandler: it could never be called with a signal.
        RegistrationError: the options are wrong; lists every problem.
    """
    checked = _checked_options(options or {})
    shown = _shown(function)
    parameters = _parameters(function, shown)
    _check_parameters(parameters, shown)
    return Handler(
        name=checked.name or _name_of(function, shown),
        function=function,
        options=checked,
        is_async=_is_async(function),
        context_parameter=_context_parameter(function, parameters),
    )


def misfit_of(handler: Handler, payload: Mapping[str, Any]) -> str | None:
    """Say why a payload does not fit a handler's signature; None when it does.

    The caller asks after a TypeError, to tell a call that can never succeed from a fault inside.
    """
    given = dict(payload)
    if handler.context_parameter is not None:
        given[handler.context_parameter] = None
    try:
        inspect.signature(handler.function).bind(sender=None, **given)
    except TypeError as error:
        return f"{handler.name} can't take this payload: {error}; add **kwargs to its parameters"
    return None


def _checked_options(given: Mapping[str, Any]) -> HandlerOptions:
    known = [item.name for item in fields(HandlerOptions)]
    problems = [
        f"{name} is no option of a handler{closest(name, known)}"
        for name in given
        if name not in known
    ]
    try:
        options = HandlerOptions(**{name: given[name] for name in known if name in given})
    except RegistrationError as error:
        raise RegistrationError("; ".join([*problems, str(error)])) from None
    if problems:
        raise RegistrationError("; ".join(problems))
    return options


def _parameters(function: object, shown: str) -> list[inspect.Parameter]:
    if isinstance(function, type):
        raise UnsupportedHandler(f"{shown} is a class; connect a function, or an object of it")
    if not callable(function):
        raise UnsupportedHandler(f"{shown} can't be called; connect a function")
    called = _called(function)
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise UnsupportedHandler(
            f"{shown} is a generator: calling it runs nothing; make it a function without yield"
        )
    try:
        return list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):
        raise UnsupportedHandler(
            f"the signature of {shown} can't be read; wrap it: def handler(sender, **kwargs): …"
        ) from None


def _check_parameters(parameters: list[inspect.Parameter], shown: str) -> None:
    by_name = {
        parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    remedy = "write def handler(sender, **kwargs)"
    first = parameters[0] if parameters else None
    if first is not None and first.name in ("self", "cls") and first.default is first.empty:
        raise UnsupportedHandler(
            f"{shown} is a method without its object; connect the method of an object"
        )
    for parameter in parameters:
        if parameter.kind is parameter.POSITIONAL_ONLY and parameter.default is parameter.empty:
            raise UnsupportedHandler(
                f"{shown} takes {parameter.name!r} by position only, and a signal is passed by "
                f"name; {remedy}"
            )
    if "sender" not in by_name and not takes_any:
        raise UnsupportedHandler(f"{shown} takes no 'sender'; {remedy}")


def _context_parameter(
    function: HandlerFunction, parameters: list[inspect.Parameter]
) -> str | None:
    called = _called(function)
    try:
        hints = typing.get_type_hints(called)
    except Exception:  # noqa: BLE001 - an annotation may name what exists for type checkers only
        hints = {}
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            continue
        hint = hints.get(parameter.name, parameter.annotation)
        if hint is HandlerContext or HandlerContext in typing.get_args(hint):
            return parameter.name
        if isinstance(hint, str) and re.search(r"\bHandlerContext\b", hint):
            return parameter.name
    return None


def _called(function: Any) -> Any:
    """Return the function below partials, decorators' bound methods and callable objects."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or isinstance(function, type):
        return function
    return getattr(type(function), "__call__", function)  # noqa: B004 - its code, not whether


def _is_async(function: HandlerFunction) -> bool:
    return inspect.iscoroutinefunction(_called(function))


def _shown(function: object) -> str:
    named: Any = function
    while isinstance(named, functools.partial):
        named = named.func
    if not callable(named):
        return f"a value of type {type(named).__name__}"
    owner = named if hasattr(named, "__qualname__") else type(named)
    return f"{getattr(owner, '__module__', None) or '?'}.{owner.__qualname__}"


def _name_of(function: HandlerFunction, shown: str) -> str:
    if "<lambda>" in shown:
        raise UnsupportedHandler(
            "a lambda has no name by which its retries could find it; connect a function, or "
            "give it one: name='…'"
        )
    bound_to = getattr(function, "__self__", None)
    if bound_to is not None and not isinstance(bound_to, type):
        # The class of the object, not the one that defines the method: siblings differ by it.
        method = shown.rpartition(".")[2]
        return f"{type(bound_to).__module__}.{type(bound_to).__qualname__}.{method}"
    return shown


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
