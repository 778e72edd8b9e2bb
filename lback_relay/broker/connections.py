"""Connections to one broker, and calls over them. Knows no signal and no key.

A call that does not block takes at most ``timeout_s`` for each of connecting and answering. The
client's own retries are off: whether a call may be repeated is the caller's to know. Durations are
seconds.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from lback_relay.broker.direct import DirectConnections
from lback_relay.broker.failures import WrongServer, translate
from lback_relay.broker.scripts import in_full
from lback_relay.errors import BrokerError
from lback_relay.url import mask_url

BLOCK_SLACK_S: Final = 5.0
_SCANNED: Final = 1000
"""Keys that the broker looks at in one step of a scan."""
_FIRST_POLL_S: Final = 0.001
_LONGEST_POLL_S: Final = 0.02
_DIRECT: Final = frozenset({"EVALSHA", "EVAL", "XREADGROUP", "XRANGE", "XPENDING", "XACK", "XDEL"})
"""Commands whose replies are used as they come: those that are called for each batch."""

_MULTI: Final = ("MULTI",)
_EXEC: Final = ("EXEC",)
_name_of: Final = itemgetter(0)

Command = tuple[Any, ...]


class Connections:
    """Clients for calls and for blocking reads, made when first used.

    Args:
        url: of the broker.
        timeout_s: see the module.
        client_name: shown by CLIENT LIST.
        client_factory: makes the one client to be used instead; reads poll then.
        busy_poll: see :class:`~lback_relay.broker.direct.DirectConnections`.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        client_name: str,
        client_factory: Callable[..., Any] | None,
        busy_poll: bool = False,
    ) -> None:
        self.timeout_s = timeout_s
        self.place = mask_url(url)
        self._url = url
        self._client_name = re.sub(r"[^!-~]", "_", client_name)  # as CLIENT SETNAME wants it
        self._client_factory = client_factory
        self._busy_poll = busy_poll
        self._lock = threading.Lock()
        # By the time that a reply may take.
        self._clients: dict[float, Any] = {}
        self._direct: dict[Any, DirectConnections] = {}  # by the client whose options they have

    @property
    def polls(self) -> bool:
        """Whether this is an imitation of Redis, which does not block."""
        return self._client_factory is not None

    def call(self, *command: Any) -> Any:
        """Send one command and return its reply.

        Raises:
            BrokerError: see :func:`~lback_relay.broker.failures.translate`.
        """
        return self._reply(self.client(self.timeout_s), command)

    def ask(self, *command: Any) -> Callable[[], Any]:
        """Send one command; return what waits for its reply. It is to be called once.

        Raises:
            BrokerError: as :meth:`call`; so does what is returned.
        """
        direct = self._direct.get(self.client(self.timeout_s))
        if direct is None:  # an imitation: nothing is on its way meanwhile
            return lambda: self.call(*command)
        try:
            replies = direct.ask((command,))
        except (redis.RedisError, OSError) as error:
            raise self.failure(error) from error

        def replied() -> Any:
            try:
                reply = replies()[0]
                if isinstance(reply, Exception):
                    raise reply
            except (redis.RedisError, OSError) as error:
                raise self.failure(error) from error
            return reply

        return replied

    def scan(self, pattern: str, *, kind: str = "") -> set[bytes]:
        """Return the keys that fit a pattern, and of one type if that is named.

        Raises:
            BrokerError: as :meth:`call`.
        """
        of_kind = ("TYPE", kind) if kind else ()
        found: set[bytes] = set()
        cursor: Any = b"0"
        while True:
            cursor, keys = self.call("SCAN", cursor, "MATCH", pattern, "COUNT", _SCANNED, *of_kind)
            found.update(keys)
            if int(cursor) == 0:
                return found

    def call_all(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one round trip and return their replies.

        A command that was refused has its BrokerError as its reply; the others took effect.

        Raises:
            BrokerUnavailable: nothing is known of any of them.
        """
        if not commands:
            return []
        client = self.client(self.timeout_s)
        try:
            replies = self._replies(client, commands)
            missing = [
                index
                for index, reply in enumerate(replies)
                if isinstance(reply, redis.exceptions.NoScriptError)
            ]
            if missing:
                again = self._replies(client, [in_full(commands[index]) for index in missing])
                for index, reply in zip(missing, again, strict=True):
                    replies[index] = reply
        except (redis.RedisError, OSError) as error:
            raise self.failure(error) from error
        return [self._refusal(reply) if _is_error(reply) else reply for reply in replies]

    def transact(self, *commands: Command) -> list[Any]:
        """Send commands that take effect together, in one round trip, and return their replies.

        A command that was refused as it ran has its BrokerError as its reply; the others took
        effect. Where the broker's user may not use MULTI they take effect one after the other.

        Raises:
            BrokerUnavailable: nothing is known of any of them.
            BrokerError: none of them took effect.
        """
        client = self.client(self.timeout_s)
        direct = self._direct.get(client)
        try:
            if direct is None:  # an imitation
                with client.pipeline(transaction=True) as pipeline:
                    for command in commands:
                        pipeline.execute_command(*command)
                    replies: list[Any] = pipeline.execute(raise_on_error=False)
            else:
                begun, *queued, replies = direct.call((_MULTI, *commands, _EXEC))
                if isinstance(begun, Exception):
                    replies = queued
                elif isinstance(replies, Exception):  # one of them was not even queued
                    raise next(filter(_is_error, queued), replies)
        except (redis.RedisError, OSError) as error:
            raise self.failure(error) from error
        return [self._refusal(reply) if _is_error(reply) else reply for reply in replies]

    def read(self, command: Callable[[int | None], Command], block_s: float) -> Any:
        """Send a command that blocks, on a connection that waits for as long.

        Args:
            command: from how long to block, in ms (None: not at all), to the command.
            block_s: how long to wait for anything but an empty reply.
        """
        if block_s <= 0:
            return self.call(*command(None))
        client = self.client(self.timeout_s if self.polls else math.ceil(block_s) + BLOCK_SLACK_S)
        deadline = time.monotonic() + block_s
        left_s, pause_s = block_s, _FIRST_POLL_S
        while True:
            block_ms = None if self.polls else max(1, int(left_s * 1000))
            reply = self._reply(client, command(block_ms))
            left_s = deadline - time.monotonic()
            if reply or left_s <= _FIRST_POLL_S:
                return reply
            # It came back early: imitations don't block.
            time.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 2, _LONGEST_POLL_S)
            left_s = max(0.0, deadline - time.monotonic())

    def client(self, reply_timeout_s: float) -> Any:
        """Return the client whose replies may take so long."""
        client = self._clients.get(reply_timeout_s)
        if client is None:
            with self._lock:
                client = self._clients.get(reply_timeout_s)
                if client is None:
                    client = self._clients[reply_timeout_s] = self._make_client(reply_timeout_s)
        return client

    def failure(self, error: Exception) -> BrokerError:
        """Return what is to be raised from ``error``; drop connections to the wrong server."""
        failure = translate(error, self.place)
        if isinstance(failure, WrongServer):
            self._disconnect(in_use=False)
        return failure

    def close(self) -> None:
        """Close all connections, those in use too."""
        self._disconnect(in_use=True)

    def _refusal(self, error: Exception) -> BrokerError:
        failure = self.failure(error)
        if isinstance(failure, WrongServer):
            raise failure from error
        failure.__cause__ = error
        return failure

    def _reply(self, client: Any, command: Command) -> Any:
        try:
            reply = self._replies(client, (command,))[0]
            if isinstance(reply, redis.exceptions.NoScriptError):
                reply = self._replies(client, (in_full(command),))[0]
            if isinstance(reply, Exception):
                raise reply
        except (redis.RedisError, OSError) as error:
            raise self.failure(error) from error
        return reply

    def _replies(self, client: Any, commands: Sequence[Command]) -> list[Any]:
        """Return the replies, a RedisError where a command was refused."""
        direct = self._direct.get(client)
        if direct is not None and _DIRECT.issuperset(map(_name_of, commands)):
            return direct.call(commands)
        if len(commands) == 1:
            try:
                return [client.execute_command(*commands[0])]
            except redis.ResponseError as error:
                return [error]
        with client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            replies: list[Any] = pipeline.execute(raise_on_error=False)
        return replies

    def _make_client(self, reply_timeout_s: float) -> Any:
        if self._client_factory is not None:
            client: Any = self._client_factory()
        else:
            pool = redis.ConnectionPool.from_url(self._url)
            options: dict[str, Any] = {
                "socket_timeout": reply_timeout_s,
                "client_name": self._client_name or None,
                "retry": Retry(NoBackoff(), 0),
                # The replies that are taken as they come look the same in every version.
                "protocol": 2,
            }
            if not self._url.startswith("unix:"):
                options["socket_connect_timeout"] = self.timeout_s
                options["socket_keepalive"] = True
            # What the URL says would win over options of from_url.
            pool.connection_kwargs.update(options)
            client = redis.Redis(connection_pool=pool)
            self._direct[client] = DirectConnections(pool, busy_poll=self._busy_poll)
        for name in _DIRECT:
            client.set_response_callback(name, _as_it_comes)
        return client

    def _disconnect(self, *, in_use: bool) -> None:
        for client in list(self._clients.values()):
            client.connection_pool.disconnect(inuse_connections=in_use)
        for direct in list(self._direct.values()):
            direct.disconnect(in_use=in_use)


def _is_error(reply: Any) -> bool:
    return isinstance(reply, Exception)


def _as_it_comes(reply: Any, **_options: Any) -> Any:
    return reply
