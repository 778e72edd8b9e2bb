"""``memory://NAME``: the Redis broker's own code on fakeredis, inside one process, for tests.

All brokers of one process with the same NAME share their data. Nothing leaves the process, and a
blocking read polls, because fakeredis answers XREADGROUP BLOCK at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lback_relay.errors import ConfigError

_servers: dict[str, Any] = {}


def memory_client_factory(name: str) -> Callable[..., Any]:
    """Return a factory of clients that share the data named ``name``.

    Raises:
        ConfigError: fakeredis (with its Lua support) is not installed.
    """
    try:
        import fakeredis
        import lupa  # noqa: F401 - fakeredis runs scripts only where it finds lupa
    except ImportError as error:
        raise ConfigError(
            ["memory:// needs fakeredis with Lua: pip install 'fakeredis[lua]'"],
            source="broker URL",
        ) from error
    server = _servers.setdefault(name, fakeredis.FakeServer())

    def make_client(**_options: Any) -> Any:
        return fakeredis.FakeRedis(server=server, protocol=2)

    return make_client
