"""What stands before an envelope's body: the first four bytes, and a signed envelope's header.

Layout of a signed envelope, in bytes (``docs/wire-format.md``)::

    0  "LR", version, flags       as of every envelope
    4  8  key id                  ASCII, the rest zero
    12 16 signature               over the signal's name, bytes 0 to 11, and 28 to the end
    28 8  signed at               milliseconds since 1970, big-endian
    36 1  delivery                bits: 1 queue, 2 broadcast
    37 16 envelope's id           only if encrypted: the UUID's bytes
    53 12 nonce                   only if encrypted
       …  body                    as of every envelope; if encrypted, AES-GCM of it

Knows no key. :mod:`lback_relay.signing` signs and verifies.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple, NoReturn

from lback_relay.envelope import BROADCAST, DELIVERY_MODES, QUEUE
from lback_relay.errors import MalformedEnvelope, PayloadEncrypted, UnsupportedVersion

MAGIC: Final = b"LR"
VERSION: Final = 1
# 0x01 was never a feature, and a golden vector holds every reader to refusing it.
SIGNED: Final = 0x02
ENCRYPTED: Final = 0x04
PLAIN_HEAD: Final = MAGIC + bytes([VERSION, 0])
SIGNED_HEAD: Final = MAGIC + bytes([VERSION, SIGNED])
ENCRYPTED_HEAD: Final = MAGIC + bytes([VERSION, SIGNED | ENCRYPTED])

KEY_ID_BYTES: Final = 8
SIGNATURE_BYTES: Final = 16
ENVELOPE_ID_BYTES: Final = 16
NONCE_BYTES: Final = 12
SIGNATURE_AT: Final = 4 + KEY_ID_BYTES
COVERED_AT: Final = SIGNATURE_AT + SIGNATURE_BYTES
STAMP: Final = struct.Struct(">QB")
"""Signed at, delivery."""
BODY_AT: Final = COVERED_AT + STAMP.size
NONCE_AT: Final = BODY_AT + ENVELOPE_ID_BYTES
CIPHER_AT: Final = NONCE_AT + NONCE_BYTES

DELIVERY_BITS: Final = {QUEUE: 1, BROADCAST: 2}


class SignedHeader(NamedTuple):
    """What the header of a signed envelope says; whether it is true, the signature tells.

    Attributes:
        key_id: whose signature it is.
        encrypted: whether the body is.
        signed_at_ms: Unix time in milliseconds.
        delivery: the modes it was published by.
    """

    key_id: str
    encrypted: bool
    signed_at_ms: int
    delivery: tuple[str, ...]


def signed_header(encoded: bytes) -> SignedHeader | None:
    """Return the header of a signed envelope; None for any other bytes."""
    head = encoded[:4]
    if head not in (SIGNED_HEAD, ENCRYPTED_HEAD) or len(encoded) < BODY_AT:
        return None
    signed_at_ms, bits = STAMP.unpack_from(encoded, COVERED_AT)
    return SignedHeader(
        encoded[4:SIGNATURE_AT].rstrip(b"\0").decode("ascii", "backslashreplace"),
        head == ENCRYPTED_HEAD,
        signed_at_ms,
        tuple(mode for mode in DELIVERY_MODES if bits & DELIVERY_BITS[mode]),
    )


def delivery_byte(delivery: Sequence[str]) -> int:
    """Return the delivery modes as the header has them."""
    return sum(DELIVERY_BITS[mode] for mode in delivery)


def without_signature(encoded: bytes) -> bytes:
    """Return the same envelope unsigned, whether or not the signature is right.

    Raises:
        PayloadEncrypted: it can't be read without a key.
        MalformedEnvelope: the bytes end within the header.
    """
    if encoded[:4] == ENCRYPTED_HEAD:
        raise PayloadEncrypted(
            "the envelope is encrypted, and its keys are not here: give this process the ring "
            "that its sender has, in LBACK_RELAY_KEYS"
        )
    if encoded[:4] == SIGNED_HEAD:
        if len(encoded) < BODY_AT:
            raise MalformedEnvelope("the signed envelope ends within its header")
        return PLAIN_HEAD + encoded[BODY_AT:]
    return encoded


def refuse_header(encoded: bytes) -> NoReturn:
    """Say what is wrong with the first four bytes.

    Raises:
        MalformedEnvelope: they are no envelope's.
        UnsupportedVersion: they have a version or a flag that is not known here.
    """
    if encoded[:2] != MAGIC or len(encoded) < 4:
        raise MalformedEnvelope("the bytes are no envelope: they do not begin with 'LR'")
    version, flags = encoded[2], encoded[3]
    if version != VERSION:
        raise UnsupportedVersion(
            f"the envelope has version {version}, and this process reads version {VERSION}: "
            "upgrade lback_relay here, or keep both sides at the same version"
        )
    raise UnsupportedVersion(
        f"the envelope uses features (flags {flags:#04x}) that this process does not know: "
        "upgrade lback_relay here"
    )
