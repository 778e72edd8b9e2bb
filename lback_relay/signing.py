"""Signing what is sent, and verifying what is taken, before anything of it is decoded.

A signature is keyed BLAKE2b over the signal's name, the header and the body, so over the delivery
modes and the time of signing, too. A verifier says where it found the bytes, in the stream of which
signal or on its channel: a signed envelope found elsewhere is refused as an altered one is.

Works on the bytes that :mod:`lback_relay.codec` made, and gives back such bytes; knows no payload
and no broker. Times are Unix milliseconds by this machine's clock, ages are seconds.
"""

from __future__ import annotations

import re
import struct
import threading
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from lback_relay import encryption
from lback_relay.codec import decode
from lback_relay.codec_extensions import MAX_ENVELOPE_BYTES
from lback_relay.codec_header import (
    BODY_AT,
    CIPHER_AT,
    COVERED_AT,
    DELIVERY_BITS,
    ENCRYPTED_HEAD,
    KEY_ID_BYTES,
    NONCE_AT,
    PLAIN_HEAD,
    SIGNATURE_AT,
    SIGNATURE_BYTES,
    SIGNED_HEAD,
    STAMP,
    delivery_byte,
    refuse_header,
    signed_header,
    without_signature,
)
from lback_relay.envelope import QUEUE
from lback_relay.errors import ConfigError, EnvelopeError, MalformedEnvelope, SignatureRejected
from lback_relay.keyring import ID_LENGTH, VARIABLE, Key, KeyRing

if TYPE_CHECKING:
    from lback_relay.config import RelayConfig

_PURPOSE: Final = b"lback-relay seal"
_LENGTH: Final = struct.Struct(">I")
_MAX_BYTES: Final = MAX_ENVELOPE_BYTES + CIPHER_AT + encryption.TAG_BYTES
"""Nothing larger is decoded, so that it needs no hash."""
_ENCRYPTED_FLAGS: Final = ENCRYPTED_HEAD[3]
_unpack_header: Final = struct.Struct(f">{SIGNATURE_AT}s{SIGNATURE_BYTES}sQB").unpack_from
"""What stands before the signature, the signature, signed at, delivery."""
_pack_stamp: Final = STAMP.pack
_ALTERED: Final = (
    "the signature does not fit: the envelope was altered, or signed for another signal"
)
_ID: Final = re.compile(rf"[a-z2-7]{{{ID_LENGTH}}}")


