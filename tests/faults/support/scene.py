"""The scene of one row: a server, workers, a sender, the ledger, and the row's figures.

Everything that a row starts is ended with it. Durations are seconds.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any, Final

from faults.support.account import Account, Shelf, logs_with, repeated, take_account
from faults.support.ledger import FINISHED, PUBLISHED, Ledger
from faults.support.names import GROUP, HANDLER, LEASE_S, NAMESPACE, SECRET, SIGNAL, WITNESS
from faults.support.processes import Process, RedisServer
from faults.support.proxy import Proxy
from faults.support.rows import Figures
from support.waiting import wait_until

from lback_relay.broker import connect
from lback_relay.broker.keys import Keys
from lback_relay.config import RelayConfig, SignalConfig
from lback_relay.relay import Relay

__all__ = ["GROUP", "HANDLER", "LEASE_S", "NAMESPACE", "SIGNAL", "WITNESS", "Plan", "Scene"]

WINDOW_S: Final = 2.0
RETURNED: Final = 0.9
"""What share of what is sent in a window must end in it, for the throughput to be back."""

Plan = Mapping[str, Mapping[str, Any]]


class Scene:
    """See the module.

    Args:
        folder: for files of this row alone.
        binary: the Redis server's executable.
        random: the row's own.
        figures: the row's, filled in by :meth:`take_account` and the test.
        timed: hold the recovery to its bounds. A busy machine breaks them: for ``make faults``.
    """

    def __init__(
        self,
        folder: Path,
        binary: str,
        random: Random,
        figures: Figures,
        *,
        timed: bool = False,
    ) -> None:
        self.folder = folder
        self.random = random
        self.figures = figures
        self.timed = timed
        self.ledger = Ledger(folder / "ledger.jsonl")
        self.handlers: Mapping[str, Mapping[str, Any]] = {
            HANDLER: {"max_attempts": 8, "backoff_base_s": 0.2, "backoff_max_s": 1.0}
        }
        self._binary = binary
        self._stack = ExitStack()
        self._stack.callback(self.ledger.close)
        self._server: RedisServer | None = None
        self._relays: dict[str, Relay] = {}
        self._numbers = 0
        self._lock = threading.Lock()

    # what a row starts -----------------------------------------------------------------------

    @property
    def server(self) -> RedisServer:
        """The row's Redis; started with :meth:`serve`."""
        assert self._server is not None, "call serve first"
        return self._server

    def serve(self, *options: str, witness: bool = False) -> RedisServer:
        """Start the row's Redis.

        Args:
            *options: of the server.
            witness: make a group that reads nothing, so that nothing is trimmed from the stream.
        """
        server = RedisServer(self._binary, self.folder / "redis", options)
        self._stack.callback(server.close)
        server.start()
        self._server = server
        if witness:
            server.client.xgroup_create(self.keys.events(SIGNAL), WITNESS, "0", mkstream=True)
        return server

    def proxy(self) -> Proxy:
        """Open a proxy before the server."""
        return self._stack.enter_context(Proxy(self.server.port, self.random))

    def worker(
        self,
        *options: str,
        url: str | None = None,
        name: str = "worker",
        environment: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a worker and wait until it runs.

        Args:
            *options: of its command line, after the row's own.
            url: its broker; None: the server itself.
            name: of its log.
            environment: on top of what every worker gets.
        """
        with self._lock:
            self._numbers += 1
            log = self.folder / f"{name}-{self._numbers}.log"
        process = Process(
            [
                "-m", "lback_signal_worker", "faults.support.handlers", "--group", GROUP,
                "--url", url or self.server.url, "--lease-s", f"{LEASE_S:g}",
                "--drain-timeout-s", "10", "--stop-grace-s", "11", "--concurrency", "4", *options,
            ],
            self.folder,
            log,
            {
                "LBACK_RELAY_NAMESPACE": NAMESPACE,
                "FAULTS_LEDGER": str(self.ledger.path),
                "FAULTS_HANDLERS": json.dumps({SIGNAL: self.handlers}),
                **(environment or {}),
            },
        )  # fmt: skip
        self._stack.callback(process.end)
        process.wait_for("started: group")
        return process

    def python(self, module: str, *arguments: str, name: str, **environment: str) -> Process:
        """Start another program of the row's, ended with it."""
        process = Process(
            ["-m", module, *arguments],
            self.folder,
            self.folder / f"{name}.log",
            {"FAULTS_LEDGER": str(self.ledger.path), **environment},
        )
        self._stack.callback(process.end)
        return process

    def relay(self, *, url: str | None = None, publishing: str = "background") -> Relay:
        """Return the sender's relay; the same one for the same arguments."""
        url = url or self.server.url
        relay = self._relays.get(url + publishing)
        if relay is None:
            config = RelayConfig(
                signals={SIGNAL: SignalConfig(name=SIGNAL)},
                url=url,
                namespace=NAMESPACE,
                publishing=publishing,
                # As in the row's other processes, which share it.
                spool_dir=str(self.folder / "state" / "lback-relay"),
            )
            relay = self._relays[url + publishing] = Relay(config)
            self._stack.callback(relay.close)
        return relay

    # sending ---------------------------------------------------------------------------------

    def send(
        self,
        count: int = 1,
        *,
        plan: Plan | None = None,
        relay: Relay | None = None,
        **values: Any,
    ) -> list[str]:
        """Send envelopes and write them into the ledger. Returns their keys."""
        relay = relay or self.relay()
        keys = []
        for _ in range(count):
            with self._lock:
                self._numbers += 1
                key = f"item-{self._numbers}"
            payload = {"item": key, "plan": dict(plan or {}), "password": SECRET, **values}
            assert relay.relay(SIGNAL, "sender", payload)
            self.ledger.note(PUBLISHED, key)
            keys.append(key)
        return keys

    @contextmanager
    def load(self, per_s: float, *, at_most: int | None = None, **options: Any) -> Iterator[None]:
        """Send so many envelopes a second while the block runs.

        Args:
            per_s: how many.
            at_most: of them all; None: no limit.
            **options: of :meth:`send`.
        """
        stopped = threading.Event()

        def send() -> None:
            began_at, sent = time.monotonic(), 0
            while not stopped.wait(0.01):
                due = int((time.monotonic() - began_at) * per_s) - sent
                if at_most is not None:
                    due = min(due, at_most - sent)
                self.send(due, **options)
                sent += due

        sender = threading.Thread(target=send, name="load", daemon=True)
        sender.start()
        try:
            yield
        finally:
            stopped.set()
            sender.join()

    # looking ---------------------------------------------------------------------------------

    @property
    def keys(self) -> Keys:
        """The names of the row's keys."""
        return Keys(NAMESPACE)

    @property
    def shelf(self) -> Shelf:
        """What lies in Redis."""
        return Shelf(self.server.client, self.keys, SIGNAL, GROUP)

    def finished(self, keys: Sequence[str], handler: str = HANDLER) -> bool:
        """Tell whether a handler has finished all of these."""
        ended = self.ledger.finished()
        return all((key, handler) in ended for key in keys)

    def wait_finished(self, keys: Sequence[str], timeout_s: float = 60.0) -> float:
        """Wait until these are finished. Returns when the last of them was, for the first time."""
        wait_until(lambda: self.finished(keys), timeout_s, f"the end of {len(keys)} envelopes")
        first: dict[str, float] = {}
        for line in self.ledger.of(FINISHED):
            first.setdefault(line.key, line.at)
        return max(first[key] for key in keys)

    def wait_settled(self, timeout_s: float = 60.0) -> None:
        """Wait until what was sent has reached the broker, and the group has nothing left to do."""
        for relay in self._relays.values():
            assert relay.flush(timeout_s), "what was sent did not reach the broker"
        broker = connect(self.server.url, namespace=NAMESPACE, timeout_s=30.0)
        try:

            def nothing_left() -> bool:
                figures = broker.backlog(SIGNAL, GROUP)
                return not (figures["waiting"] or figures["pending"] or figures["retrying"])

            wait_until(nothing_left, timeout_s, "the end of all work")
        finally:
            broker.close()

    def take_account(self, *, duplicates: int, stream: bool = False) -> Account:
        """Hold the invariants, and fill in the row's figures.

        Args:
            duplicates: how many handlers may have ended more than once.
            stream: look for envelopes that are in the stream twice (needs the witness).
        """
        account = take_account(self.ledger, self.shelf, tuple(self.handlers))
        self.figures.published = account.published
        self.figures.finished = account.finished
        self.figures.duplicates = account.duplicates
        self.figures.lost = len(account.lost)
        assert not account.lost, f"{len(account.lost)} lost: {sorted(account.lost)[:5]}"
        assert account.duplicates <= duplicates
        assert not logs_with(self.folder, SECRET), "a log tells a secret"
        if stream:
            keys = self.shelf.stream_keys()
            assert not repeated(keys)
            assert set(self.ledger.published()) <= set(keys)
        return account

    def recovered(self, since: float, until: float, *, within_s: float) -> None:
        """Note how long the recovery took, and hold it to its bound."""
        self.figures.recovery_s = round(max(0.0, until - since), 2)
        assert not self.timed or self.figures.recovery_s <= within_s

    def throughput_returns(self, since: float) -> None:
        """Wait, under load, until nine tenths of what is sent end as quickly as they are sent.

        The matrix allows three leases and 5 s; twice that is the bound here.
        """
        while self.timed:
            before = len(self.ledger.published()), len(self.ledger.finished())
            time.sleep(WINDOW_S)
            sent = len(self.ledger.published()) - before[0]
            ended = len(self.ledger.finished()) - before[1]
            if ended >= RETURNED * sent * len(self.handlers):
                return
            late_s = time.monotonic() - since
            assert late_s < 2 * (3 * LEASE_S + 5), f"{ended} of {sent} ended {late_s:.0f} s later"

    def close(self) -> None:
        """End everything that was started."""
        self._stack.close()
