"""A sender that forks: ``python -m faults.support.forking URL CHILDREN THREADS COUNT``.

It sends once, so that a client exists, and forks; then the parent and every child send from many
threads at once. Each prints the port of its own connection to the broker.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from faults.support.ledger import PUBLISHED, Ledger
from faults.support.names import NAMESPACE, SIGNAL

from lback_relay.config import RelayConfig, SignalConfig
from lback_relay.relay import Relay


def sockets() -> set[str]:
    """Return this process's sockets, as the system names them."""
    found = set()
    for file in Path("/proc/self/fd").iterdir():
        try:
            target = str(file.readlink())
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def storm(relay: Relay, ledger: Ledger, name: str, threads: int, count: int) -> None:
    """Send from many threads at once."""
    start = threading.Barrier(threads)

    def send(thread: int) -> None:
        start.wait()
        for number in range(count):
            key = f"{name}-{thread}-{number}"
            assert relay.relay(SIGNAL, "sender", {"item": key})
            ledger.note(PUBLISHED, key)

    senders = [threading.Thread(target=send, args=(thread,)) for thread in range(threads)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert relay.flush(30)


def main(url: str, children: int, threads: int, count: int) -> None:
    """Run the parent."""
    ledger = Ledger(os.environ["FAULTS_LEDGER"])
    config = RelayConfig(
        signals={SIGNAL: SignalConfig(name=SIGNAL)},
        url=url,
        namespace=NAMESPACE,
        publishing=os.environ["FAULTS_PUBLISHING"],
    )
    relay = Relay(config)
    storm(relay, ledger, "before", 1, 10)
    parents = sockets()
    assert parents, "the parent has no connection yet"
    pids = []
    for child in range(children):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                inherited = sockets()
                storm(relay, ledger, f"child{child}", threads, count)
                assert sockets() - inherited, "the child sends over its parent's connection"
                relay.close()
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    storm(relay, ledger, "parent", threads, count)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    relay.close()
    sys.exit(any(codes))


if __name__ == "__main__":
    main(sys.argv[1], *(int(text) for text in sys.argv[2:5]))
