"""Signed and encrypted envelopes: who takes which bytes, found where."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from support.runs import an_envelope

from lback_relay.codec import decode, encode
from lback_relay.codec_extensions import MAX_ENVELOPE_BYTES
from lback_relay.codec_header import BODY_AT, signed_header
from lback_relay.config import RelayConfig
from lback_relay.envelope import BROADCAST, QUEUE
from lback_relay.errors import (
    ConfigError,
    MalformedEnvelope,
    PayloadEncrypted,
    SignatureRejected,
    UnsupportedVersion,
)
from lback_relay.keyring import Key, KeyRing
from lback_relay.signing import Signer, Verifier, signed_anew, signer_of

SIGNAL = "user_registered"
NOW_S = 1_800_000_000.5
OLD, NEW = Key(bytes(range(32))), Key(bytes(range(32, 64)))
RING = KeyRing([NEW, OLD])
ENVELOPE = an_envelope(SIGNAL, {"email": "ada@example.org"})
ENCODED = encode(ENVELOPE)


def signed(
    ring: KeyRing = RING,
    *,
    delivery: tuple[str, ...] = (QUEUE,),
    encrypt: bool = False,
    at_s: float = NOW_S,
    signal: str = SIGNAL,
) -> bytes:
    signer = Signer(ring, signal, delivery, encrypt=encrypt, now=lambda: at_s)
    return signer.signed(ENCODED, ENVELOPE.id)


def verifier(
    ring: KeyRing = RING, *, max_age_s: float | None = 60, at_s: float = NOW_S
) -> Verifier:
    return Verifier(ring, max_age_s=max_age_s, now=lambda: at_s)


both = pytest.mark.parametrize("encrypt", [False, True], ids=["signed", "encrypted"])


@both
def test_what_was_signed_comes_out_as_it_was(encrypt: bool) -> None:
    """To the byte, so that verifying changes nothing for what decodes."""
    encoded = signed(encrypt=encrypt)
    assert verifier().verified(encoded, SIGNAL, QUEUE) == ENCODED
    assert (b"ada@example.org" in encoded) is not encrypt


@both
def test_both_modes_are_verified_where_both_were_signed(encrypt: bool) -> None:
    """The same bytes go to the stream and to the channel."""
    encoded = signed(delivery=(QUEUE, BROADCAST), encrypt=encrypt)
    for mode in (QUEUE, BROADCAST):
        assert verifier().verified(encoded, SIGNAL, mode) == ENCODED


@both
@pytest.mark.parametrize(("sent", "found"), [(BROADCAST, QUEUE), (QUEUE, BROADCAST)])
def test_the_other_delivery_mode_is_refused(sent: str, found: str, encrypt: bool) -> None:
    """A broadcast that somebody put into the stream would run in every group."""
    encoded = signed(delivery=(sent,), encrypt=encrypt)
    with pytest.raises(SignatureRejected, match=f"not signed for delivery by {found}"):
        verifier().verified(encoded, SIGNAL, found)


@both
def test_another_signals_stream_is_refused(encrypt: bool) -> None:
    """The handlers of a signal get that signal."""
    check = verifier()
    with pytest.raises(SignatureRejected, match="signed for another signal"):
        check.verified(signed(encrypt=encrypt), "user_deleted", QUEUE)
    assert check.rejected == 1


def test_every_key_of_a_ring_verifies_and_the_first_one_signs() -> None:
    """A rotation is a time with two keys."""
    by_old, by_new = signed(KeyRing([OLD])), signed(KeyRing([NEW, OLD]))
    header = signed_header(by_new)
    assert header is not None
    assert header.key_id == NEW.id
    for encoded in (by_old, by_new):
        assert verifier(KeyRing([OLD, NEW])).verified(encoded, SIGNAL, QUEUE) == ENCODED


@both
def test_a_retired_key_is_refused_by_its_id(encrypt: bool) -> None:
    """The id tells an operator which ring is behind."""
    with pytest.raises(SignatureRejected, match=f"by the key {OLD.id}, which is not in"):
        verifier(KeyRing([NEW])).verified(signed(KeyRing([OLD]), encrypt=encrypt), SIGNAL, QUEUE)


def test_an_id_that_is_none_is_not_shown() -> None:
    """It is somebody's bytes, and ends in a log."""
    encoded = signed()[:4] + b"\x1b[2J{}%s" + signed()[12:]
    with pytest.raises(SignatureRejected, match="by the key of no valid id"):
        verifier().verified(encoded, SIGNAL, QUEUE)


def test_what_is_not_signed_is_refused() -> None:
    """A worker with keys runs nothing else."""
    check = verifier()
    with pytest.raises(SignatureRejected, match="is not signed"):
        check.verified(ENCODED, SIGNAL, QUEUE)
    assert check.rejected == 1


def test_what_can_not_be_known_is_refused_as_without_keys() -> None:
    """A newer version's envelope waits for a newer worker; anything else is none."""
    check = verifier()
    for encoded in (b"", b"LR", b"\x00" * 100):
        with pytest.raises(MalformedEnvelope):
            check.verified(encoded, SIGNAL, QUEUE)
    for head in (b"LR\x02\x02", b"LR\x01\x01", b"LR\x01\x04", b"LR\x01\x82"):
        with pytest.raises(UnsupportedVersion):
            check.verified(head + signed()[4:], SIGNAL, QUEUE)
    assert check.rejected == 0


