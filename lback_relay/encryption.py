"""Encrypted bodies: AES-256-GCM of the package cryptography, which is imported when first needed.

Each envelope has a key of its own, derived from the ring's subkey and the envelope's id; the nonce
is random. So no number of envelopes brings two under one key and one nonce, which would break GCM.
Knows no wire format.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from typing import Final

from lback_relay.codec_header import NONCE_BYTES
from lback_relay.errors import ConfigError, PayloadEncrypted

TAG_BYTES: Final = 16
_PURPOSE: Final = b"lback-relay gcm"
_MISSING: Final = (
    "envelopes are encrypted, and the package cryptography is missing: install "
    "'lback-relay[crypto]'"
)


def check_available() -> None:
    """See that the package is there.

    Raises:
        ConfigError: it is not.
    """
    try:
        import cryptography.hazmat.primitives.ciphers.aead  # noqa: F401
    except ImportError:
        raise ConfigError([_MISSING], source="encryption") from None


def new_nonce() -> bytes:
    """Return a random nonce."""
    return os.urandom(NONCE_BYTES)


def encrypted(subkey: bytes, envelope_id: bytes, nonce: bytes, body: bytes, about: bytes) -> bytes:
    """Return the encrypted body and its tag.

    Args:
        subkey: the key ring's.
        envelope_id: 16 bytes.
        nonce: 12 bytes, never used before with this id.
        body: what to encrypt.
        about: is authenticated and not encrypted.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(_key(subkey, envelope_id)).encrypt(nonce, body, about)


def decrypted(
    subkey: bytes, envelope_id: bytes, nonce: bytes, cipher: bytes, about: bytes
) -> bytes | None:
    """Undo :func:`encrypted`; None when anything was altered.

    Raises:
        PayloadEncrypted: the package is missing.
    """
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise PayloadEncrypted(_MISSING) from None
    try:
        return AESGCM(_key(subkey, envelope_id)).decrypt(nonce, cipher, about)
    except (InvalidTag, ValueError):
        return None


def _key(subkey: bytes, envelope_id: bytes) -> bytes:
    return blake2b(key=subkey, salt=envelope_id, person=_PURPOSE, digest_size=32).digest()
