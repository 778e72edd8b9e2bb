"""Files that a broker's URL names for TLS: whether they are on this machine.

The URL itself is checked where a config is read (:mod:`lback_relay.url`), which may be elsewhere;
this is for whoever is about to connect. A file that is missing later is an outage like any other.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from lback_relay.errors import ConfigError

_KINDS: Final = {
    "ssl_ca_certs": "file",
    "ssl_ca_path": "folder",
    "ssl_certfile": "file",
    "ssl_keyfile": "file",
}


def check_files(url: str) -> None:
    """See that a broker's URL names no file or folder that is not there, or may not be read.

    Args:
        url: one that has been checked.

    Raises:
        ConfigError: with every problem.
    """
    named = [(key, value) for key, value in parse_qsl(urlsplit(url).query) if key in _KINDS]
    problems = [
        f"{key} names {value}, {problem}"
        for key, value in named
        if (problem := _problem(Path(value), _KINDS[key]))
    ]
    if problems:
        raise ConfigError(problems, source="broker URL")


def _problem(path: Path, kind: str) -> str:
    try:
        if not path.exists() or path.is_dir() != (kind == "folder"):
            return f"and there is no such {kind} on this machine"
    except PermissionError:
        pass  # the next line says it
    return "" if os.access(path, os.R_OK) else "which this user may not read"