@both
def test_each_byte_is_covered(encrypt: bool) -> None:
    """Altered in any bit, cut anywhere or with something added, it is refused."""
    encoded = signed(encrypt=encrypt)
    check = verifier()
    refused = (SignatureRejected, MalformedEnvelope, UnsupportedVersion)
    altered = [
        encoded[:index] + bytes([encoded[index] ^ 1 << index % 8]) + encoded[index + 1 :]
        for index in range(len(encoded))
    ]
    cut = [encoded[:length] for length in range(len(encoded))]
    for bytes_ in (*altered, *cut, encoded + b"\x00"):
        with pytest.raises(refused):
            check.verified(bytes_, SIGNAL, QUEUE)


@both
@pytest.mark.parametrize(("age_s", "runs"), [(-3600, True), (0, True), (60, True), (60.1, False)])
def test_age_counts_from_the_signing(age_s: float, runs: bool, encrypt: bool) -> None:
    """A sender's clock may be ahead: only who has a key can date an envelope."""
    encoded = signed(at_s=NOW_S - age_s, encrypt=encrypt)
    if runs:
        assert verifier().verified(encoded, SIGNAL, QUEUE) == ENCODED
    else:
        with pytest.raises(SignatureRejected, match="60 s ago, longer than max_age_s"):
            verifier().verified(encoded, SIGNAL, QUEUE)
    assert verifier(max_age_s=None).verified(encoded, SIGNAL, QUEUE) == ENCODED


def test_what_no_decoder_takes_is_not_hashed_either() -> None:
    """A broker holds entries of half a gigabyte."""
    encoded = signed()[:BODY_AT] + bytes(MAX_ENVELOPE_BYTES + 100)
    with pytest.raises(MalformedEnvelope, match="too many"):
        verifier().verified(encoded, SIGNAL, QUEUE)


def test_two_names_do_not_make_one_signature() -> None:
    """Names are arbitrary, also with what looks like the bytes that follow them."""
    name = "user_registeredLR"
    with pytest.raises(SignatureRejected):
        verifier().verified(signed(signal=name), SIGNAL, QUEUE)
    assert verifier().verified(signed(signal="\ud83d"), "\ud83d", QUEUE) == ENCODED


def test_an_encrypted_body_belongs_to_its_header() -> None:
    """Even a signing key does not help to pair a body with another header."""
    first, second = signed(encrypt=True), signed(encrypt=True, at_s=NOW_S + 1)
    swapped = first[:BODY_AT] + second[BODY_AT:]
    signer = Signer(RING, SIGNAL, (QUEUE,), encrypt=True)
    state = signer._prepared()
    state.update(swapped[28:])
    forged = swapped[:12] + state.digest() + swapped[28:]
    with pytest.raises(SignatureRejected, match="does not fit the envelope's header"):
        verifier().verified(forged, SIGNAL, QUEUE)


def test_equal_envelopes_are_encrypted_differently() -> None:
    """A nonce is never used twice."""
    assert signed(encrypt=True)[BODY_AT + 16 :] != signed(encrypt=True)[BODY_AT + 16 :]


def test_tools_without_keys_read_what_is_only_signed() -> None:
    """A signature hides nothing; what is encrypted says what is missing."""
    assert decode(signed()) == ENVELOPE
    with pytest.raises(PayloadEncrypted, match="LBACK_RELAY_KEYS"):
        decode(signed(encrypt=True))
    with pytest.raises(MalformedEnvelope, match="ends within its header"):
        decode(signed()[:30])


def test_the_header_can_be_read_without_keys() -> None:
    """By whoever looks at dead letters."""
    header = signed_header(signed(delivery=(QUEUE, BROADCAST), encrypt=True))
    assert header == (NEW.id, True, int(NOW_S * 1000), (QUEUE, BROADCAST))
    assert signed_header(ENCODED) is None
    assert signed_header(signed()[:20]) is None


@both
def test_an_operator_signs_anew_what_is_too_old(encrypt: bool) -> None:
    """By the newest key, with a new age; the envelope itself stays as it is."""
    old = signed(KeyRing([OLD]), at_s=NOW_S - 1000, encrypt=encrypt)
    anew = signed_anew(old, SIGNAL, RING)
    header = signed_header(anew)
    assert header is not None
    assert (header.key_id, header.encrypted) == (NEW.id, encrypt)
    assert Verifier(RING, max_age_s=600).verified(anew, SIGNAL, QUEUE) == ENCODED


def test_what_can_not_be_verified_is_not_signed_anew() -> None:
    """Else a retry would launder it."""
    for encoded in (ENCODED, signed(delivery=(BROADCAST,)), signed(KeyRing([Key(b"x" * 32)]))):
        with pytest.raises(SignatureRejected):
            signed_anew(encoded, SIGNAL, RING)


def a_config(**options: Any) -> RelayConfig:
    return RelayConfig(signals={SIGNAL: options.pop("signal", {})}, **options)


def test_a_config_without_keys_signs_nothing() -> None:
    """As before there were keys."""
    assert signer_of(a_config(), SIGNAL) is None


def test_encryption_without_keys_is_refused_with_the_remedy() -> None:
    """Nothing is sent in clear by mistake."""
    with pytest.raises(ConfigError, match=r"lback-relay keys new.*LBACK_RELAY_KEYS"):
        signer_of(a_config(signal={"encrypt": True}), SIGNAL)


def test_encryption_without_its_package_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the start, both where it is sent and where it is read."""
    encrypted = signed(encrypt=True)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(ConfigError, match=r"lback-relay\[crypto\]"):
        signer_of(a_config(signal={"encrypt": True}, keys=RING), SIGNAL)
    with pytest.raises(PayloadEncrypted, match=r"lback-relay\[crypto\]"):
        verifier().verified(encrypted, SIGNAL, QUEUE)
    assert signer_of(a_config(keys=RING), SIGNAL) is not None
