"""Connections whose replies are taken as they come, for the calls that are made for each batch.

The client's own way to a reply (a pool, retries, metrics, parsing) takes longer than the call
itself. Here a connection is taken, used and put back; the latest first, so that few are ever open.
As with the client, one that the server has closed meanwhile is not used, and one on which a call
has failed is closed and forgotten.

Where somebody waits for the reply it is looked for before the thread falls asleep (busy polling):
a broker near by answers sooner than a thread falls asleep and wakes up again, with the processor's
caches cold (docs/decisions/0054).

Knows no script and no error of ours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Final

import redis
from hiredis import pack_command

LOOK_S: Final = 75e-6
"""For how long a reply is looked for: a broker on the same host takes half of it."""
MOST_BLIND: Final = 63
"""Calls in a row that don't look, once looking has been in vain for a while: the broker is far."""


class DirectConnections:
    """Connections as a client's pool makes them; it knows nothing of these.

    Every method may be called from any thread.

    Args:
        pool: knows where to, and with what options (but for ``max_connections``: as many as
            call at once are open).
        busy_poll: whether to look for replies before falling asleep.
    """

    def __init__(self, pool: redis.ConnectionPool, *, busy_poll: bool = False) -> None:
        self._pool = pool
        self._busy_poll = busy_poll
        self._blind = 0  # how many calls did not look after the last one that did in vain
        self._blind_left = 0
        self._made: list[Any] = []
        self._free: deque[Any] = deque()

    def call(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands in one round trip; return their replies, a ResponseError where refused.

        Raises:
            redis.RedisError, OSError: nothing is known of any of them.
        """
        return self.ask(commands)()

    def ask(self, commands: Sequence[tuple[Any, ...]]) -> Callable[[], list[Any]]:
        """Send commands; return what waits for their replies. It is to be called once.

        Raises:
            redis.RedisError, OSError: as :meth:`call`; so does what is returned.
        """
        connection = self._take()
        try:
            # One piece, for each is a system call of its own.
            packed = b"".join([pack_command(command) for command in commands])
            connection.send_packed_command([packed])
        except BaseException:
            self._drop(connection)
            raise

        def replies() -> list[Any]:
            try:
                if self._busy_poll:
                    self._look(connection)
                found = [_reply(connection) for _ in commands]
            except BaseException:  # a reply that comes late must not be taken for another call's
                self._drop(connection)
                raise
            self._free.append(connection)
            return found

        return replies

    def disconnect(self, *, in_use: bool) -> None:
        """Close all of them, or those that nobody uses now."""
        while self._free:
            with suppress(IndexError):
                self._drop(self._free.pop())
        if in_use:
            for connection in list(self._made):
                connection.disconnect()

    def _look(self, connection: Any) -> None:
        """Look for the reply for a moment, less often the more often that was in vain."""
        if self._blind_left:
            self._blind_left -= 1
            return
        until = monotonic() + LOOK_S
        while not connection.can_read() and monotonic() < until:
            pass
        # Late is in vain, too: others want the interpreter or the processor.
        in_vain = monotonic() >= until
        self._blind = self._blind_left = (
            min(2 * self._blind + 1, MOST_BLIND) if in_vain else self._blind // 2
        )

    def _take(self) -> Any:
        while True:
            try:
                connection = self._free.pop()
            except IndexError:
                # Not by the pool's own make_connection: it counts what it has made, refuses the
                # hundred and first, and never hears of those that were closed.
                connection = self._pool.connection_class(**self._pool.connection_kwargs)
                self._made.append(connection)
                return connection
            if not _is_stale(connection):
                return connection
            self._drop(connection)

    def _drop(self, connection: Any) -> None:
        with suppress(ValueError):
            self._made.remove(connection)
        connection.disconnect()


def _is_stale(connection: Any) -> bool:
    """Tell whether something has come since the last use: most often the connection's end."""
    try:
        return bool(connection.can_read())
    except (redis.RedisError, OSError):
        return True


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error
