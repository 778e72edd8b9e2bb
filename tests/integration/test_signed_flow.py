"""Signed and encrypted envelopes from the relay through a real broker to handlers, and back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.runs import an_envelope
from support.waiting import wait_until
from support.workers import (
    GROUP,
    SIGNAL,
    StartWorker,
    publish_bytes,
    remote,
    settled,
    start_worker,
)

from lback_relay import Relay, RelayConfig
from lback_relay.broker import Broker
from lback_relay.cli import main
from lback_relay.codec import encode
from lback_relay.keyring import KeyRing, new_key
from lback_relay.remote import HandlerContext, RemoteDispatcher
from lback_relay.signing import Signer
from lback_signal_worker.verification import verification_of

__all__ = ["remote", "start_worker"]

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[2]
RING = KeyRing([new_key(), new_key()])
TEXT = ",".join(key.text() for key in RING)


def config_of(url: str, namespace: str, *, encrypt: bool = False) -> RelayConfig:
    """Return the config that both sides read."""
    options = {"delivery": ["queue", "broadcast"], "encrypt": encrypt}
    data = {
        "signals": {SIGNAL: options},
        "url": url,
        "namespace": namespace,
        "publishing": "sync",
        "publish_timeout_s": 30.0,
        "flush_timeout_s": 30.0,
        "max_age_s": 3600,
    }
    return RelayConfig.from_mapping(data, environ={"LBACK_RELAY_KEYS": TEXT})


@pytest.fixture
def ran(remote: RemoteDispatcher) -> list[tuple[str, Any]]:
    """Return what handlers of both modes write down."""
    found: list[tuple[str, Any]] = []

    @remote.receiver(SIGNAL, name="runs", delivery="queue")
    def runs(sender: object, number: int, context: HandlerContext) -> None:
        found.append((context.delivery, number))

    @remote.receiver(SIGNAL, name="hears", delivery="broadcast")
    def hears(sender: object, number: int, context: HandlerContext) -> None:
        found.append((context.delivery, number))

    return found


@pytest.mark.parametrize("encrypt", [False, True], ids=["signed", "encrypted"])
def test_what_is_relayed_with_keys_reaches_workers_with_keys(
    *,
    redis_url: str,
    namespace: str,
    start_worker: StartWorker,
    remote: RemoteDispatcher,
    ran: list[tuple[str, Any]],
    encrypt: bool,
) -> None:
    """By both modes, from one config."""
    config = config_of(redis_url, namespace, encrypt=encrypt)
    verification = verification_of(config)
    worker = start_worker(remote, verification=verification)
    wait_until(worker._listener.subscribed.is_set, what="the subscription")
    relay = Relay(config)
    for number in range(3):
        assert relay.relay(SIGNAL, None, {"number": number})
    relay.close()
    wait_until(lambda: len(ran) >= 6, what="both deliveries of each")
    assert sorted(ran) == [(mode, n) for mode in ("broadcast", "queue") for n in range(3)]
    assert verification.rejected == 0
    assert worker.figures()["unverified"] == "0"


def test_a_retry_of_what_was_too_old_runs(
    *,
    broker: Broker,
    redis_url: str,
    namespace: str,
    start_worker: StartWorker,
    remote: RemoteDispatcher,
    ran: list[tuple[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """With the operator's keys it is signed anew; what nobody signed needs to be vouched for."""
    config = config_of(redis_url, namespace)
    worker = start_worker(remote, verification=verification_of(config))
    old = an_envelope(SIGNAL, {"number": 1})
    signer = Signer(RING, SIGNAL, ("queue",), now=lambda: time.time() - 7200)
    strange = an_envelope(SIGNAL, {"number": 2})
    publish_bytes(broker, [signer.signed(encode(old), old.id), encode(strange)])
    wait_until(lambda: len(broker.dead_letters(SIGNAL, GROUP, count=9)) == 2, what="two letters")
    wait_until(lambda: worker.figures()["unverified"] == "2", what="the count")

    monkeypatch.chdir(tmp_path)
    for name, text in (("URL", redis_url), ("NAMESPACE", namespace), ("KEYS", TEXT)):
        monkeypatch.setenv(f"LBACK_RELAY_{name}", text)

    def retry(*options: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(["dead", "retry", *options], prog_name="lback-relay")
        return int(ended.value.code or 0)

    assert retry("--reason", "unverified") == 1
    wait_until(lambda: ran == [("queue", 1)], what="what was too old")
    assert retry("--all", "--vouch") == 0
    wait_until(lambda: ("queue", 2) in ran, what="what was vouched for")
    wait_until(lambda: settled(broker), what="the end")
    assert sorted(ran) == [("queue", 1), ("queue", 2)]
    assert broker.dead_letters(SIGNAL, GROUP, count=9) == []
    monkeypatch.delenv("LBACK_RELAY_KEYS")
    assert retry("--all", "--vouch") == 2


def test_a_worker_without_keys_runs_what_it_can_read(
    broker: Broker, start_worker: StartWorker, remote: RemoteDispatcher, ran: list[tuple[str, Any]]
) -> None:
    """So that senders may begin; what is encrypted is kept, and the letter says what is missing."""
    start_worker(remote)
    signed, encrypted = (an_envelope(SIGNAL, {"number": number}) for number in (1, 2))
    sealed = [
        Signer(RING, SIGNAL, ("queue",), encrypt=each is encrypted).signed(encode(each), each.id)
        for each in (signed, encrypted)
    ]
    publish_bytes(broker, sealed)
    wait_until(lambda: broker.dead_letters(SIGNAL, GROUP, count=9), what="the letter")
    wait_until(lambda: ran == [("queue", 1)], what="what is only signed")
    (record,) = broker.dead_letters(SIGNAL, GROUP, count=9)
    assert (record.letter.reason, record.encoded) == ("malformed", sealed[1])
    assert "LBACK_RELAY_KEYS" in record.letter.error


def test_the_worker_command_refuses_a_ring_that_is_none(tmp_path: Path, redis_url: str) -> None:
    """In one sentence that shows nothing of it."""
    (tmp_path / "handlers.py").write_text("")
    broken = RING.signing.text()[:-1]
    environ = {name: text for name, text in os.environ.items() if "LBACK_" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "lback_signal_worker", "handlers"],
        cwd=tmp_path,
        env={
            **environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "worker")]),
            "LBACK_RELAY_URL": redis_url,
            "LBACK_RELAY_KEYS": broken,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "LBACK_RELAY_KEYS: key 1 is no key, or was not copied whole" in done.stderr
    assert broken[9:] not in done.stdout + done.stderr
