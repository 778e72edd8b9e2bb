"""A line to the broker that is too slow for all that waits at once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

import pytest
from support.deliveries import GROUP, SIGNAL, publish, read
from support.waiting import wait_until
from support.worker_parts import a_hand, half

from lback_relay.broker import Broker, Retry, connect
from lback_relay.broker.base import Delivery
from lback_signal_worker.link import Link
from lback_signal_worker.processor import Run
from lback_signal_worker.settler import Settler

pytestmark = pytest.mark.broker

BYTES_PER_S = 2_000_000
TIMEOUT_S = 0.5
ENTRIES = 80
SIZE = 100_000


def _pass_on(source: socket.socket, target: socket.socket, bytes_per_s: float) -> None:
    """Pass bytes on, so fast at most, until either end is closed."""
    with suppress(OSError):
        while data := source.recv(8192):
            target.sendall(data)
            threading.Event().wait(len(data) / bytes_per_s)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def slow_url(redis_url: str) -> Iterator[str]:
    """Yield the session's server behind a line that is slow towards it."""
    place = urlsplit(redis_url)
    threads: list[threading.Thread] = []
    with ExitStack() as stack:
        listening = socket.socket()
        # What the system buffers would have gone out already for the worker.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def accept() -> None:
            while True:
                try:
                    ours, _ = listening.accept()
                except OSError:
                    return
                theirs = socket.create_connection((place.hostname or "", place.port or 0))
                stack.enter_context(ours)
                stack.enter_context(theirs)
                for source, target, rate in (
                    (ours, theirs, BYTES_PER_S),
                    (theirs, ours, 1_000_000_000),
                ):
                    thread = threading.Thread(target=_pass_on, args=(source, target, rate))
                    thread.start()
                    threads.append(thread)

        accepting = threading.Thread(target=accept)
        accepting.start()
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}{place.path}"
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        accepting.join(30)
    for thread in threads:
        thread.join(30)


def test_what_one_call_can_not_send_in_time_is_settled_all_the_same(
    broker: Broker, slow_url: str, namespace: str
) -> None:
    """Eight megabytes of retries, of which a call may take half a second."""
    broker.ensure_groups([SIGNAL], GROUP)
    for first in range(1, ENTRIES + 1, 20):
        publish(broker, *(b"x" * SIZE,) * 20, first=first)
    hand = a_hand()
    runs = [_failed(delivery) for delivery in read(broker, count=ENTRIES)]
    assert len(runs) == ENTRIES
    slow = connect(slow_url, namespace=namespace, timeout_s=TIMEOUT_S)
    settler = Settler(
        slow, GROUP, "a", hand=hand, link=Link(), retry_in=lambda _: None, random=half
    )
    hand.add(SIGNAL, runs)
    settler.report(runs)
    thread = threading.Thread(target=settler.run)
    thread.start()
    try:
        wait_until(lambda: not hand.count, what="the last outcome", timeout_s=40)
    finally:
        settler.close(0)
        thread.join(60)
        slow.close()
    assert broker.backlog(SIGNAL, GROUP)["pending"] == 0
    assert broker.backlog(SIGNAL, GROUP)["retrying"] == ENTRIES


def _failed(delivery: Delivery) -> Run:
    """Return a run that ends in a retry much later."""
    run = Run(SIGNAL, delivery.encoded, (), delivery)
    run.retries = [Retry(attempts={"welcome": 1}, delay_s=600)]
    return run
