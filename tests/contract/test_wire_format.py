"""The bytes of envelopes held to ``vectors/`` and to ``docs/wire-format.md``.

The vectors are frozen: other versions and other languages read and write these bytes. Where a test
here fails, the code is wrong. A new extension type gets a new vector; none is ever rewritten.

:func:`neutral` reads envelopes by what the document says, with nothing but msgpack: it shows that
the document is enough.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import msgpack
import pytest
from contract.wire_examples import EXAMPLES, KEY, NONCE, SIGNED, SIGNED_AT_S
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from lback_relay import codec_extensions
from lback_relay.codec import decode, encode
from lback_relay.errors import MalformedEnvelope, UnsupportedVersion
from lback_relay.keyring import KeyRing
from lback_relay.signing import Signer, Verifier

VECTORS = Path(__file__).parent / "vectors"
DOCUMENT = Path(__file__).parents[2] / "docs" / "wire-format.md"
ROOT_FIELDS = ["id", "signal", "sender", "payload", "sent_at", "delivery", "origin", "named"]
# Code to (name, what the body is), as in the document's table.
TYPES = {
    1: ("big integer", "integer"),
    2: ("datetime", "text"),
    3: ("date", "text"),
    4: ("time", "text"),
    5: ("timedelta", "text"),
    6: ("decimal", "text"),
    7: ("uuid", "bytes"),
    8: ("path", "text"),
    16: ("tuple", "array"),
    17: ("set", "array"),
    18: ("frozenset", "array"),
    19: ("map", "array"),
    32: ("redacted", "text"),
    33: ("omitted", "array"),
    48: ("sender", "text"),
    49: ("entity", "array"),
    50: ("request", "array"),
    51: ("response", "array"),
    52: ("exception", "array"),
    53: ("reference", "array"),
    54: ("object", "array"),
    55: ("enum", "array"),
    56: ("integer enum", "array"),
    57: ("text enum", "array"),
}


def neutral(encoded: bytes) -> Any:
    """Read an envelope as a program in another language would, into JSON's types."""
    assert encoded[:2] == b"LR", "no envelope"
    assert encoded[2:4] == b"\x01\x00", "another version, or features that are not known"
    fields = unpacked(encoded[4:])
    return dict(zip(ROOT_FIELDS, map(neutral_value, fields), strict=True))


def unpacked(data: bytes) -> Any:
    return msgpack.unpackb(data, unicode_errors="surrogatepass")


def neutral_value(value: Any) -> Any:
    if isinstance(value, msgpack.ExtType):
        name, form = TYPES.get(value.code, ("unknown", "bytes"))
        return {"type": name, "code": value.code, "body": neutral_body(form, value.data)}
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else {"type": "integer", "body": str(value)}
    if isinstance(value, float | bytes):
        body = value.hex() if isinstance(value, bytes) else repr(value)
        return {"type": type(value).__name__, "body": body}
    if isinstance(value, list):
        return [neutral_value(item) for item in value]
    assert isinstance(value, dict)
    entries = {key: neutral_value(item) for key, item in value.items()}
    return {"type": "map of text", "body": entries}


def neutral_body(form: str, data: bytes) -> Any:
    if form == "text":
        return data.decode("utf-8", "surrogatepass")
    if form == "integer":
        return str(int.from_bytes(data, "big", signed=True))
    return neutral_value(unpacked(data)) if form == "array" else data.hex()


def vector(name: str) -> bytes:
    return bytes.fromhex((VECTORS / f"{name}.msgpack.hex").read_text(encoding="ascii"))


