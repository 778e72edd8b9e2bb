"""What a user may set of a worker: :class:`WorkerConfig`. Nothing is opened here.

All problems are found before anything is refused, and one ConfigError names them all. The broker's
URL and the signals are the relay's config, not the worker's. Durations are seconds (``_s``);
``docs/worker.md`` describes every option, and a test holds it to these fields.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Final

from lback_relay.broker.base import SUSPECT_DELIVERIES
from lback_relay.config_checks import Check, integer, kind, number
from lback_relay.errors import ConfigError

DEFAULT_GROUP: Final = "workers"
CLAIM_EVERY_S: Final = 5.0
CLAIM_PER_SIGNAL_S: Final = 2.5
"""With many signals claims are rarer: each costs two commands for every signal."""
RENEWALS_PER_LEASE: Final = 3
"""A lease is renewed when a third of it is over: two renewals may fail before it is lost."""

LEASES_UNTIL_REAPED: Final = 10
LONGEST_UNTIL_REAPED_S: Final = 3600.0


def _group(value: object) -> tuple[object, list[str]]:
    if not isinstance(value, str):
        return value, [f"must be text, not {kind(value)}"]
    if not value.strip():
        return value, ["must not be empty; name the service whose handlers these are"]
    if len(value) > 100 or not value.isprintable():
        return value, ["must be 1 to 100 printable characters"]
    return value, []


def _path(value: object) -> tuple[object, list[str]]:
    if value is None or (isinstance(value, str) and value):
        return value, []
    return value, ["must be a file's path, or left out"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """How one worker runs, read-only.

    Attributes:
        group: the service whose handlers these are. Each group gets every signal once.
        concurrency: how many plain handlers run at once, each in a thread, and how many async
            ones, on one event loop.
        lease_s: for how long an entry stays with a worker that died or hangs; renewed meanwhile,
            so that a handler may take longer.
        drain_timeout_s: how long a stopping worker waits for running handlers.
        stop_grace_s: after how long the container's runtime kills a stopping worker.
        max_crashes: an entry that was in hand when that many workers died is a dead letter.
        block_s: longest wait of one read.
        group_ttl_s: a group that was not seen for so long holds up no trimming any more; what is
            trimmed then is lost to it.
        health_file: is touched after each successful poll.
        processes: how many workers one command runs, each a process of its own.
        hung_s: a worker of several that makes no progress for so long is replaced.
        max_deliveries: a worker is recycled after so many, up to a fifth earlier.
        max_memory_mb: a worker is recycled when it takes more memory, in MiB.

    Raises:
        ConfigError: with all problems, when constructed.
    """

    group: str = field(default=DEFAULT_GROUP, metadata={"check": _group})
    concurrency: int = field(default=8, metadata={"check": integer(1, 1000, "handlers")})
    lease_s: float = field(default=60.0, metadata={"check": number(1, 86_400, "s")})
    drain_timeout_s: float = field(default=25.0, metadata={"check": number(0, 86_400, "s")})
    stop_grace_s: float = field(default=30.0, metadata={"check": number(0, 86_400, "s")})
    # An innocent entry can be in hand at two deaths: with the culprit, and with it again once
    # both were claimed. From the third delivery on it runs alone, and only the culprit dies.
    max_crashes: int = field(
        default=3, metadata={"check": integer(SUSPECT_DELIVERIES, 1000, "crashes")}
    )
    block_s: float = field(default=5.0, metadata={"check": number(0.01, 60, "s")})
    group_ttl_s: float = field(default=604_800.0, metadata={"check": number(60, 315_360_000, "s")})
    health_file: str | None = field(default=None, metadata={"check": _path})
    processes: int = field(default=1, metadata={"check": integer(1, 1000, "processes")})
    # Longer than the longest silence of a worker that is well: a blocking read and its timeout.
    hung_s: float = field(default=30.0, metadata={"check": number(10, 86_400, "s")})
    max_deliveries: int | None = field(
        default=None, metadata={"check": integer(1, 1_000_000_000, "deliveries", optional=True)}
    )
    max_memory_mb: int | None = field(
        default=None, metadata={"check": integer(16, 1_000_000, "MiB", optional=True)}
    )

    def __post_init__(self) -> None:
        problems = []
        for item in fields(self):
            check: Check = item.metadata["check"]
            value, found = check(getattr(self, item.name))
            problems += [f"{item.name}: {problem}" for problem in found]
            object.__setattr__(self, item.name, value)
        if not problems and self.drain_timeout_s >= self.stop_grace_s:
            problems.append(
                f"drain_timeout_s: is {self.drain_timeout_s:g}, not below stop_grace_s "
                f"({self.stop_grace_s:g}), when the container's runtime kills the worker; shorten "
                "it, or raise the grace in both places"
            )
        if problems:
            raise ConfigError(problems, source="worker")

    @property
    def reap_after_s(self) -> float:
        """For how long a consumer without anything pending is silent before it is removed.

        What it had in hand, if its worker died, was claimed long before. A long lease is no reason
        to wait for days.
        """
        return min(LEASES_UNTIL_REAPED * self.lease_s, LONGEST_UNTIL_REAPED_S)

    @property
    def recycles(self) -> bool:
        """Whether workers end by themselves in order to be replaced."""
        return self.max_deliveries is not None or self.max_memory_mb is not None

    @property
    def supervised(self) -> bool:
        """Whether a supervisor runs the workers: recycling needs somebody who starts the next."""
        return self.processes > 1 or self.recycles

    @property
    def renew_every_s(self) -> float:
        """How often a lease is renewed."""
        return self.lease_s / RENEWALS_PER_LEASE

    def claim_every_s(self, signals: int) -> float:
        """How often what others have left behind is looked for."""
        return min(self.lease_s / 2, max(CLAIM_EVERY_S, CLAIM_PER_SIGNAL_S * signals))
