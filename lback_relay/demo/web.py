"""Serve the project under waitress: ``python -m lback_relay.demo.web PLACE``, in its folder.

PLACE is ``HOST:PORT``, or the descriptor of an inherited socket. The demo opens the socket itself:
it knows the port beforehand (links in mails need it), and no other program can take the port
between two runs.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any

THREADS = 4


def main(arguments: list[str]) -> None:
    """Serve ``myproject.wsgi`` until a SIGTERM ends the process.

    Args:
        arguments: the place.
    """
    from waitress import serve

    (place,) = arguments
    # The end by default would skip the exit handlers, and with them what the relay has queued; and
    # the first process of a container has no such default at all.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - sys.path holds strings
    from myproject.wsgi import application  # type: ignore[import-not-found,unused-ignore]

    serve(application, **_where(place), threads=THREADS, _quiet=True)


def _where(place: str) -> dict[str, Any]:
    if place.isdigit():
        return {"sockets": [socket.socket(fileno=int(place))]}
    return {"listen": place}


if __name__ == "__main__":
    main(sys.argv[1:])
