"""The sending side: one relay receiver per relayed signal, from ``send`` to the publisher.

A relay receiver does its work at once, in the thread that sends, because what it is given may be
changed a moment later: project the kwargs, make the envelope, encode and sign it. Only the
publishing may wait, for the outermost commit of the session at hand. Nothing here knows Redis or
Lback, queries a database, or calls back into the framework: some signals are sent while it holds a
lock. Nothing is opened before the first envelope is published, so that a process may fork after
attaching.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from lback_relay.broker import connect
from lback_relay.codec import encode_fields
from lback_relay.config import EMAIL_SIGNAL, RelayConfig, SignalConfig
from lback_relay.envelope import new_envelope_id, process_origin
from lback_relay.errors import RelayError
from lback_relay.line import CALL_SHARE
from lback_relay.outbox import Outbox
from lback_relay.projection import Projection
from lback_relay.publisher import Publisher
from lback_relay.signing import Signer, signer_of
from lback_relay.spool_place import open_spool
from lback_relay.transaction import after_commit, session_at_hand, watch_sessions
from lback_relay.url_files import check_files

if TYPE_CHECKING:
    from lback_relay.broker import Broker

logger = logging.getLogger(__name__)

BACKGROUND_TIMEOUT_S: Final = 5.0
"""How long the broker may take to answer when no request waits for it."""

_HOST: Final = socket.gethostname()
_NO_TRACE: Final[Mapping[str, str]] = MappingProxyType({})


class Relay:
    """Relays the signals of a config.

    Every method may be called from any thread, and on both sides of a fork.

    Args:
        config: which signals, and how.
        publisher: what publishes; None makes one of the config. The relay closes it.

    Raises:
        ConfigError: a signal is to be encrypted, and keys or the package for it are missing; or
            the broker's URL names a file that is not there.
    """

    def __init__(self, config: RelayConfig, *, publisher: Publisher | None = None) -> None:
        self.config = config
        signers = {name: signer_of(config, name) for name in config.signals}
        self.publisher = _make_publisher(config) if publisher is None else publisher
        uses_outbox = any(signal.publish == "outbox" for signal in config.signals.values())
        self.outbox = Outbox(config) if uses_outbox else None
        self._senders = {
            name: _SignalSender(signal, config, self.publisher, self.outbox, signers[name])
            for name, signal in config.signals.items()
        }
        self._receivers = {name: _receiver(sender) for name, sender in self._senders.items()}
        self._dispatchers: list[Any] = []
        self._lock = threading.Lock()

    def attach(self, *dispatchers: Any) -> None:
        """Connect the relay receivers. Attaching to a dispatcher again does nothing.

        Args:
            *dispatchers: objects with Lback's ``connect(name, receiver)`` and ``disconnect``; none
                means both of Lback's, since the framework sends on one and documents the other.
        """
        if not dispatchers:
            from lback_relay.lback import dispatchers as both

            dispatchers = both()
        # Now: SQLAlchemy takes no listener while it calls others, as at a first signal it might.
        watch_sessions()
        with self._lock:
            for dispatcher in dispatchers:
                if any(dispatcher is attached for attached in self._dispatchers):
                    continue
                for name, receiver in self._receivers.items():
                    dispatcher.connect(name, receiver)
                self._dispatchers.append(dispatcher)

    def detach(self) -> None:
        """Disconnect from every dispatcher; what is queued or waits for a commit stays."""
        with self._lock:
            for dispatcher in self._dispatchers:
                for name, receiver in self._receivers.items():
                    dispatcher.disconnect(name, receiver)
            self._dispatchers.clear()

    def relay(
        self, signal: str, sender: Any, payload: Mapping[str, Any], *, session: Any = None
    ) -> bool:
        """Relay one signal as its relay receiver would, for programs without a dispatcher.

        Never raises; what can't be relayed is logged and counted.

        Args:
            signal: the name of a signal of the config.
            sender: the emitting object, or any plain value.
            payload: the kwargs.
            session: the SQLAlchemy session whose commit is waited for; None looks among the
                payload's values.

        Returns: whether the signal is published, queued, or waits for the commit. One that waits is
            encoded only then: what is too large to be is logged and counted at the commit.
        """
        found = self._senders.get(signal)
        if found is None:
            logger.error(
                "Signal %r was not relayed: it is not in the relay's config; add it to "
                "RELAY_SIGNALS",
                signal,
                extra={"relay_signal": signal},
            )
            return False
        return found.send(sender, payload, session)

    def watch_outbox(self, engine: Any) -> None:
        """Sweep the outbox of a database from this process, if any signal uses one.

        For a process that serves, once it is forked; without it the sweep begins with the
        process's first row. Cheap, and does nothing the second time.
        """
        if self.outbox is not None:
            self.outbox.watch(engine)

    def counts(self) -> dict[str, int]:
        """Return the publisher's figures, and how many signals were ``not_relayed``.

        With an outbox also how many rows of it this process has published (``outbox_published``).
        """
        figures = dict(self.publisher.counts())
        if self.outbox is not None:
            figures["outbox_published"] = self.outbox.published()
        figures["not_relayed"] = sum(sender.failures for sender in self._senders.values())
        return figures

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until the broker has all that was queued, and return whether it has.

        Args:
            timeout_s: at most so long; None means the config's ``flush_timeout_s``.
        """
        flushed = self.publisher.flush(timeout_s)
        if self.outbox is None:
            return flushed
        given_s = self.config.flush_timeout_s if timeout_s is None else timeout_s
        return self.outbox.flush(given_s) and flushed

    def close(self) -> None:
        """Detach, publish what is queued (for at most ``flush_timeout_s``), close the broker."""
        self.detach()
        self.publisher.close()
        if self.outbox is not None:
            self.outbox.close()


