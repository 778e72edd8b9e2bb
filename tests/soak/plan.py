"""What happens in a soak, drawn from its seed: which fault, to whom, for how long.

Knows no process and no clock. Durations are seconds. The same seed gives the same faults in the
same order; how many of them fit into a run depends on the machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from faults.support.names import LEASE_S

KILL_WORKER: Final = "kill -9 a worker"
STOP_WORKER: Final = "SIGSTOP a worker"
DRAIN_WORKER: Final = "SIGTERM a worker"
RECYCLE: Final = "SIGHUP the supervisor"
KILL_SENDER: Final = "kill -9 a sender"
KILL_REDIS: Final = "kill -9 Redis"
PAUSE_REDIS: Final = "SIGSTOP Redis"
CUT: Final = "cut a line"
BLACK_HOLE: Final = "black hole"
SLOW: Final = "slow line"
LOSE_REPLIES: Final = "lose replies"

WEIGHTS: Final[Mapping[str, int]] = {
    KILL_WORKER: 5,
    STOP_WORKER: 2,
    DRAIN_WORKER: 2,
    RECYCLE: 1,
    KILL_SENDER: 3,
    KILL_REDIS: 3,
    PAUSE_REDIS: 1,
    CUT: 3,
    BLACK_HOLE: 2,
    SLOW: 2,
    LOSE_REPLIES: 3,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault.

    Attributes:
        kind: one of the keys of :data:`WEIGHTS`.
        after_s: how long all is left alone before it.
        for_s: how long it lasts.
        which: whom it meets, as a share of those that it may meet: from 0 to below 1.
    """

    kind: str
    after_s: float
    for_s: float
    which: float

    def one_of(self, choices: Any) -> Any:
        """Return the one that it meets."""
        return choices[int(self.which * len(choices))]


def faults(random: Random) -> Iterator[Fault]:
    """Yield faults without end."""
    while True:
        (kind,) = random.choices(list(WEIGHTS), list(WEIGHTS.values()))
        yield Fault(
            kind=kind,
            after_s=random.uniform(0.2, 4.0),
            for_s=random.uniform(0.1, 2 * LEASE_S),
            which=random.random(),
        )


ALWAYS: Final = 99
"""Fails in more attempts than there are."""


def behaviour(random: Random, handlers: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return what the handlers do with one envelope: nearly always end at once."""
    chance = random.random()
    name = random.choice(handlers)
    if chance < 0.002:
        return {name: {"fail": ALWAYS}}
    if chance < 0.03:
        return {name: {"fail": random.randrange(1, 4)}}
    if chance < 0.04:
        return {name: {"sleep_s": random.uniform(0.1, 1.5 * LEASE_S)}}
    return {name: {"sleep_s": random.uniform(0.0, 0.01)}}
