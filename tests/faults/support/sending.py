"""A sender of its own: ``python -m faults.support.sending URL NAME COUNT``.

Sends envelopes with the keys ``NAME-0`` to ``NAME-(COUNT-1)``, waiting for each.
"""

from __future__ import annotations

import os
import sys

from faults.support.ledger import PUBLISHED, Ledger
from faults.support.names import NAMESPACE, SIGNAL

from lback_relay.config import RelayConfig, SignalConfig
from lback_relay.relay import Relay


def main(url: str, name: str, count: int) -> None:
    """Send."""
    ledger = Ledger(os.environ["FAULTS_LEDGER"])
    signals = {SIGNAL: SignalConfig(name=SIGNAL)}
    relay = Relay(RelayConfig(signals=signals, url=url, namespace=NAMESPACE, publishing="sync"))
    for number in range(count):
        assert relay.relay(SIGNAL, "sender", {"item": f"{name}-{number}"})
        ledger.note(PUBLISHED, f"{name}-{number}")
    assert relay.flush(30)
    relay.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
