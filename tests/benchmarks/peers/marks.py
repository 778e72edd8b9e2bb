"""What every handler of the benchmarks does, ours and the peers': as good as nothing, and a mark.

Imported in every virtual environment, so only the standard library. What to do is in the
environment: ``BENCH_MODE`` is ``count`` (note when the FIRST and the LAST call came), ``latency``
(note each call's time since it was sent) or ``sleep`` (work for 10 ms, and note when each ended).
Instants are seconds of the monotonic clock, which all processes of a Linux machine share.
"""

from __future__ import annotations

import itertools
import json
import os
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

URL: Final = os.environ.get("BENCH_URL", "redis://127.0.0.1:6379/0")
WORK_S: Final = 0.01

_PATH: Final = Path(os.environ.get("BENCH_MARKS", os.devnull))
_FIRST: Final = int(os.environ.get("BENCH_FIRST", "0"))
_LAST: Final = int(os.environ.get("BENCH_LAST", "0"))

PAYLOAD: Final[dict[str, Any]] = {
    "user": {
        "id": 4711,
        "username": "grace.hopper",
        "email": "grace.hopper@example.org",
        "first_name": "Grace",
        "last_name": "Hopper",
        "is_active": True,
        "is_email_verified": False,
        "created_at": "2026-03-01T09:30:00.123456",
        "updated_at": "2026-03-01T09:30:00.123456",
        "last_login": None,
        "groups": ["basic_user"],
        "profile_url": "https://shop.example.org/users/4711",
    }
}
"""The registration signal as plain data, which every peer can send; about 300 bytes in msgpack."""

_next: Final = itertools.count(1).__next__
_times: list[float] = []


def _write(what: object) -> None:
    """Write the file as a whole: whoever waits for it never sees a part."""
    made = _PATH.with_suffix(".new")
    made.write_text(json.dumps(what))
    made.rename(_PATH)


def _count(_payload: Mapping[str, Any]) -> None:
    number = _next()
    if number == _FIRST:
        _times.append(time.monotonic())
    elif number == _LAST:
        _times.append(time.monotonic())
        _write(_times)


def _latency(payload: Mapping[str, Any]) -> None:
    _times.append(time.monotonic() - payload["sent_at"])
    if len(_times) == _LAST:
        _write(_times)


def _sleep(_payload: Mapping[str, Any]) -> None:
    time.sleep(WORK_S)
    os.write(_file(), struct.pack("d", time.monotonic()))


_files: list[int] = []


def _file() -> int:
    """Return the file that several processes append to; opened once in each."""
    if not _files:
        _files.append(os.open(_PATH, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644))
    return _files[0]


handle: Final[Callable[[Mapping[str, Any]], None]] = {
    "count": _count,
    "latency": _latency,
    "sleep": _sleep,
}[os.environ.get("BENCH_MODE", "count")]
