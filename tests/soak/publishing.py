"""A soak's sender: ``python -m soak.publishing URL NAME RATE SEED WAY``.

Sends RATE envelopes a second with the keys ``NAME-0``, ``NAME-1``, … until SIGTERM; then all that
is queued has 60 s to reach the broker, and the exit code tells whether it has. WAY is a mode of
publishing, or "safe": in sync mode, with a timeout that ends no wait, so that what it has written
into the ledger survives its being killed.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from random import Random

from faults.support.ledger import PUBLISHED, Ledger
from faults.support.names import NAMESPACE, SECRET, SIGNAL
from soak.plan import behaviour

from lback_relay.config import RelayConfig, SignalConfig
from lback_relay.relay import Relay


def main(url: str, name: str, rate: float, seed: str, way: str) -> int:
    """Send until told to end."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    random = Random(f"{seed}:{name}")
    ledger = Ledger(os.environ["FAULTS_LEDGER"])
    handlers = tuple(os.environ["SOAK_HANDLERS"].split(","))
    signals = {SIGNAL: SignalConfig(name=SIGNAL)}
    config = RelayConfig(
        signals=signals,
        url=url,
        namespace=NAMESPACE,
        publishing="sync" if way == "safe" else way,
        publish_timeout_s=60.0 if way == "safe" else 0.25,
        flush_timeout_s=60.0,
    )
    relay = Relay(config)
    began_at, number, longest_s = time.monotonic(), 0, 0.0
    while not stopped.wait(0.01):
        while not stopped.is_set() and number < (time.monotonic() - began_at) * rate:
            payload = {
                "item": f"{name}-{number}",
                "plan": behaviour(random, handlers),
                "password": SECRET,
            }
            sent_at = time.monotonic()
            taken = relay.relay(SIGNAL, "sender", payload)
            longest_s = max(longest_s, time.monotonic() - sent_at)
            if taken:
                ledger.note(PUBLISHED, f"{name}-{number}")
            number += 1
    flushed = relay.flush(60)
    sys.stdout.write(f"sent {number}, longest send {longest_s:.3f} s, {relay.counts()}\n")
    relay.close()
    return 0 if flushed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4], sys.argv[5]))