Fields = tuple[tuple[Any, ...], bool]
"""What :func:`~lback_relay.codec.encode_fields` takes: the fields, the envelope's id first, and
whether the payload is packable."""


class _Within(threading.local):
    """Whether this thread is inside the relay: what is sent from there is not relayed again."""

    relaying = False


_within = _Within()


class _SignalSender:
    """Turns the sends of one signal into published envelopes."""

    def __init__(
        self,
        signal: SignalConfig,
        config: RelayConfig,
        publisher: Publisher,
        outbox: Outbox | None,
        signer: Signer | None,
    ) -> None:
        self.signal = signal
        self.failures = 0
        self._publisher = publisher
        self._signer = signer
        self._max_bytes = config.max_payload_bytes
        self._waits = signal.publish != "immediate"
        self._outbox = outbox if signal.publish == "outbox" else None
        # A mail must arrive as it was written; RelayedEmailSender sees to its size.
        whole = signal.name == EMAIL_SIGNAL
        length = max(config.max_string_length, config.max_payload_bytes if whole else 0)
        self._projection = Projection(reveal=signal.reveal, max_string_length=length)

    def send(self, sender: Any, payload: Mapping[str, Any], session: Any = None) -> bool:
        """Do as :meth:`Relay.relay` says."""
        if _within.relaying:
            # Such as a log handler that sends a signal for each error. No log here: it would loop.
            self.failures += 1
            return False
        _within.relaying = True
        try:
            fields = self._fields(sender, payload)
            if self._waits:
                session = session if session is not None else session_at_hand(payload)
                if session is not None and self._wait(session, fields):
                    return True
            self._publisher.publish(self.signal, self._encoded(fields))
        except Exception as error:  # noqa: BLE001 - relaying never fails the request
            self._note_failure(error)
            return False
        finally:
            _within.relaying = False
        return True

    def _wait(self, session: Any, fields: Fields) -> bool:
        """Leave it to the session's commit. Returns False when no transaction is open."""
        outbox = self._outbox
        if outbox is not None:
            encoded = self._encoded(fields)
            if outbox.write(session, self.signal.name, fields[0][0], encoded):
                return True
        # Encoded when it is committed: what is rolled back never needs to be.
        return after_commit(session, lambda: self._publish(fields))

    def _fields(self, sender: Any, payload: Mapping[str, Any]) -> Fields:
        """Return a new envelope's fields; they share nothing that can change with the arguments."""
        projection = self._projection
        pid = os.getpid()  # asked for once: it is a system call
        now_us = time.time_ns() // 1000
        envelope_id = new_envelope_id(now_us // 1000, pid=pid)
        trace = _trace_context()
        projected, packable = projection.packable_payload(payload)
        # No envelope is made: that takes longer than packing one.
        fields = (
            envelope_id,
            self.signal.name,
            projection.sender(sender),
            projected,
            now_us,
            self.signal.delivery,
            _origin(pid),
            {"trace": trace} if trace else trace,
        )
        return fields, packable

    def _encoded(self, made: Fields) -> bytes:
        fields, packable = made
        encoded = encode_fields(fields, max_bytes=self._max_bytes, packable=packable)
        return encoded if self._signer is None else self._signer.signed(encoded, fields[0])

    def _publish(self, fields: Fields) -> None:
        """Publish after the commit, when :meth:`send` is long over."""
        before, _within.relaying = _within.relaying, True
        try:
            self._publisher.publish(self.signal, self._encoded(fields))
        except Exception as error:  # noqa: BLE001 - relaying never fails the request
            self._note_failure(error)
        finally:
            _within.relaying = before

    def _note_failure(self, error: Exception) -> None:
        self.failures += 1
        logger.error(
            "Signal %r was not relayed: %s",
            self.signal.name,
            _described(error),  # a traceback may show the payload's values
            extra={"relay_signal": self.signal.name},
        )


def _receiver(sender: _SignalSender) -> Callable[..., None]:
    """Return the relay receiver: a function, because Lback's ``connect`` needs a ``__name__``."""
    send = sender.send

    def relay_receiver(sender: Any = None, **payload: Any) -> None:
        send(sender, payload)

    relay_receiver.__name__ = f"relay_{sender.signal.name}"
    relay_receiver.__qualname__ = relay_receiver.__name__
    return relay_receiver


_WAIT_SHARE: Final = 0.96
"""Of ``publish_timeout_s``; making the envelope and waking up at the end take the rest."""


def _make_publisher(config: RelayConfig) -> Publisher:
    check_files(config.url)  # now: later, in the sending thread, it would be an outage
    background = config.publishing == "background"
    wait_s = config.publish_timeout_s * _WAIT_SHARE

    def connected() -> Broker:
        # Nobody waits for the background thread, so that it may have a slow broker's patience.
        waiting: dict[str, Any] = (
            {} if background else {"timeout_s": wait_s * CALL_SHARE, "busy_poll": True}
        )
        return connect(config.url, namespace=config.namespace, client_name="lback_relay", **waiting)

    return Publisher(
        connected,
        background=background,
        publish_timeout_s=wait_s,
        max_queued=config.max_queued,
        flush_timeout_s=config.flush_timeout_s,
        open_spool=lambda: open_spool(config),
        max_backlog=config.max_backlog_of,
    )


_known_origin: tuple[int, str] = (0, "")


def _origin(own: int) -> str:
    """Return ``host:pid``, made once per process."""
    global _known_origin  # noqa: PLW0603 - one per process, and a tuple is replaced as a whole
    pid, origin = _known_origin
    if pid != own:
        origin = process_origin(_HOST)
        _known_origin = (own, origin)
    return origin


def _trace_context() -> Mapping[str, str]:
    """Return the W3C headers of the active span, where the program uses OpenTelemetry.

    Source: W3C Trace Context, sections 3.2 and 3.3.
    """
    opentelemetry = sys.modules.get("opentelemetry.trace")
    if opentelemetry is None:
        return _NO_TRACE
    context = opentelemetry.get_current_span().get_span_context()
    if not context.is_valid:
        return _NO_TRACE
    flags = int(context.trace_flags)
    headers = {"traceparent": f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}"}
    if context.trace_state:
        headers["tracestate"] = context.trace_state.to_header()
    return headers


def _described(error: Exception) -> str:
    """Say what went wrong and what to do, without a value of the payload."""
    if isinstance(error, RelayError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""  # noqa: PTH119
    return (
        f"{type(error).__name__}{place}; this is a fault of lback_relay, please report it with "
        "this line"
    )
