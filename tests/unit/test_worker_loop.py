"""What handlers do to the event loop that they share, and must not end it with."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from support.executors import Running


@pytest.fixture
def running() -> Iterator[Running]:
    """Yield an executor that ends with the test."""
    running = Running()
    yield running
    running.close()


async def exits() -> None:
    """End the process, as a handler may think."""
    sys.exit(1)


async def child_exits() -> None:
    """Exit in a task of one's own."""
    await asyncio.create_task(exits())


async def gives_up() -> None:
    """Raise what closes a coroutine."""
    raise GeneratorExit


async def cancels_everything() -> None:
    """Cancel each task that there is, those of the slots too."""
    for task in asyncio.all_tasks():
        task.cancel()
    await asyncio.sleep(0)


async def stops_the_loop() -> None:
    """Stop what it is run by."""
    asyncio.get_running_loop().stop()


Misdeed = Callable[[], Coroutine[Any, Any, None]]


@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain, returns a coroutine"])
@pytest.mark.parametrize(
    "misdeed", [exits, child_exits, gives_up, cancels_everything, stops_the_loop]
)
def test_the_loop_goes_on_whatever_a_handler_does(
    running: Running, misdeed: Misdeed, plain: bool
) -> None:
    """The attempt has failed or is lost; the next envelope is handled."""
    ran: list[int] = []

    async def handle(number: int) -> None:
        if number < 0:
            await misdeed()
        ran.append(number)

    async def awaited(sender: object, number: int) -> None:
        await handle(number)

    def returning(sender: object, number: int) -> Coroutine[Any, Any, None]:
        return handle(number)

    running.start(returning if plain else awaited, max_attempts=1)
    running.submit(-1, 1)
    running.wait_for(2)
    running.submit(-2, 2, 3)
    running.wait_for(5)
    assert [number for number in ran if number > 0] == [1, 2, 3]
