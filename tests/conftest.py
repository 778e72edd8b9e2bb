"""Fixtures that every test may ask for; they live in ``tests/support``."""

from __future__ import annotations

import os
import signal
import tempfile

from support.brokers import broker, namespace, redis_url, server_urls, tested

__all__ = ["broker", "namespace", "redis_url", "server_urls", "tested"]


# Where the spool is by default: nothing of a test belongs into the home of who runs it.
_state = tempfile.TemporaryDirectory(prefix="lback-relay-tests-")
os.environ["XDG_STATE_HOME"] = _state.name


def pytest_configure() -> None:
    """Let processes of the tests hear Ctrl-C and hang-ups.

    Whoever is started in the background by a script ignores them, and hands that on.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
