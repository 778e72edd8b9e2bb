"""Relay the signals of a Lback project through Redis to worker processes.

These are the public names. Importing the package loads none of the modules behind them; each is
imported when its name is first used, and no import does any I/O.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lback_relay.version import __version__

if TYPE_CHECKING:
    from lback_relay.config import RelayConfig, SignalConfig
    from lback_relay.errors import Reject, RelayError, RetryLater
    from lback_relay.markers import Omitted, Redacted
    from lback_relay.relay import Relay
    from lback_relay.remote import (
        HandlerContext,
        HandlerOptions,
        RemoteDispatcher,
        remote_dispatcher,
    )
    from lback_relay.snapshot import EntitySnapshot

__all__ = [
    "EntitySnapshot",
    "HandlerContext",
    "HandlerOptions",
    "Omitted",
    "Redacted",
    "Reject",
    "Relay",
    "RelayConfig",
    "RelayError",
    "RemoteDispatcher",
    "RetryLater",
    "SignalConfig",
    "__version__",
    "remote_dispatcher",
]

_HOME = {
    "EntitySnapshot": "snapshot",
    "HandlerContext": "remote",
    "HandlerOptions": "remote",
    "Omitted": "markers",
    "Redacted": "markers",
    "Reject": "errors",
    "Relay": "relay",
    "RelayConfig": "config",
    "RelayError": "errors",
    "RemoteDispatcher": "remote",
    "RetryLater": "errors",
    "SignalConfig": "config",
    "remote_dispatcher": "remote",
}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
