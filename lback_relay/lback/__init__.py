"""The only package that knows Lback: its settings, its dispatchers, its middleware, its mails.

Importing it imports no framework; the worker and the command line read settings without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lback_relay.lback.installed import current_relay
    from lback_relay.lback.middleware import RelayMiddleware

__all__ = ["RelayMiddleware", "current_relay", "dispatchers"]


def dispatchers() -> tuple[Any, Any]:
    """Return both of Lback's dispatchers: the one it sends on, and the one that it documents."""
    from lback.core import dispatcher_instance, signals

    return signals.dispatcher, dispatcher_instance.dispatcher


def __getattr__(name: str) -> Any:
    if name == "RelayMiddleware":
        from lback_relay.lback.middleware import RelayMiddleware

        return RelayMiddleware
    if name == "current_relay":
        from lback_relay.lback.installed import current_relay

        return current_relay
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
