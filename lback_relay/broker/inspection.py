"""Is the broker set up so that the relay can keep its promises: version, eviction, persistence?

Everything but one setting is in INFO, which needs no right to change anything. What can't be seen
is said; only what is known to lose entries, or to lack commands, is a problem.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import redis

from lback_relay.broker.base import Inspection
from lback_relay.broker.part import BrokerPart
from lback_relay.errors import BrokerError, BrokerUnavailable

LEAST_VERSIONS: Final = {"Redis": (6, 2), "Valkey": (7, 2)}
_UNKNOWN_COMMAND: Final = "unknown command"


class Inspecting(BrokerPart):
    """The look at the broker before it is used."""

    def inspect(self, *, persistence: bool) -> Inspection:
        """See :meth:`lback_relay.broker.base.Broker.inspect`."""
        if self._redis.polls:  # memory:// has nothing to look at
            return Inspection()
        try:
            info: dict[str, Any] = self._redis.call("INFO")
        except BrokerError as error:
            if _refuses_us(error):
                raise
            return Inspection(warnings=self._named(_unseen(error)))
        forgets = None
        if persistence and not info.get("aof_enabled"):
            forgets = _without_log(snapshots=self._snapshots())
        return Inspection(
            problems=self._named(_too_old(info), _evicts_streams(info)),
            warnings=self._named(_evicts_others(info), forgets),
        )

    def _snapshots(self) -> bool | None:
        """Tell whether it saves snapshots by itself; None where that can't be seen."""
        try:
            setting: list[bytes] = self._redis.call("CONFIG", "GET", "save")
        except BrokerError as error:
            if _refuses_us(error):
                raise
            return None
        return bool(setting[1]) if setting else None

    def _named(self, *said: str | None) -> tuple[str, ...]:
        return tuple(f"broker {self._redis.place} {sentence}" for sentence in said if sentence)


def _refuses_us(error: BrokerError) -> bool:
    """Tell whether it is no refusal of this question: the broker is away, or does not know us."""
    unknown = isinstance(error.__cause__, redis.AuthenticationError)
    return unknown or isinstance(error, BrokerUnavailable)


def _unseen(error: BrokerError) -> str:
    why = "it has no INFO, as imitations for tests and development have none"
    if isinstance(error.__cause__, redis.exceptions.NoPermissionError):
        why = "this user may not ask; allow +info in the user's ACL"
    elif _UNKNOWN_COMMAND not in str(error):
        why = str(error)
    return f"does not show its version, eviction and persistence: {why}"


def _too_old(info: Mapping[str, Any]) -> str | None:
    """Say so if the version is too old; None where it is unknown."""
    name = "Valkey" if "valkey_version" in info else "Redis"
    found = str(info.get(f"{name.lower()}_version", ""))
    parts = re.match(r"(\d+)\.(\d+)", found)
    least = LEAST_VERSIONS[name]
    if parts is None or (int(parts[1]), int(parts[2])) >= least:
        return None
    return f"is {name} {found}; upgrade it to {name} {least[0]}.{least[1]} or newer"


def _evicts_streams(info: Mapping[str, Any]) -> str | None:
    policy = str(info.get("maxmemory_policy", ""))
    if not info.get("maxmemory") or not policy.startswith("allkeys-"):
        return None
    return (
        f"drops whole streams when its memory is full (maxmemory-policy {policy}); set "
        "maxmemory-policy noeviction, and give a cache a server of its own"
    )


def _evicts_others(info: Mapping[str, Any]) -> str | None:
    policy = str(info.get("maxmemory_policy", ""))
    if not info.get("maxmemory") or not policy.startswith("volatile-"):
        return None
    return (
        f"drops keys that expire when its memory is full (maxmemory-policy {policy}), among them "
        "the numbers that keep a repeated batch from being queued twice; set maxmemory-policy "
        "noeviction"
    )


def _without_log(*, snapshots: bool | None) -> str | None:
    """Say what the lack of an append-only file means."""
    if snapshots:
        return None
    if snapshots is None:
        return (
            "has no append-only file, and does not tell this user whether it saves snapshots; "
            "without both, what is queued is lost when it restarts: set appendonly yes"
        )
    return "keeps nothing on disk: what is queued is lost when it restarts; set appendonly yes"
