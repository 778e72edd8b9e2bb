"""The handlers of the fault suite, as the module that its workers are given.

``FAULTS_HANDLERS`` says which handlers there are: JSON, signal to handler name to options.
``FAULTS_LEDGER`` is the ledger's file. What a handler does is in the payload: ``plan``, handler
name to behaviour, a mapping of any of:

- ``sleep_s``: sleep; ``spin_s``: keep the interpreter busy;
- ``fail``: raise in the attempts up to this one; ``fail_in``: raise in the process with this pid;
- ``exit``, ``segfault``: kill the process.

A handler whose options hold ``async`` is an async one; it sleeps on its loop.

With ``quiet`` in the payload a handler does nothing, not even write into the ledger.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from faults.support.ledger import FINISHED, STARTED, Ledger

from lback_relay import HandlerContext, remote_dispatcher


class PlannedFailure(Exception):
    """What a handler raises that is to fail."""


def behave(behaviour: Mapping[str, Any], attempt: int) -> None:
    """Do what the plan says."""
    if behaviour.get("exit"):
        os._exit(9)
    if behaviour.get("segfault"):
        ctypes.string_at(0)
    time.sleep(behaviour.get("sleep_s", 0))
    until = time.monotonic() + behaviour.get("spin_s", 0)
    while time.monotonic() < until:
        pass
    if attempt <= behaviour.get("fail", 0) or behaviour.get("fail_in") == os.getpid():
        raise PlannedFailure(f"attempt {attempt} was to fail")


def make_handler(name: str, ledger: Ledger) -> Callable[..., None]:
    """Return a handler that writes into the ledger."""

    def handler(
        sender: Any,
        context: HandlerContext,
        item: str,
        plan: Mapping[str, Mapping[str, Any]] | None = None,
        quiet: bool = False,
        **others: Any,
    ) -> None:
        if quiet:
            return
        ledger.note(STARTED, item, name, context.attempt)
        behave((plan or {}).get(name, {}), context.attempt)
        ledger.note(FINISHED, item, name, context.attempt)

    return handler


def make_async_handler(name: str, ledger: Ledger) -> Callable[..., Coroutine[Any, Any, None]]:
    """Return an async handler that writes into the ledger, and can sleep or fail."""

    async def handler(
        sender: Any,
        context: HandlerContext,
        item: str,
        plan: Mapping[str, Mapping[str, Any]] | None = None,
        **others: Any,
    ) -> None:
        behaviour = dict((plan or {}).get(name, {}))
        ledger.note(STARTED, item, name, context.attempt)
        await asyncio.sleep(behaviour.pop("sleep_s", 0))
        behave(behaviour, context.attempt)
        ledger.note(FINISHED, item, name, context.attempt)

    return handler


def register(environment: Mapping[str, str]) -> None:
    """Connect what the environment names."""
    ledger = Ledger(environment["FAULTS_LEDGER"])
    for signal, handlers in json.loads(environment["FAULTS_HANDLERS"]).items():
        for name, options in handlers.items():
            make = make_async_handler if options.pop("async", False) else make_handler
            remote_dispatcher.connect(signal, make(name, ledger), name=name, **options)


if "FAULTS_HANDLERS" in os.environ:
    register(os.environ)
