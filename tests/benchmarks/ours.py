"""Our sending, in a process of its own: ``python -m benchmarks.ours KIND COUNT``; prints JSON.

Always the real thing: Lback's own dispatcher, the relay attached to it, the spool where the
environment puts it, the broker that ``BENCH_URL`` names. Durations are seconds where nothing else
is said.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import redis
from benchmarks.peers.marks import URL
from benchmarks.signals import SIGNAL, payload_of, signal_names
from lback.core.signals import SignalDispatcher

from lback_relay import Relay, RelayConfig, SignalConfig
from lback_relay.broker import connect
from lback_relay.broker.keys import Keys
from lback_relay.keyring import VARIABLE, KeyRing
from lback_relay.lane import MAX_BATCH_BYTES

WARM_UP = 200
FLUSH_S = 120.0


class UserManager:
    """Stands for the framework's, which sends the registration's signal."""


SENDER = UserManager()


def attached(*, signals: int = 1, sync: bool = False) -> tuple[Relay, Any]:
    """Return a relay, and a dispatcher that it is attached to; with the environment's keys."""
    keys = os.environ.get(VARIABLE)
    config = RelayConfig(
        signals={name: SignalConfig(name=name) for name in signal_names(signals)},
        url=URL,
        publishing="sync" if sync else "background",
        keys=KeyRing.parse(keys) if keys else None,
    )
    relay = Relay(config)
    dispatcher = SignalDispatcher()
    relay.attach(dispatcher)
    return relay, dispatcher


def finish(relay: Relay, sent: int) -> None:
    """See that the broker has all of it, and that nothing went another way."""
    counts = relay.counts()
    relay.close()
    wrong = {key: counts[key] for key in ("dropped", "spooled", "not_relayed") if counts[key]}
    if wrong or counts["published"] != sent:
        raise SystemExit(f"sent {sent}, but {counts}")


def sends(count: int, *, threads: int, signals: int, times: int) -> dict[str, Any]:
    """Send as quickly as it goes; 0 threads: in the background, until the broker has it all."""
    relay, dispatcher = attached(signals=signals, sync=threads > 0)
    names = signal_names(signals)
    payload = payload_of(times)
    each = count // max(1, threads)

    def send(number: int) -> None:
        for index in range(number):
            dispatcher.send(names[index % signals], SENDER, **payload)

    send(WARM_UP)
    relay.flush(FLUSH_S)
    began_at, cpu_s = time.monotonic(), time.process_time()
    if threads > 1:
        senders = [threading.Thread(target=send, args=(each,)) for _ in range(threads)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
    else:
        send(each)
    returned_s = time.monotonic() - began_at
    if not relay.flush(FLUSH_S):
        raise SystemExit("the broker did not take it all in time")
    took_s = time.monotonic() - began_at
    cpu_s = time.process_time() - cpu_s
    sent = each * max(1, threads)
    finish(relay, sent + WARM_UP)
    return {"sent": sent, "took_s": took_s, "returned_s": returned_s, "cpu_s": cpu_s}


def fill(count: int, *, signals: int, times: int) -> dict[str, Any]:
    """Fill the streams with copies of envelopes that were really sent, quicker than sending can.

    What a worker makes of an envelope does not depend on whether another one has the same id.
    """
    relay, dispatcher = attached(signals=signals, sync=True)
    names = signal_names(signals)
    began_at = time.monotonic()
    for name in names:
        dispatcher.send(name, SENDER, **payload_of(times))
    finish(relay, signals)
    keys = Keys("lback")
    size = 0
    with redis.Redis.from_url(URL) as client, closing(connect(URL, namespace="lback")) as broker:
        for name in names:
            encoded: bytes = client.xrange(keys.events(name))[0][1][b"e"]
            size = len(encoded)
            left, sequence = count // signals - 1, 1
            while left > 0:
                batch = min(left, max(1, min(512, MAX_BATCH_BYTES // size)))
                broker.publish(
                    name, [encoded] * batch,
                    producer_id="fill", first_sequence=sequence, queue=True, broadcast=False,
                )  # fmt: skip
                left, sequence = left - batch, sequence + batch
    return {
        "sent": count // signals * signals,
        "took_s": time.monotonic() - began_at,
        "envelope_bytes": size,
    }


def at_rate(count: int, rate: float) -> dict[str, Any]:
    """Send so many a second in the background, each with the instant of its sending."""
    relay, dispatcher = attached()
    payload = payload_of(1)
    began_at = time.monotonic()
    for number in range(count):
        wait_s = began_at + number / rate - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        dispatcher.send(SIGNAL, SENDER, **payload, sent_at=time.monotonic())
    took_s = time.monotonic() - began_at
    relay.flush(FLUSH_S)
    finish(relay, count)
    return {"sent": count, "took_s": took_s}


def added(count: int, *, entity: bool, pause_s: float) -> dict[str, Any]:
    """Measure what the relay adds to ``send``: medians with it and without, sent in turns."""
    relay, dispatcher = attached()
    alone = SignalDispatcher()
    given, between = _entity() if entity else (lambda: payload_of(1), lambda: None)
    with_it: list[float] = []
    without: list[float] = []
    clock = time.perf_counter
    for _ in range(WARM_UP + count):
        for sender, times in ((alone, without), (dispatcher, with_it)):
            payload = given()
            if pause_s:
                time.sleep(pause_s)
            began_at = clock()
            sender.send(SIGNAL, SENDER, **payload)
            times.append(clock() - began_at)
            between()
    relay.flush(FLUSH_S)
    finish(relay, WARM_UP + count)
    medians = [statistics.median(times[WARM_UP:]) * 1e6 for times in (with_it, without)]
    return {"with_us": medians[0], "without_us": medians[1], "added_us": medians[0] - medians[1]}


def _entity() -> tuple[Callable[[], dict[str, Any]], Callable[[], None]]:
    """Return what makes the registration's real payload, and what ends its transaction."""
    from lback.models.base import Base
    from lback.models.user import User
    from sqlalchemy import create_engine
    from sqlalchemy.orm import scoped_session, sessionmaker

    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    session = scoped_session(sessionmaker(bind=engine))()
    user = User(username="grace.hopper", email="grace.hopper@example.org", password="x" * 60)
    session.add(user)
    session.commit()

    def given() -> dict[str, Any]:
        session.refresh(user)  # as in a request: loaded, in an open transaction
        return {"user": user, "session": session}

    return given, session.commit


def main() -> None:
    """Run what the command line names, and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ours")
    parser.add_argument("kind", choices=["sends", "fill", "rate", "plain", "entity"])
    parser.add_argument("count", type=int)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--signals", type=int, default=1)
    parser.add_argument("--times", type=int, default=1, help="size of the payload")
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--pause-s", type=float, default=0.001)
    given = parser.parse_args()
    if given.kind == "sends":
        figures = sends(
            given.count, threads=given.threads, signals=given.signals, times=given.times
        )
    elif given.kind == "fill":
        figures = fill(given.count, signals=given.signals, times=given.times)
    elif given.kind == "rate":
        figures = at_rate(given.count, given.rate)
    else:
        figures = added(given.count, entity=given.kind == "entity", pause_s=given.pause_s)
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
