"""Workers that run inside a test, and envelopes for them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from support.runs import an_envelope

from lback_relay.broker import Broker, connect
from lback_relay.codec import encode
from lback_relay.remote import RemoteDispatcher
from lback_signal_worker.config import WorkerConfig
from lback_signal_worker.verification import Verification
from lback_signal_worker.worker import Worker

SIGNAL = "user_registered"
GROUP = "mailers"


def publish(
    broker: Broker,
    payloads: Sequence[Mapping[str, Any]],
    *,
    signal: str = SIGNAL,
    delivery: tuple[str, ...] = ("queue",),
) -> list[str]:
    """Publish one envelope for each payload. Returns their ids."""
    envelopes = [an_envelope(signal, payload, delivery=delivery) for payload in payloads]
    publish_bytes(broker, [encode(envelope) for envelope in envelopes], signal, delivery)
    return [envelope.id for envelope in envelopes]


def publish_bytes(
    broker: Broker,
    encoded: Sequence[bytes],
    signal: str = SIGNAL,
    delivery: tuple[str, ...] = ("queue",),
) -> None:
    """Publish bytes as they are, under a producer id of their own."""
    broker.publish(
        signal,
        encoded,
        producer_id=uuid.uuid4().hex,
        first_sequence=1,
        queue="queue" in delivery,
        broadcast="broadcast" in delivery,
    )


def settled(broker: Broker, group: str = GROUP, signal: str = SIGNAL) -> bool:
    """Tell whether a group has nothing left to do."""
    figures = broker.backlog(signal, group)
    return figures["waiting"] == figures["pending"] == figures["retrying"] == 0


StartWorker = Callable[..., Worker]


@contextmanager
def worker_starter(url: str, namespace: str) -> Iterator[StartWorker]:
    """Yield a function that starts a worker; all of them are drained at the end."""
    with ExitStack() as stack:

        def start(
            dispatcher: RemoteDispatcher,
            *,
            connecting: Callable[[], Broker] | None = None,
            verification: Verification | None = None,
            **config: Any,
        ) -> Worker:
            given = {"group": GROUP, "drain_timeout_s": 10.0, **config}
            worker = Worker(
                WorkerConfig(**given),
                dispatcher,
                connecting or (lambda: connect(url, namespace=namespace, timeout_s=10.0)),
                verification=verification,
            )
            worker.start()
            drain = worker.drain
            drained: list[bool] = []

            def drain_once(interrupted: Callable[[], bool] = lambda: False) -> bool:
                if not drained:
                    drained.append(drain(interrupted))
                return drained[0]

            worker.drain = drain_once  # type: ignore[method-assign]
            stack.callback(drain_once)
            return worker

        yield start


@pytest.fixture
def start_worker(redis_url: str, namespace: str) -> Iterator[StartWorker]:
    """Yield a function that starts a worker on the session's server, in the test's namespace."""
    with worker_starter(redis_url, namespace) as start:
        yield start


@pytest.fixture
def remote() -> RemoteDispatcher:
    """Return a dispatcher of the test's own."""
    return RemoteDispatcher()
