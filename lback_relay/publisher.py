"""Hand encoded envelopes to the broker, in the background or waiting, once per process and fork.

The states that an envelope and the broker go through are those of ``line.py``; a publisher adds the
process's own::

    made -> (nothing opened, no thread) -publish-> line of this process -close-> idle -publish-> ...
                                                        | fork
                                                        +-> child: no line -publish-> its own line

A forked child has its own producer id, connection and thread, and nothing of what its parent had
queued, which is the parent's to send. At the end of a process what is queued is flushed, for
``flush_timeout_s`` at most, after ``sys.exit`` and uncaught exceptions, too, and what the broker
does not take goes to the spool. A process that is killed (by SIGKILL, or a SIGTERM that nobody
handles), or that ends by ``os._exit`` as children of multiprocessing do, flushes nothing: call
:meth:`Publisher.close` there.

Knows neither Redis nor envelopes. Durations are seconds.
"""

from __future__ import annotations

import atexit
import logging
import os
import weakref
from collections.abc import Callable, Mapping
from importlib import import_module

from lback_relay.broker.base import Broker
from lback_relay.config import SignalConfig
from lback_relay.line import Line
from lback_relay.spool import Spool

_log = logging.getLogger(__name__)

# What a first call would import in the thread: a fork in the middle of an import leaves its lock
# taken, or the module half made, in the child; after the main thread's end the client can't be
# imported any more. The codec is what a socket encodes the host's name with.
_LOADED_BEFORE_THREADS = ("lback_relay.broker.redis", "encodings.idna")

_COUNTS = ("published", "queued", "spooled", "dropped", "failed", "spool_failed")


class Publisher:
    """Publishes from any thread of any process that it is inherited by.

    Args:
        connect: makes a broker; called when first needed in a process. A call of that broker must
            not take longer than :data:`~lback_relay.line.CALL_SHARE` of ``publish_timeout_s`` where
            ``background`` is false.
        background: whether :meth:`publish` returns at once instead of waiting for the broker.
        publish_timeout_s: longest wait of one publish that is not in the background.
        max_queued: envelopes kept in memory; further ones go to the spool, or are dropped, loudly.
        flush_timeout_s: longest wait for what is queued when closing and at the process's end.
        open_spool: makes a process's access to the spool; None keeps in memory what can't be sent.
        max_backlog: the limit of each signal that has one, for draining the spool.
    """

    def __init__(
        self,
        connect: Callable[[], Broker],
        *,
        background: bool = True,
        publish_timeout_s: float = 0.25,
        max_queued: int = 100_000,
        flush_timeout_s: float = 5.0,
        open_spool: Callable[[], Spool | None] = lambda: None,
        max_backlog: Callable[[str], int | None] = lambda _signal: None,
    ) -> None:
        for module in _LOADED_BEFORE_THREADS:
            import_module(module)
        self._connect = connect
        self._background = background
        self._publish_timeout_s = publish_timeout_s
        self._max_queued = max_queued
        self._flush_timeout_s = flush_timeout_s
        self._open_spool = open_spool
        self._max_backlog = max_backlog
        self._lines: dict[int, Line] = {}
        self._line: Line | None = None

    def publish(self, signal: SignalConfig, encoded: bytes) -> None:
        """Publish one envelope. Never raises; what can't be sent now is sent later, in order.

        Args:
            signal: how the signal is delivered.
            encoded: the envelope's bytes.
        """
        try:
            line = self._line
            if line is None or line.pid != os.getpid():
                line = self._open_line()
            if self._background:
                line.put(signal, encoded)
            else:
                line.put_and_wait(signal, encoded, self._publish_timeout_s)
        except Exception:  # noqa: BLE001 - the sender of a signal must never be hurt
            _log.exception("A signal could not be queued", extra={"relay_signal": signal.name})

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until the broker has accepted all that is queued now.

        Args:
            timeout_s: longest wait; None means ``flush_timeout_s``.

        Returns: whether it has.
        """
        line = self._own_line()
        return line is None or line.flush(self._flush_timeout_s if timeout_s is None else timeout_s)

    def close(self) -> None:
        """Flush, end the thread and close the connection; a later publish begins anew.

        What could not be sent is in the spool then, or stays queued for a later publish where there
        is none. Idempotent.
        """
        line = self._own_line()
        if line is not None:
            line.close(self._flush_timeout_s)

    def counts(self) -> Mapping[str, int]:
        """Return this process's figures.

        Returns: ``published`` (envelopes accepted by the broker, from the spool, too), ``queued``
            (waiting in memory), ``spooled`` (written to the spool by this process), ``dropped``
            (because the queue was full), ``failed`` (calls that the broker refused or did not
            answer), ``spool_failed`` (writes of the spool that failed).
        """
        line = self._own_line()
        if line is None:
            return dict.fromkeys(_COUNTS, 0)
        sending = line.sending
        return dict(
            zip(
                _COUNTS,
                (
                    sending.published + line.drained(),
                    sending.queued(),
                    sending.spooled,
                    line.dropped,
                    sending.failed,
                    sending.spool_failed,
                ),
                strict=True,
            )
        )

    def _own_line(self) -> Line | None:
        line = self._line
        return line if line is not None and line.pid == os.getpid() else None

    def _open_line(self) -> Line:
        """Make this process's line: the first one, or the first after a fork."""
        pid = os.getpid()
        made = Line(
            self._connect,
            max_queued=self._max_queued,
            spool=self._open_spool(),
            max_backlog=self._max_backlog,
        )
        # Not under a lock, which a fork might have copied locked; setdefault is atomic.
        line = self._lines.setdefault(pid, made)
        for other in [other for other in self._lines if other != pid]:
            self._lines.pop(other, None)
        _lines.setdefault(line, self._flush_timeout_s)
        self._line = line
        return line


# Every line that has a publisher or a thread, with its flush_timeout_s.
_lines: weakref.WeakKeyDictionary[Line, float] = weakref.WeakKeyDictionary()


@atexit.register
def _close_lines() -> None:
    """Flush at the end of the process; its daemon threads still run while this does."""
    pid = os.getpid()
    for line, flush_timeout_s in list(_lines.items()):
        if line.pid == pid:
            line.close(flush_timeout_s)
