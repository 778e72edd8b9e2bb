"""Keys are rotated while real processes send and handle; nothing is lost, and no key is logged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from security.support.attacks import AttackTable
from support.runs import an_envelope
from support.waiting import wait_until
from support.workers import SIGNAL, publish_bytes, settled

from lback_relay.broker import Broker
from lback_relay.codec import encode
from lback_relay.keyring import Key, KeyRing, new_key
from lback_relay.signing import Signer

ROOT = Path(__file__).parents[2]
GROUP = "workers"

SENDER = '''
"""Sends numbers until it is told to stop, and writes each down before it is sent."""
import os
import signal
import sys
import threading

from lback_relay.config import RelayConfig
from lback_relay.relay import Relay

stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
ledger = os.open(os.environ["SENT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
signals = {"user_registered": {"encrypt": True}}
relay = Relay(RelayConfig.from_mapping({"signals": signals}))
number = int(sys.argv[1])
while not stop.wait(0.01):
    os.write(ledger, f"{number}\\n".encode())
    assert relay.relay("user_registered", None, {"number": number})
    number += 1
assert relay.flush(30)
relay.close()
'''

HANDLERS = '''
"""Writes down what it is given."""
import os

from lback_relay import remote_dispatcher

ledger = os.open(os.environ["HANDLED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


@remote_dispatcher.receiver("user_registered", name="handled")
def handled(sender, number, **kwargs):
    os.write(ledger, f"{number}\\n".encode())
'''


class Site:
    """Two senders and two workers, each replaced by a new process with another ring."""

    def __init__(self, folder: Path, url: str, namespace: str, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._next = 0
        (folder / "handlers.py").write_text(HANDLERS)
        (folder / "sender.py").write_text(SENDER)
        self._environment = {
            **{name: text for name, text in os.environ.items() if "LBACK_" not in name},
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "worker")]),
            "SENT": str(folder / "sent"),
            "HANDLED": str(folder / "handled"),
            "LBACK_RELAY_URL": url,
            "LBACK_RELAY_NAMESPACE": namespace,
            "LBACK_RELAY_SPOOL_DIR": str(folder / "spool"),
        }

    def replace(self, name: str, *keys: Key) -> None:
        """Stop the process of this name, if there is one, and start it with these keys."""
        self.stop(name)
        self._next += 1_000_000
        first = self._next
        sends = name.startswith("sender")
        command = ["sender.py", str(first)] if sends else ["-m", "lback_signal_worker", "handlers"]
        log = self.folder / f"{name}-{first}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.folder,
                env={**self._environment, "LBACK_RELAY_KEYS": ",".join(map(Key.text, keys))},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._stack.callback(_end, process)

        def runs() -> bool:
            assert process.poll() is None, log.read_text()
            return first in self.numbers("sent") if sends else "started: " in log.read_text()

        wait_until(runs, 60, what=f"the start of {name}")
        self._processes[name] = process

    def stop(self, name: str) -> None:
        """Ask it to stop, and see that it ended well."""
        process = self._processes.pop(name, None)
        if process is not None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, self.logs()

    def numbers(self, what: str) -> set[int]:
        """Return what was sent or handled so far."""
        path = self.folder / what
        # The last line may be half written.
        text = path.read_text() if path.exists() else ""
        return set(map(int, text[: text.rfind("\n") + 1].split()))

    def logs(self) -> str:
        """Return what all processes have printed."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()


@pytest.fixture
def site(tmp_path: Path, redis_url: str, namespace: str) -> Iterator[Site]:
    """Yield a site whose processes end with the test."""
    with ExitStack() as stack:
        yield Site(tmp_path, redis_url, namespace, stack)


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_rotation_under_load_loses_nothing(
    attack_table: AttackTable, broker: Broker, site: Site
) -> None:
    """As 'lback-relay keys rotate-help' says it; afterwards the old key is worth nothing."""
    old, new = new_key(), new_key()
    # Each time another process comes first: within a step the order must not matter.
    site.replace("worker-1", old)
    site.replace("sender-1", old)
    site.replace("worker-2", old)
    site.replace("sender-2", old)
    for name in ("sender-1", "worker-1", "sender-2", "worker-2"):
        site.replace(name, old, new)
    for name in ("sender-2", "worker-2", "sender-1", "worker-1"):
        site.replace(name, new, old)
    signed_by_old = site.numbers("sent")  # and some that are signed by the new one already
    wait_until(lambda: site.numbers("handled") >= signed_by_old, 60, what="what the old key signed")
    for name in ("worker-1", "sender-1", "sender-2", "worker-2"):
        site.replace(name, new)
    for name in ("sender-1", "sender-2"):
        site.stop(name)
    wait_until(
        lambda: site.numbers("handled") >= site.numbers("sent"), 60, what="all that was sent"
    )
    wait_until(lambda: settled(broker, GROUP), 60, what="the end of the queue")
    assert broker.dead_letters(SIGNAL, GROUP, count=10) == []
    assert site.numbers("handled") == site.numbers("sent")

    envelope = an_envelope(SIGNAL, {"number": 1})
    retired = Signer(KeyRing([old]), SIGNAL, ("queue",)).signed(encode(envelope), envelope.id)
    publish_bytes(broker, [retired])
    wait_until(lambda: broker.dead_letters(SIGNAL, GROUP, count=10), 60, what="the dead letter")
    (record,) = broker.dead_letters(SIGNAL, GROUP, count=10)
    assert (record.letter.reason, record.encoded) == ("unverified", retired)
    assert 1 not in site.numbers("handled")
    for name in ("worker-1", "worker-2"):
        site.stop(name)

    logs = site.logs()
    assert f"envelopes are verified with {new.id}, {old.id}" in logs
    secrets = [key.text()[9:] for key in (old, new)]
    shown = sum(secret in logs for secret in secrets)
    attack_table.record("a key looked for in logs", len(secrets), len(secrets) - shown)
    assert shown == 0
