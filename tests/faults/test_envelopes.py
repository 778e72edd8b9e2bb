"""Envelopes that can't be read: cut short, of wrong types, too deep, huge, unknown, random."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import msgpack
import pytest
from faults.support.account import key_of
from faults.support.ledger import PUBLISHED, STARTED
from faults.support.names import SIGNAL
from faults.support.scene import Scene
from support.runs import an_envelope

from lback_relay.codec import decode, encode
from lback_relay.errors import EnvelopeError

pytestmark = [pytest.mark.broker, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

FUZZED = 300
VECTORS = Path(__file__).resolve().parents[1] / "contract" / "vectors"
"""Among them: an unknown version, reserved codes and flags."""


def nested(depth: int) -> bytes:
    """Return lists within lists."""
    return b"\x91" * depth + b"\xc0"


def mutated(encoded: bytes, random: Random) -> bytes:
    """Return the bytes with some of them changed, removed or doubled."""
    changed = bytearray(encoded)
    for _ in range(random.randrange(1, 8)):
        at = random.randrange(len(changed))
        match random.randrange(3):
            case 0:
                changed[at] = random.randrange(256)
            case 1:
                del changed[at : at + random.randrange(1, 16)]
            case _:
                changed[at:at] = changed[at : at + random.randrange(1, 16)]
    return bytes(changed)


def unreadable(random: Random) -> list[bytes]:
    """Return envelopes that the codec refuses."""
    whole = encode(an_envelope(SIGNAL, {"item": "whole"}))
    made = [
        b"",
        b"\x00",
        whole[: len(whole) // 2],
        whole[:-1],
        whole + b"\x00",
        msgpack.packb({"not": "an envelope"}),
        msgpack.packb([1, 2, 3]),
        nested(100_000),
        b"\xff" + whole[1:],
        bytes(64 * 1_048_576),
        *(bytes.fromhex(path.read_text()) for path in sorted(VECTORS.glob("refused_*.hex"))),
    ]
    made += [mutated(whole, random) for _ in range(FUZZED)]
    return [encoded for encoded in made if not is_readable(encoded)]


def is_readable(encoded: bytes) -> bool:
    """Tell whether the codec takes it."""
    try:
        decode(encoded)
    except EnvelopeError:
        return False
    return True


@pytest.mark.faults_quick
@pytest.mark.row(18, "malformed envelopes")
def test_what_cannot_be_read_is_put_aside_as_it_came(scene: Scene) -> None:
    """Each is a dead letter with its bytes; no handler is called, and the worker goes on."""
    scene.serve()
    worker = scene.worker()
    made = unreadable(scene.random)
    assert len(made) > FUZZED // 2
    client, events = scene.server.client, scene.keys.events(SIGNAL)
    before = scene.send(20)
    assert scene.relay().flush()
    for encoded in made:
        client.xadd(events, {"e": encoded})
    after = scene.send(20)
    scene.wait_finished([*before, *after])
    scene.wait_settled()
    letters = scene.shelf.dead_letters()
    assert Counter(encoded for encoded, _ in letters) == Counter(made)
    assert {(letter.reason, letter.handler) for _, letter in letters} == {("malformed", "")}
    assert {line.key for line in scene.ledger.of(STARTED)} == {*before, *after}
    assert all(key_of(encoded) is None for encoded, _ in letters)
    assert len(scene.ledger.of(PUBLISHED)) == len(before) + len(after)
    assert not worker.ended
    scene.take_account(duplicates=0)
