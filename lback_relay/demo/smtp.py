"""A real SMTP server that can be slow, refuse, reject or hang, and remembers what it took.

It offers STARTTLS and AUTH and takes nothing without both, because Lback's own sender always does
both. Any login is accepted, and kept with the mail: it tells who delivered it. The server runs on
an event loop in a thread of its own, so that slow deliveries are slow independently of each
other. Needs the extra ``demo`` (aiosmtpd, cryptography). Durations are seconds.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import datetime, timezone
from email import message_from_bytes, policy
from types import TracebackType
from typing import Any, Final, Literal

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from lback_relay.demo.certificate import self_signed_context

Mode = Literal["deliver", "reject", "refuse", "hang"]
"""``deliver`` takes mail; ``reject`` answers each mail with 451 (try again later); ``refuse``
refuses connections; ``hang`` accepts connections and never says a word."""

MODES: Final[tuple[Mode, ...]] = ("deliver", "reject", "refuse", "hang")
HOST: Final = "127.0.0.1"
ACCEPTED: Final = "250 OK"
REJECTED: Final = "451 Try again later"
STEP_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedMail:
    """One mail that the server has taken.

    Attributes:
        to: the recipients of the envelope.
        sender: the envelope's sender.
        login: the name that the client gave to AUTH.
        subject: decoded.
        body: the text, decoded; the plain part where there are several.
        message_id: as in the header; "" when the mail has none (Lback's own sender sets none).
        received_at: when the server answered "taken"; aware, UTC.
    """

    to: tuple[str, ...]
    sender: str
    login: str
    subject: str
    body: str
    message_id: str
    received_at: datetime


class SmtpServer:
    """An SMTP server, running inside ``with``.

    Args:
        host: the address it listens on.
        port: the port; 0 chooses a free one, which :attr:`port` then is.
        delay_s: how long each mail takes before it is taken or rejected, at least 0.
        mode: see :data:`Mode`; :meth:`switch` changes it while the server runs.

    A mail counts as received when the server says so, after ``delay_s``: one whose client has
    gone by then is not received. All methods may be called from any thread.
    """

    def __init__(
        self, *, host: str = HOST, port: int = 0, delay_s: float = 0.0, mode: Mode = "deliver"
    ) -> None:
        if delay_s < 0:
            raise ValueError(f"delay_s is {delay_s}; it must be 0 or more seconds")
        _check_mode(mode)
        self.delay_s = delay_s
        self.mode: Mode = mode
        self.host = host
        self.port = port
        self.connections = 0
        self._mails: list[ReceivedMail] = []
        self._arrived = threading.Condition()
        self._tls = self_signed_context()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._listener: asyncio.Server | None = None
        # Holds the port while nothing listens on it: connecting is refused, and no other
        # program gets it.
        self._reserved: socket.socket | None = None
        self._transports: set[asyncio.BaseTransport] = set()

    def __enter__(self) -> SmtpServer:  # noqa: PYI034 - Self came with Python 3.11
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Take the port and serve.

        Raises:
            OSError: the port is taken.
            RuntimeError: it runs already.
        """
        if self._loop is not None:
            raise RuntimeError("the SMTP server runs already")
        self._reserved = _bound_socket(self.host, self.port)
        self.port = self._reserved.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="demo-smtp", daemon=True
        )
        self._thread.start()
        try:
            self._run(self._apply_mode())
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Close every connection and end the thread. Stopping twice does nothing."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        self._run(self._shut_down())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(STEP_TIMEOUT_S)
        loop.close()
        self._loop = self._thread = None
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    def switch(self, mode: Mode) -> None:
        """Change the mode; the port stays. Connections that hang are cut."""
        _check_mode(mode)
        self.mode = mode
        if self._loop is not None:
            self._run(self._apply_mode())

    @property
    def mails(self) -> tuple[ReceivedMail, ...]:
        """What was received so far, in that order."""
        with self._arrived:
            return tuple(self._mails)

    def wait_for_mails(self, count: int, timeout_s: float) -> bool:
        """Return whether at least ``count`` mails were received within ``timeout_s``."""
        with self._arrived:
            return self._arrived.wait_for(lambda: len(self._mails) >= count, timeout_s)

    def wait_for_connections(self, count: int, timeout_s: float) -> bool:
        """Return whether at least ``count`` connections were made within ``timeout_s``."""
        with self._arrived:
            return self._arrived.wait_for(lambda: self.connections >= count, timeout_s)

    # on the event loop -----------------------------------------------------------------------

    async def handle_MAIL(  # noqa: N802 - aiosmtpd looks its hooks up by these names
        self,
        server: SMTP,  # noqa: ARG002
        session: Session,  # noqa: ARG002
        envelope: Envelope,
        address: str,
        mail_options: list[str],
    ) -> str:
        """Note the sender, or reject the mail after ``delay_s``."""
        if self.mode == "reject":
            await asyncio.sleep(self.delay_s)
            return REJECTED
        envelope.mail_from = address
        envelope.mail_options.extend(mail_options)
        return ACCEPTED

    async def handle_DATA(  # noqa: N802
        self,
        server: SMTP,  # noqa: ARG002
        session: Session,
        envelope: Envelope,
    ) -> str:
        """Take the mail after ``delay_s``."""
        await asyncio.sleep(self.delay_s)
        mail = _received(session, envelope)
        with self._arrived:
            self._mails.append(mail)
            self._arrived.notify_all()
        return ACCEPTED

    def _run(self, step: Coroutine[Any, Any, None]) -> None:
        assert self._loop is not None  # noqa: S101 - callers have checked
        asyncio.run_coroutine_threadsafe(step, self._loop).result(STEP_TIMEOUT_S)

    async def _apply_mode(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for transport in tuple(self._transports):
            if isinstance(transport.get_protocol(), _Silent):
                transport.abort()  # type: ignore[attr-defined]
        if self.mode == "refuse":
            return
        loop = asyncio.get_running_loop()
        # SO_REUSEADDR lets it share the port with the reserving socket, which never listens.
        self._listener = await loop.create_server(
            self._protocol, sock=_bound_socket(self.host, self.port)
        )

    async def _shut_down(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for transport in tuple(self._transports):
            transport.abort()  # type: ignore[attr-defined]
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        # One turn more, so that every aborted transport tells its protocol and is closed.
        await asyncio.sleep(0)

    def _protocol(self) -> asyncio.BaseProtocol:
        with self._arrived:
            self.connections += 1
            self._arrived.notify_all()
        if self.mode == "hang":
            return _Silent(self._transports)
        return _Talking(
            self,
            transports=self._transports,
            hostname="localhost",
            ident="lback-relay demo",
            tls_context=self._tls,
            require_starttls=True,
            auth_required=True,
            authenticator=_accept_any_login,
            loop=asyncio.get_running_loop(),
        )


class _Session(Session):
    """A session whose old ``login_data``, set by aiosmtpd itself, warns nobody."""

    login_data: Any = None


class _Talking(SMTP):
    """An SMTP conversation whose transport is known to the server, so that it can be closed."""

    def __init__(
        self, handler: SmtpServer, *, transports: set[asyncio.BaseTransport], **options: Any
    ) -> None:
        super().__init__(handler, **options)
        self._open = transports
        self._first: asyncio.BaseTransport | None = None

    def _create_session(self) -> Session:
        return _Session(self.loop)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Called again with the TLS transport after STARTTLS; closing the first closes both.
        if self._first is None:
            self._first = transport
            self._open.add(transport)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._first is not None:
            self._open.discard(self._first)
        super().connection_lost(error)


class _Silent(asyncio.Protocol):
    """A connection that is accepted and never answered."""

    def __init__(self, transports: set[asyncio.BaseTransport]) -> None:
        self._open = transports
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._open.add(transport)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        if self._transport is not None:
            self._open.discard(self._transport)


def _accept_any_login(
    server: SMTP,  # noqa: ARG001
    session: Session,  # noqa: ARG001
    envelope: Envelope,  # noqa: ARG001
    mechanism: str,  # noqa: ARG001
    data: Any,
) -> AuthResult:
    return AuthResult(success=True, auth_data=data)


def _received(session: Session, envelope: Envelope) -> ReceivedMail:
    content = envelope.content or b""
    mail = message_from_bytes(
        content if isinstance(content, bytes) else content.encode(), policy=policy.default
    )
    body = mail.get_body(preferencelist=("plain", "html"))
    login = session.auth_data
    return ReceivedMail(
        to=tuple(envelope.rcpt_tos),
        sender=envelope.mail_from or "",
        login=login.login.decode() if isinstance(login, LoginPassword) else "",
        subject=str(mail["Subject"] or ""),
        body=body.get_content() if body is not None else "",
        message_id=str(mail["Message-ID"] or ""),
        received_at=datetime.now(timezone.utc),
    )


def _bound_socket(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def _check_mode(mode: str) -> None:
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}; choose one of {', '.join(MODES)}")
