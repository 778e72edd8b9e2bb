"""A TCP proxy that is a bad way to Redis: it cuts, delays, swallows, and loses replies.

It runs an event loop in a thread of its own; every method may be called from any thread. What it
does with the bytes is decided piece by piece, so that a change holds for open connections too.
Durations are seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from random import Random
from typing import Final

from faults.support.commands import Command, CommandReader
from faults.support.processes import url_of

from lback_relay.broker.scripts import PUBLISH, in_full

_PIECE: Final = 65_536
_SLOW_PIECE: Final = 256
"""Over a slow way bytes come little by little, not in one piece after a long wait."""

Matches = Callable[[Command], bool]


def named(*names: bytes) -> Matches:
    """Return what matches the commands of these names."""
    return lambda command: command[0] in names


def script(sha: bytes, text: bytes) -> Matches:
    """Return what matches a script's calls, by its hash and in full."""
    return lambda command: command[:2] in {(b"EVALSHA", sha), (b"EVAL", text)}


def publishing_calls() -> Matches:
    """Return what matches the calls that publish: by the script, or as the only ones by EXEC."""
    command = PUBLISH.command("stream", "producer")
    by_script = script(command[1].encode(), in_full(command)[1].encode())
    return lambda command: command[0] == b"EXEC" or by_script(command)


class _Cut:
    """Which replies are lost."""

    def __init__(self, matches: Matches, every: int) -> None:
        self.matches = matches
        self.every = every
        self.seen = 0
        self.done = 0


class _Link:
    """One client's connection, with the one to the server."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.waits_for_reply = False

    def close(self) -> None:
        for writer in (self.client, self.server):
            transport = writer.transport
            transport.abort()  # at once: what is buffered is lost, as on a cut line


class Proxy:
    """The way to a server; open it with ``with``.

    Args:
        port: the server's, on 127.0.0.1.
        random: for what varies.

    Attributes:
        url: where it listens.
        cuts: how many replies were lost so far.
    """

    def __init__(self, port: int, random: Random) -> None:
        self.url = ""
        self._port = port
        self._random = random
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._open = asyncio.Event()
        self._links: set[_Link] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._delay_s = self._jitter_s = 0.0
        self._bytes_per_s: float | None = None
        self._cut: _Cut | None = None
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Proxy:  # noqa: PYI034 - Self came with Python 3.11
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *_error: object) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # what is wrong with the way --------------------------------------------------------------

    def cut_all(self) -> None:
        """Cut every open connection."""

        async def cut() -> None:
            for link in list(self._links):
                link.close()

        self._run(cut())

    def black_hole(self) -> None:
        """Let nothing through in either direction; connections stay open."""
        self._soon(self._open.clear)

    def heal(self) -> None:
        """Let everything through again, also what has waited in open connections."""
        self._soon(self._open.set)

    def slow_down(
        self, *, delay_s: float = 0.0, jitter_s: float = 0.0, bytes_per_s: float | None = None
    ) -> None:
        """Delay each piece by ``delay_s`` ± ``jitter_s``; let through so many bytes a second."""
        self._delay_s, self._jitter_s, self._bytes_per_s = delay_s, jitter_s, bytes_per_s

    def lose_replies(self, matches: Matches, *, every: int) -> None:
        """Cut the connection in place of every n-th reply to such commands.

        The server has done what it was asked by then. Empty replies, and those that only say that
        a script is not loaded, are none.
        """
        self._cut = _Cut(matches, every)

    def lose_none(self) -> None:
        """Let all replies through again."""
        self._cut = None

    @property
    def cuts(self) -> int:
        """How many replies were lost since :meth:`lose_replies`."""
        return 0 if self._cut is None else self._cut.done

    # the loop --------------------------------------------------------------------------------

    def _soon(self, call: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(call)

    def _run(self, coroutine: object) -> None:
        assert asyncio.iscoroutine(coroutine)
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _start(self) -> None:
        self._open.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = url_of(port)

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for link in list(self._links):
            link.close()
        for pump in list(self._pumps):
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _accept(
        self, from_client: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> None:
        pump = asyncio.current_task()
        assert pump is not None
        self._pumps.add(pump)
        pump.add_done_callback(self._pumps.discard)
        try:
            await self._open.wait()
        except asyncio.CancelledError:  # the proxy ends; nobody else closes this one
            client.transport.abort()
            return
        try:
            from_server, server = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:  # the server is away: so is the proxy
            client.transport.abort()
            return
        link = _Link(client, server)
        self._links.add(link)
        try:
            done, others = await asyncio.wait(
                [
                    asyncio.ensure_future(self._send_on(link, from_client)),
                    asyncio.ensure_future(self._answer(link, from_server)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
            for other in others:
                other.cancel()
            await asyncio.gather(*done, *others, return_exceptions=True)
        finally:
            self._links.discard(link)
            link.close()

    async def _send_on(self, link: _Link, reader: asyncio.StreamReader) -> None:
        commands = CommandReader()
        with contextlib.suppress(OSError):
            while piece := await reader.read(_PIECE):
                for command in commands.feed(piece):
                    if self._cut is not None and self._cut.matches(command):
                        link.waits_for_reply = True
                await self._pass(piece, link.server)

    async def _answer(self, link: _Link, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(_PIECE):
                if link.waits_for_reply and self._loses(piece):
                    return
                link.waits_for_reply = False
                await self._pass(piece, link.client)

    def _loses(self, reply: bytes) -> bool:
        cut = self._cut
        if cut is None or reply.startswith((b"-NOSCRIPT", b"*-1")):
            return False
        cut.seen += 1
        if cut.seen % cut.every:
            return False
        cut.done += 1
        return True

    async def _pass(self, piece: bytes, writer: asyncio.StreamWriter) -> None:
        delay_s = self._delay_s + self._jitter_s * self._random.uniform(-1, 1)
        if delay_s > 0:
            await asyncio.sleep(delay_s)
        size = len(piece) if self._bytes_per_s is None else _SLOW_PIECE
        for start in range(0, len(piece), size):
            part = piece[start : start + size]
            if self._bytes_per_s is not None:
                await asyncio.sleep(len(part) / self._bytes_per_s)
            await self._open.wait()
            writer.write(part)
            await writer.drain()
