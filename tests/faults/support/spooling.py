"""A sender that waits until each envelope is safe: ``python -m faults.support.spooling URL NAME``.

Sends envelopes with the keys ``NAME-0``, ``NAME-1``, … until SIGTERM, and at most
``FAULTS_PER_S`` a second. Each key is in the ledger once the broker or the spool has the envelope:
the long timeout ends no wait before. At the end it prints the relay's figures as JSON.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from itertools import count

from faults.support.ledger import PUBLISHED, Ledger
from faults.support.names import NAMESPACE, SECRET, SIGNAL

from lback_relay.config import RelayConfig, SignalConfig
from lback_relay.relay import Relay


def main(url: str, name: str) -> None:
    """Send until told to end."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    ledger = Ledger(os.environ["FAULTS_LEDGER"])
    config = RelayConfig(
        signals={SIGNAL: SignalConfig(name=SIGNAL)},
        url=url,
        namespace=NAMESPACE,
        publishing="sync",
        publish_timeout_s=60.0,
        flush_timeout_s=60.0,
    )
    relay = Relay(config)
    pause_s = 1 / float(os.environ.get("FAULTS_PER_S", "5000"))
    for number in count():
        if stopped.wait(pause_s):
            break
        payload = {"item": f"{name}-{number}", "password": SECRET}
        assert relay.relay(SIGNAL, "sender", payload)
        ledger.note(PUBLISHED, f"{name}-{number}")
    relay.close()
    sys.stdout.write(f"counts {json.dumps(dict(relay.counts()))}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
