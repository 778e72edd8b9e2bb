"""Serve the project under waitress: ``python -m lback_relay.demo.web FD``, in its folder.

The demo opens the listening socket and passes it on: it knows the port beforehand (links in mails
need it), and no other program can take the port between two runs.
"""

from __future__ import annotations

import os
import socket
import sys

THREADS = 4


def main(arguments: list[str]) -> None:
    """Serve ``myproject.wsgi`` on the inherited socket until the process is ended.

    Args:
        arguments: the socket's file descriptor.
    """
    from waitress import serve

    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - sys.path holds strings
    from myproject.wsgi import application  # type: ignore[import-not-found,unused-ignore]

    with socket.socket(fileno=int(arguments[0])) as listening:
        serve(application, sockets=[listening], threads=THREADS, _quiet=True)


if __name__ == "__main__":
    main(sys.argv[1:])