class Signer:
    """Signs the envelopes of one signal, and encrypts them if told. For any thread.

    Args:
        ring: its first key signs.
        signal: the signal's name.
        delivery: the modes it is published by.
        encrypt: whether the body is encrypted.
        now: returns Unix seconds.

    Raises:
        ConfigError: it should encrypt, and the package for it is missing.
    """

    def __init__(
        self,
        ring: KeyRing,
        signal: str,
        delivery: Sequence[str],
        *,
        encrypt: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        if encrypt:
            encryption.check_available()
        key = ring.signing
        self._head = _head(key, encrypt=encrypt)
        self._prepared = _state(key, signal, self._head).copy
        self._delivery = delivery_byte(delivery)
        self._about = _named(signal) + self._head
        self._subkey = key.encrypting if encrypt else None
        self._now = now

    def signed(self, encoded: bytes, envelope_id: str) -> bytes:
        """Return the bytes of an unsigned envelope, signed.

        Args:
            encoded: as :func:`lback_relay.codec.encode` made it.
            envelope_id: the id of the envelope that it is.
        """
        covered = _pack_stamp(int(self._now() * 1000), self._delivery)
        if self._subkey is None:
            covered += encoded[4:]
        else:
            covered += self._encrypted(covered, encoded[4:], envelope_id)
        state = self._prepared()
        state.update(covered)
        digest: bytes = state.digest()
        return self._head + digest + covered

    def _encrypted(self, stamp: bytes, body: bytes, envelope_id: str) -> bytes:
        unique, nonce = UUID(envelope_id).bytes, encryption.new_nonce()
        about = self._about + stamp + unique
        cipher = encryption.encrypted(self._subkey or b"", unique, nonce, body, about)
        return unique + nonce + cipher


class Verifier:
    """Verifies signed envelopes and undoes the signing. For any thread.

    Args:
        ring: any of its keys may have signed.
        max_age_s: how long ago an envelope may have been signed; None for any age.
        now: returns Unix seconds.
    """

    def __init__(
        self,
        ring: KeyRing,
        *,
        max_age_s: float | None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.ring = ring
        self.rejected = 0
        """How many were refused."""
        self._max_age_ms = float("inf") if max_age_s is None else max_age_s * 1000
        self._now = now
        # Signal -> the first bytes of an envelope that can be verified -> its key, and what makes
        # the hash of all that comes before the covered bytes.
        self._known: dict[str, dict[bytes, tuple[Key, Callable[[], Any]]]] = {}
        self._lock = threading.Lock()

    def verified(self, encoded: bytes, signal: str, mode: str) -> bytes:
        """Return the same envelope unsigned and in clear, if it was signed for this place.

        Args and errors: as of :meth:`body`.
        """
        return PLAIN_HEAD + self.body(encoded, signal, mode)

    def body(self, encoded: bytes, signal: str, mode: str) -> bytes:
        """Return an envelope's body in clear, if it was signed for this place.

        Args:
            encoded: what was taken.
            signal: the signal of the stream or channel that it was taken from.
            mode: how: "queue" or "broadcast".

        Raises:
            SignatureRejected: it is not signed, not by a key of the ring, altered, moved from
                another place, or too old.
            PayloadEncrypted: the package that decrypts is missing.
            MalformedEnvelope: the bytes are no envelope.
            UnsupportedVersion: a newer version wrote them.
        """
        # Once for each delivery: every name that is looked up, and every call, is felt.
        if not BODY_AT <= len(encoded) <= _MAX_BYTES:
            raise self._odd_size(encoded, signal)
        head, signature, signed_at_ms, bits = _unpack_header(encoded)
        try:
            key, prepared = self._known[signal][head]
        except KeyError:
            key, prepared = self._looked_up(encoded, signal)
        state = prepared()
        state.update(encoded[COVERED_AT:])
        if not compare_digest(state.digest(), signature):
            raise self._rejection(_ALTERED)
        if not bits & DELIVERY_BITS[mode]:
            raise self._rejection(f"the envelope was not signed for delivery by {mode}")
        if signed_at_ms < self._now() * 1000 - self._max_age_ms:
            raise self._rejection(
                f"the envelope was signed {self._now() - signed_at_ms / 1000:,.0f} s ago, longer "
                f"than max_age_s ({self._max_age_ms / 1000:,.0f} s)"
            )
        if encoded[3] == _ENCRYPTED_FLAGS:
            return self._decrypted(key, encoded, signal)
        return encoded[BODY_AT:]

    def _odd_size(self, encoded: bytes, signal: str) -> EnvelopeError:
        """Return why an envelope is refused that has too few bytes for a header, or too many."""
        self._looked_up(encoded, signal)  # says so where it is not signed by our keys
        if len(encoded) > _MAX_BYTES:
            return MalformedEnvelope(f"the signed envelope takes {len(encoded):,} bytes: too many")
        return self._rejection(_ALTERED)

    def _looked_up(self, encoded: bytes, signal: str) -> tuple[Key, Callable[[], Any]]:
        """Return the key of an envelope and the hash that its signature begins with."""
        known = self._known.get(signal)
        if known is None:
            known = self._known[signal] = {
                head: (key, _state(key, signal, head).copy)
                for key in self.ring
                for head in (_head(key, encrypt=False), _head(key, encrypt=True))
            }
        found = known.get(encoded[:SIGNATURE_AT])
        if found is not None:
            return found
        head = encoded[:4]
        if head == PLAIN_HEAD:
            raise self._rejection(
                "the envelope is not signed, and this process runs signed ones only"
            )
        if head not in (SIGNED_HEAD, ENCRYPTED_HEAD):
            refuse_header(encoded)
        shown = encoded[4:SIGNATURE_AT].decode("ascii", "replace")
        named = shown if _ID.fullmatch(shown) else "of no valid id"
        raise self._rejection(
            f"the envelope is signed by the key {named}, which is not in this process's "
            f"{VARIABLE}: it is retired, or of another ring"
        )

    def _decrypted(self, key: Key, encoded: bytes, signal: str) -> bytes:
        unique, nonce = encoded[BODY_AT:NONCE_AT], encoded[NONCE_AT:CIPHER_AT]
        about = _named(signal) + encoded[:SIGNATURE_AT] + encoded[COVERED_AT:NONCE_AT]
        body = encryption.decrypted(key.encrypting, unique, nonce, encoded[CIPHER_AT:], about)
        if body is None:
            raise self._rejection("the encrypted body does not fit the envelope's header")
        return body

    def _rejection(self, why: str) -> SignatureRejected:
        with self._lock:
            self.rejected += 1
        return SignatureRejected(why)


def signer_of(config: RelayConfig, signal: str) -> Signer | None:
    """Return what signs a signal's envelopes; None when the config has no keys.

    Raises:
        ConfigError: the signal is to be encrypted, and there are no keys or no package for it.
    """
    options = config.signals[signal]
    if config.keys is not None:
        return Signer(config.keys, signal, options.delivery, encrypt=options.encrypt)
    if options.encrypt:
        problem = (
            f"signals.{signal}.encrypt: needs keys; make one with 'lback-relay keys new' and "
            f"put it into the environment as {VARIABLE}"
        )
        raise ConfigError([problem])
    return None


def signed_anew(encoded: bytes, signal: str, ring: KeyRing) -> bytes:
    """Return a signed envelope of the queue, signed anew, as if it had been sent now.

    Args:
        encoded: the envelope, of any age.
        signal: its signal.
        ring: its first key signs.

    Raises:
        EnvelopeError: as :meth:`Verifier.verified`: what is not verified is not vouched for.
    """
    plain = Verifier(ring, max_age_s=None).verified(encoded, signal, QUEUE)
    header = signed_header(encoded)
    if header is None:  # never: it was verified
        raise SignatureRejected("the envelope is not signed")
    envelope_id = str(UUID(bytes=encoded[BODY_AT:NONCE_AT])) if header.encrypted else ""
    return Signer(ring, signal, header.delivery, encrypt=header.encrypted).signed(
        plain, envelope_id
    )


def vouched_for(encoded: bytes, signal: str, ring: KeyRing) -> bytes:
    """Return an envelope of the queue, signed, whether or not it was signed before, and by whom.

    Raises:
        EnvelopeError: it is no envelope of this signal, or it is encrypted and not verified.
    """
    envelope = decode(encoded)
    if envelope.signal != signal:
        raise MalformedEnvelope("the envelope is one of another signal")
    plain = without_signature(encoded)
    return Signer(ring, signal, (QUEUE,)).signed(plain, envelope.id)


def _head(key: Key, *, encrypt: bool) -> bytes:
    """Return the bytes before the signature."""
    return (ENCRYPTED_HEAD if encrypt else SIGNED_HEAD) + key.id.encode().ljust(KEY_ID_BYTES, b"\0")


def _state(key: Key, signal: str, head: bytes) -> Any:
    """Return the hash of all that comes before the covered bytes; a copy of it goes on."""
    state = blake2b(key=key.signing, person=_PURPOSE, digest_size=SIGNATURE_BYTES)
    state.update(_named(signal) + head)
    return state


def _named(signal: str) -> bytes:
    """Return the signal's name, so that no two names and heads make the same bytes."""
    name = signal.encode("utf-8", "surrogatepass")
    return _LENGTH.pack(len(name)) + name
