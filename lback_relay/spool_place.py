"""Which spool belongs to a config: its folder, its file, and this process's access to it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from lback_relay.config import RelayConfig
from lback_relay.spool import Spool


def spool_folder(config: RelayConfig) -> Path | None:
    """Return the spool's folder; None when there is none.

    The default is "lback-relay" where the user's programs keep their state (XDG Base Directory
    Specification). A broker that lives inside of a process needs no spool.
    """
    if config.spool_dir == "off" or urlsplit(config.url).scheme in {"memory", "embedded"}:
        return None
    if config.spool_dir != "auto":
        return Path(config.spool_dir).expanduser()
    state = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # noqa: PTH117 - as the specification says it
        state = os.path.expanduser("~/.local/state")  # noqa: PTH111 - never raises
    if not os.path.isabs(state):  # noqa: PTH117 - a user without a home
        state = "/var/lib"
    return Path(state) / "lback-relay"


def spool_path(folder: Path, config: RelayConfig) -> Path:
    """Return the file for a config's broker: by its host, port and database, and the namespace.

    However the URL spells them. User, password and other options of the connection may change, and
    differ between an application and its operator.
    """
    broker = f"{config.namespace}\n{_address(config.url)}".encode()
    return folder / f"{hashlib.blake2b(broker, digest_size=5).hexdigest()}.spool"


def _address(url: str) -> str:
    """Return ``host:port/database``, or a socket's path and the database if it is not the first."""
    parts = urlsplit(url)
    option = parse_qs(parts.query).get("db")  # goes before the path, as in redis-py
    if parts.scheme == "unix":
        database = int(option[0]) if option else 0
        return f"{parts.path}?db={database}" if database else parts.path
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    database = int(option[0] if option else parts.path.strip("/") or 0)
    return f"{host}:{parts.port or 6379}/{database}"


def open_spool(config: RelayConfig) -> Spool | None:
    """Return this process's access to the spool of a config; None when there is none."""
    folder = spool_folder(config)
    if folder is None:
        return None
    # A sender that waits for the broker waits no longer for another process's write.
    waits = config.publishing == "sync"
    return Spool(
        spool_path(folder, config),
        max_bytes=config.max_spool_bytes,
        durable=config.spool_sync == "full",
        timeout_s=config.publish_timeout_s if waits else 5.0,
    )
