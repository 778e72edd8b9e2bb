"""What the figures hold for: processor, versions, how the server keeps its data; no names."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from benchmarks.processes import FSYNC, PEERS, stage

PACKAGES: Final = ("redis", "hiredis", "msgpack", "SQLAlchemy", "lback-framework")


def described(peers: list[str]) -> dict[str, Any]:
    """Return the machine and the versions."""
    with stage() as on:
        server: dict[str, Any] = on.client.info("server")
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "server": f"Redis {server['redis_version']}",
        "durability": f"appendonly yes, appendfsync {FSYNC}, no rewrite during a dose",
        "revision": _revision(),
        "packages": {name: version(name) for name in PACKAGES},
        "peers": {name: _first_requirement(name) for name in peers},
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def busy() -> float:
    """Return the machine's load over the last minute."""
    return os.getloadavg()[0]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )


def _revision() -> str:
    command = ["git", "-C", str(PEERS), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _first_requirement(name: str) -> str:
    lines = (PEERS / f"{name}.txt").read_text().splitlines()
    return ", ".join(line for line in lines if line.startswith((name, "taskiq-redis")))
