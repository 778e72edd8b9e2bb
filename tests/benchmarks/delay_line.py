"""A way to the server that takes longer: every byte arrives ``delay_s`` later, at full bandwidth.

The fault suite's proxy holds up each piece while the next one waits, which makes a way narrow as
well as long; a benchmark of a far server must not be one of a narrow line. Threads, because an
event loop's timers are no finer than a millisecond. Durations are seconds.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from typing import Final

_PIECE: Final = 1 << 20


class DelayLine:
    """Listens on a free port of 127.0.0.1; open it with ``with``.

    Args:
        port: the server's.
        delay_s: of each direction.

    Attributes:
        port: where it listens.
    """

    def __init__(self, port: int, delay_s: float) -> None:
        self._server_port = port
        self._delay_s = delay_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> DelayLine:  # noqa: PYI034 - Self came with Python 3.11
        _run(self._accept)
        return self

    def __exit__(self, *_error: object) -> None:
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                for each in (client, server):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets += (client, server)
                self._join(client, server)
                self._join(server, client)

    def _join(self, source: socket.socket, sink: socket.socket) -> None:
        """Pass on what comes from one socket to another."""
        on_the_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

        def take() -> None:
            piece = b" "
            while piece:
                try:
                    piece = source.recv(_PIECE)
                except OSError:
                    piece = b""
                on_the_way.put((time.monotonic() + self._delay_s, piece))

        def give() -> None:
            with contextlib.suppress(OSError):
                while True:
                    due_at, piece = on_the_way.get()
                    time.sleep(max(0.0, due_at - time.monotonic()))
                    if not piece:
                        sink.shutdown(socket.SHUT_WR)
                        return
                    sink.sendall(piece)

        _run(take)
        _run(give)


def _run(target: object) -> None:
    assert callable(target)
    threading.Thread(target=target, name="delay-line", daemon=True).start()
