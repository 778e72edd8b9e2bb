"""The keys that sign, verify and encrypt: :class:`KeyRing`, read from ``LBACK_RELAY_KEYS``.

A ring holds one or several keys, each ``ID:SECRET``, separated by commas or white space. The first
one signs; all of them verify. Whoever has a ring can make envelopes that workers run, so that it
comes from the environment alone, and nothing here ever shows a secret: neither ``repr`` nor an
error. The id is computed from the secret, so that a key that was copied wrong is found at start.

What signs and what encrypts are two subkeys of each secret. Knows no envelope.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, Final

from lback_relay.errors import ConfigError

VARIABLE: Final = "LBACK_RELAY_KEYS"
SECRET_BYTES: Final = 32
ID_LENGTH: Final = 8
MAX_KEYS: Final = 16

_ID_PURPOSE: Final = b"lback-relay id"
_SIGN_PURPOSE: Final = b"lback-relay sign"
_ENCRYPT_PURPOSE: Final = b"lback-relay encr"
_FORM: Final = re.compile(r"([a-z2-7]{8}):([A-Za-z0-9_-]{43})")


class Key:
    """One key of a ring. Its ``repr`` shows the id alone.

    Args:
        secret: 32 random bytes.

    Attributes:
        id: eight characters, computed from the secret.
        signing: the subkey that signs, 32 bytes.
        encrypting: the subkey that encrypts, 32 bytes.
    """

    __slots__ = ("_secret", "encrypting", "id", "signing")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"a secret has {SECRET_BYTES} bytes")
        self._secret = secret
        self.id = base64.b32encode(_derived(secret, _ID_PURPOSE)[:5]).decode().lower()
        self.signing = _derived(secret, _SIGN_PURPOSE)
        self.encrypting = _derived(secret, _ENCRYPT_PURPOSE)

    def text(self) -> str:
        """Return ``ID:SECRET``, for the environment and for nothing else."""
        return f"{self.id}:{base64.urlsafe_b64encode(self._secret).decode().rstrip('=')}"

    def __repr__(self) -> str:
        return f"Key({self.id})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Key):
            return NotImplemented
        return secrets.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> tuple[Any, ...]:
        # As config is: multiprocessing's spawn hands it to the child.
        return Key, (self._secret,)


class KeyRing:
    """The keys of one process, read-only.

    Args:
        keys: at least one; the first one signs.

    Raises:
        ConfigError: there is none, a key twice, or too many.
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: Sequence[Key]) -> None:
        problem = _problem_of(keys)
        if problem:
            raise ConfigError([problem], source=VARIABLE)
        self._keys = tuple(keys)

    @classmethod
    def parse(cls, text: str) -> KeyRing:
        """Read a ring from the environment variable's text.

        Raises:
            ConfigError: it is none; the sentence tells which key by its place, and shows nothing.
        """
        keys = []
        for number, word in enumerate(re.split(r"[\s,]+", text.strip()), start=1):
            key = _parsed(word)
            if key is None:
                problem = (
                    f"key {number} is no key, or was not copied whole; "
                    "'lback-relay keys new' makes one"
                )
                raise ConfigError([problem], source=VARIABLE)
            keys.append(key)
        return cls(keys)

    @property
    def signing(self) -> Key:
        """The key that signs."""
        return self._keys[0]

    @property
    def ids(self) -> tuple[str, ...]:
        """The keys' ids, the signing one first."""
        return tuple(key.id for key in self._keys)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self.ids)})"

    def __eq__(self, other: object) -> bool:
        return self._keys == other._keys if isinstance(other, KeyRing) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.ids)


def new_key() -> Key:
    """Return a new key, from the system's random numbers."""
    return Key(secrets.token_bytes(SECRET_BYTES))


def check_keys(value: object) -> tuple[Any, list[str]]:
    """Check a config's ring: a :class:`KeyRing`, its text, or None for none."""
    if value is None or isinstance(value, KeyRing):
        return value, []
    if not isinstance(value, str):
        return None, ["must be a KeyRing"]
    try:
        return KeyRing.parse(value), []
    except ConfigError as error:
        return None, list(error.problems)


def _parsed(word: str) -> Key | None:
    found = _FORM.fullmatch(word)
    if found is None:
        return None
    try:
        key = Key(base64.b64decode(found[2] + "=", altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        return None
    return key if key.text() == word else None


def _problem_of(keys: Sequence[Key]) -> str:
    if not keys:
        return "holds no key; 'lback-relay keys new' makes one"
    if len(keys) > MAX_KEYS:
        return f"holds {len(keys)} keys; a ring takes {MAX_KEYS}: take out those that are retired"
    if len({key.id for key in keys}) < len(keys):
        return "holds the same key twice; take one of them out"
    return ""


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return blake2b(key=secret, person=purpose, digest_size=32).digest()