def described(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="ascii"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_written_is_the_vector(name: str) -> None:
    """Other readers rely on these bytes, to the last one."""
    assert encode(EXAMPLES[name][1]).hex() == vector(name).hex()


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_read_from_the_vector_is_the_envelope(name: str) -> None:
    """Envelopes that older versions wrote are still in streams, spools and dead letters."""
    received = decode(vector(name))
    assert received == EXAMPLES[name][1]
    assert encode(received) == vector(name)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_document_is_enough_to_read_the_vector(name: str) -> None:
    """A reader that knows msgpack and the document alone finds what the JSON says."""
    assert neutral(vector(name)) == described(name)["envelope"]
    assert described(name)["description"] == EXAMPLES[name][0]


def neutral_unsigned(encoded: bytes, signal: str, mode: str, secret: bytes) -> bytes:
    """Verify and decrypt as the document says, in other words than the code does."""

    def derived(person: bytes, key: bytes = secret, **more: Any) -> bytes:
        return hashlib.blake2b(key=key, person=person, digest_size=32, **more).digest()

    assert encoded[2:4] in (b"\x01\x02", b"\x01\x06")
    key_id = base64.b32encode(derived(b"lback-relay id")[:5]).lower()
    assert encoded[4:12] == key_id
    name = len(signal.encode()).to_bytes(4, "big") + signal.encode()
    signature = hashlib.blake2b(
        name + encoded[:12] + encoded[28:],
        key=derived(b"lback-relay sign"),
        person=b"lback-relay seal",
        digest_size=16,
    )
    assert signature.digest() == encoded[12:28]
    assert encoded[36] & {"queue": 1, "broadcast": 2}[mode]
    body = encoded[37:]
    if encoded[3] == 6:
        key = derived(b"lback-relay gcm", derived(b"lback-relay encr"), salt=encoded[37:53])
        about = name + encoded[:12] + encoded[28:53]
        body = AESGCM(key).decrypt(encoded[53:65], encoded[65:], about)
    return b"LR\x01\x00" + body


@pytest.mark.parametrize("name", SIGNED)
def test_what_is_signed_is_the_vector(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given the same time and the same nonce."""
    _, example, delivery, encrypt = SIGNED[name]
    envelope = EXAMPLES[example][1]
    monkeypatch.setattr("lback_relay.encryption.new_nonce", lambda: NONCE)
    signer = Signer(
        KeyRing.parse(KEY), envelope.signal, delivery, encrypt=encrypt, now=lambda: SIGNED_AT_S
    )
    assert signer.signed(encode(envelope), envelope.id).hex() == vector(name).hex()


@pytest.mark.parametrize("name", SIGNED)
def test_the_signed_vector_is_verified_and_is_the_envelope(name: str) -> None:
    """By the code, and by a reader that knows the document alone."""
    description, example, delivery, _ = SIGNED[name]
    envelope = EXAMPLES[example][1]
    told = described(name)
    verifier = Verifier(KeyRing.parse(told["key"]), max_age_s=None)
    secret = base64.urlsafe_b64decode(told["key"].partition(":")[2] + "=")
    for mode in delivery:
        plain = verifier.verified(vector(name), told["signal"], mode)
        assert decode(plain) == envelope
        assert neutral_unsigned(vector(name), told["signal"], mode, secret) == plain
        assert neutral(plain) == described(example)["envelope"]
    assert (told["description"], told["envelope"]) == (description, example)
    assert told["delivery"] == list(delivery)


REFUSED = {
    "refused_version": UnsupportedVersion,
    "refused_flags": UnsupportedVersion,
    "refused_truncated": MalformedEnvelope,
    "refused_too_deep": MalformedEnvelope,
    "refused_reserved_code": MalformedEnvelope,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_must_be_refused_is_refused(name: str) -> None:
    """Readers agree also on what they do not read."""
    with pytest.raises(REFUSED[name]):
        decode(vector(name))
    assert described(name)["error"] == REFUSED[name].__name__


def test_every_vector_is_tested_and_every_extension_type_has_one() -> None:
    """A vector that nobody reads, or a type without one, would rot."""
    files = {path.name.split(".")[0] for path in VECTORS.iterdir()}
    assert files == EXAMPLES.keys() | SIGNED.keys() | REFUSED.keys()
    used = {
        int(code)
        for name in EXAMPLES
        for code in re.findall(
            r'"code": (\d+)', (VECTORS / f"{name}.json").read_text(encoding="ascii")
        )
    }
    assert TYPES.keys() <= used


def test_the_document_lists_every_extension_type_limit_and_vector() -> None:
    """Code and document name the same codes and the same limits."""
    text = DOCUMENT.read_text(encoding="utf-8")
    values = text.partition("## Values")[2]
    listed = {
        int(code): (name.strip(), form)
        for code, name, form in re.findall(
            r"^\| (\d+) \| ([a-zA-Z ]+?) \| (\w+)[: |]", values, re.MULTILINE
        )
    }
    assert listed == TYPES
    codes = {*codec_extensions.LEAF_READERS, *codec_extensions.STATEFUL.values(), 16, 17, 18, 19}
    assert codes == set(TYPES)
    assert f"{codec_extensions.MAX_DEPTH} levels" in text
    assert f"{codec_extensions.MAX_ENVELOPE_BYTES:,} bytes" in text
    for name in (*EXAMPLES, *SIGNED, *REFUSED):
        assert f"`{name}`" in text, name
