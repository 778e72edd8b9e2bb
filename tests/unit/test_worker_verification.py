"""What a worker runs, with keys and without."""

from __future__ import annotations

import logging

import pytest
from support.runs import an_envelope

from lback_relay.codec import encode
from lback_relay.config import RelayConfig
from lback_relay.errors import ConfigError, MalformedEnvelope, SignatureRejected
from lback_relay.keyring import KeyRing, new_key
from lback_relay.signing import Signer
from lback_signal_worker.verification import Verification, verification_of

SIGNAL = "user_registered"
ENVELOPE = an_envelope(SIGNAL)
ENCODED = encode(ENVELOPE)
RING = KeyRing([new_key(), new_key()])


def test_a_worker_with_keys_runs_what_is_signed_and_nothing_else() -> None:
    """And counts what it did not run."""
    verification = verification_of(RelayConfig(signals={}, keys=RING, max_age_s=60))
    signed = Signer(RING, SIGNAL, ("queue",)).signed(ENCODED, ENVELOPE.id)
    assert verification.decode(signed, SIGNAL, "queue") == ENVELOPE
    with pytest.raises(SignatureRejected):
        verification.decode(ENCODED, SIGNAL, "queue")
    assert verification.rejected == 1
    assert verification.described() == f"envelopes are verified with {RING.ids[0]}, {RING.ids[1]}"


def test_a_worker_without_keys_runs_all_and_warns_once_of_signed_ones(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """So that senders may begin to sign first; bytes that are no envelope are not its matter."""
    verification = verification_of(RelayConfig(signals={}))
    signed = Signer(RING, SIGNAL, ("queue",)).signed(ENCODED, ENVELOPE.id)
    with caplog.at_level(logging.WARNING):
        assert verification.decode(ENCODED, SIGNAL, "queue") == ENVELOPE
        for encoded in (b"", b"no envelope"):
            with pytest.raises(MalformedEnvelope):
                verification.decode(encoded, SIGNAL, "queue")
        assert caplog.records == []
        for _ in range(3):
            assert verification.decode(signed, SIGNAL, "broadcast") == ENVELOPE
    (record,) = caplog.records
    assert "this worker has no keys" in record.getMessage()
    assert verification.rejected == 0
    assert verification.described() == "envelopes are not verified"


def test_a_worker_that_could_not_read_an_encrypted_signal_does_not_start() -> None:
    """Each of its envelopes would become a dead letter."""
    signals = {"a": {"encrypt": True}, "b": {}, "c": {"encrypt": True}}
    with pytest.raises(ConfigError) as caught:
        verification_of(RelayConfig.from_mapping({"signals": signals}, environ={}))
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "signals.a.encrypt",
        "signals.c.encrypt",
    ]
    environ = {"LBACK_RELAY_KEYS": new_key().text()}
    config = RelayConfig.from_mapping({"signals": signals}, environ=environ)
    assert isinstance(verification_of(config), Verification)
