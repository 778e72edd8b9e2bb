"""Dead letters of signed envelopes: what is shown of them, and what a retry does to them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import cast

import pytest
from support.letters import NOW_MS, a_letter
from support.runs import an_envelope

from lback_relay.broker.base import Broker, DeadLetterRecord
from lback_relay.cli.dead_change import Retrying
from lback_relay.cli.dead_show import as_json, as_text
from lback_relay.codec import encode
from lback_relay.codec_header import signed_header
from lback_relay.keyring import KeyRing, new_key
from lback_relay.signing import Signer, Verifier

SIGNAL = "user_registered"
RING = KeyRing([new_key(), new_key()])
OTHER = KeyRing([new_key()])
PLAIN = an_envelope(SIGNAL, {"email": "ada@example.org"})
ENCODED = encode(PLAIN)


def signed(ring: KeyRing = RING, *, encrypt: bool = False, signal: str = SIGNAL) -> bytes:
    signer = Signer(ring, signal, ("queue",), encrypt=encrypt, now=lambda: 1_700_000_000)
    return signer.signed(ENCODED, PLAIN.id)


def shown(encoded: bytes, keys: KeyRing | None, *, values: bool = True) -> str:
    letter = a_letter(encoded=encoded, reason="unverified", handler="")
    text = "\n".join(as_text(letter, NOW_MS, values=values, keys=keys))
    return text + json.dumps(as_json(letter, values=values, keys=keys))


@pytest.mark.parametrize("values", [False, True])
def test_nothing_of_an_encrypted_letter_is_shown_without_keys(values: bool) -> None:
    """Its header is known, and named as not verified."""
    text = shown(signed(encrypt=True), None, values=values)
    assert "ada@example.org" not in text
    assert f"by the key {RING.ids[0]} at 2023-11-14T22:13:20.000Z, encrypted; not verified" in text
    assert "the envelope is encrypted, and its keys are not here" in text


def test_an_encrypted_letter_is_shown_as_any_other_with_keys() -> None:
    """Values only when asked for."""
    encoded = signed(encrypt=True)
    assert "ada@example.org" in shown(encoded, RING)
    text = shown(encoded, RING, values=False)
    assert "ada@example.org" not in text
    assert "15 characters" in text
    assert "encrypted; right" in text


def test_an_encrypted_letter_of_another_ring_stays_closed() -> None:
    """The error tells which key it is."""
    text = shown(signed(OTHER, encrypt=True), RING)
    assert "ada@example.org" not in text
    assert f"signed by the key {OTHER.ids[0]}, which is not in" in text


def test_a_signature_that_is_wrong_is_said_to_be() -> None:
    """The content is shown for what it is: somebody's."""
    assert "not right: the signature does not fit" in shown(signed(signal="user_deleted"), RING)
    assert "ada@example.org" in shown(signed(signal="user_deleted"), RING)
    assert '"signature": "none"' in shown(ENCODED, RING)
    assert '"signature": ""' in shown(ENCODED, None)
    assert "signature " not in "\n".join(as_text(a_letter(), NOW_MS, values=False))


def retried(letter: DeadLetterRecord, change: Retrying) -> bytes:
    """Return the envelope that a retry hands to the broker."""
    assert change.refusal(letter) is None
    given: list[DeadLetterRecord] = []

    class Taking:
        def retry_dead_letters(
            self, _signal: str, _group: str, letters: Sequence[DeadLetterRecord]
        ) -> int:
            given.extend(letters)
            return len(letters)

    change.apply(cast(Broker, Taking()), SIGNAL, "mailers", [letter])
    (sent,) = given
    assert sent.entry_id == letter.entry_id
    return sent.encoded


@pytest.mark.parametrize("encrypt", [False, True])
def test_a_retry_with_keys_makes_a_letter_young_again(encrypt: bool) -> None:
    """Signed by the newest key, and of the same content."""
    letter = a_letter(encoded=signed(KeyRing([*RING][1:]), encrypt=encrypt))
    sent = retried(letter, Retrying(RING))
    header = signed_header(sent)
    assert header is not None
    assert (header.key_id, header.encrypted) == (RING.ids[0], encrypt)
    assert Verifier(RING, max_age_s=3600).verified(sent, SIGNAL, "queue") == ENCODED


@pytest.mark.parametrize("encoded", [ENCODED, signed(), signed(encrypt=True)])
def test_a_retry_without_keys_sends_the_bytes_as_they_are(encoded: bytes) -> None:
    """The workers judge them, and have the keys."""
    assert retried(a_letter(encoded=encoded), Retrying()) == encoded


@pytest.mark.parametrize("encoded", [ENCODED, signed(OTHER), signed(signal="user_deleted")])
def test_what_is_not_verified_is_retried_only_when_vouched_for(encoded: bytes) -> None:
    """A retry must not launder a forgery by accident."""
    letter = a_letter(encoded=encoded, reason="unverified", handler="")
    why = Retrying(RING).refusal(letter)
    assert why is not None
    assert "--vouch" in why
    sent = retried(letter, Retrying(RING, vouch=True))
    assert Verifier(RING, max_age_s=3600).verified(sent, SIGNAL, "queue") == ENCODED


@pytest.mark.parametrize(
    "encoded",
    [b"no envelope", signed(OTHER, encrypt=True), encode(an_envelope("user_deleted"))],
)
def test_what_nobody_can_vouch_for_stays(encoded: bytes) -> None:
    """No envelope, one that can't be read, and one of another signal."""
    letter = a_letter(encoded=encoded, reason="unverified", handler="")
    why = Retrying(RING, vouch=True).refusal(letter)
    assert why is not None
    assert why.startswith("its envelope can't be read: ")
    assert "--vouch" not in why
