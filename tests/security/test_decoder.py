"""No envelope hurts its reader: what it may cost is known before anything is built."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import msgpack
import pytest
from security.support.attacks import AttackTable
from security.support.tokens import (
    HEAD,
    TOKENS,
    array,
    as_many,
    envelope_around,
    extension,
    nested,
    refused,
    text,
)

from lback_relay import snapshot_base
from lback_relay.codec import decode, encode
from lback_relay.codec_cost import MAX_EFFORT, MAX_TOKENS, cost_of
from lback_relay.codec_extensions import MAX_DEPTH, MAX_ENVELOPE_BYTES, UNCOUNTED_BYTES
from lback_relay.envelope import Envelope
from lback_relay.errors import EnvelopeError, UnsupportedVersion
from lback_relay.markers import Omitted, UnknownValue

Dose = Callable[[int, int], int]
MEBIBYTE = 1024 * 1024
MEMORY = "an envelope made to take memory"
TIME = "an envelope made to take time"


def outcome(encoded: bytes) -> Envelope | EnvelopeError:
    """Decode; any error but EnvelopeError fails the test."""
    try:
        return decode(encoded)
    except EnvelopeError as error:
        return error


def peak_memory(encoded: bytes) -> int:
    """Return the bytes that decoding has taken at its peak, with nothing remembered of before."""
    snapshot_base._made_type.cache_clear()
    gc.collect()
    tracemalloc.start()
    try:
        outcome(encoded)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def seconds(encoded: bytes) -> float:
    """Return the processor time of decoding: the best of several, since others run here, too."""
    best = float("inf")
    for _ in range(10):
        gc.collect()
        started = time.thread_time()
        outcome(encoded)
        best = min(best, time.thread_time() - started)
        if best < 0.05:
            break
    return best


def big_envelopes(size: int) -> list[tuple[str, bytes]]:
    """Return what costs by its size or shape, not by the number of its tokens."""
    tuples = nested(MAX_DEPTH - 4, lambda inside: extension(16, b"\x91" + inside), text(size))
    return [
        ("one text", envelope_around(text(size))),
        ("one wide character", envelope_around(text(size, "🎉"))),
        ("wide characters", envelope_around(msgpack.packb("語" * (size // 3)))),
        ("tuples in each other", envelope_around(tuples)),
        ("a long path", envelope_around(extension(8, b"p" + b"/ab" * (size // 3)))),
        ("a long number", envelope_around(extension(1, b"\x7f" * size))),
        ("long digits", envelope_around(extension(6, b"9" * size))),
        ("a long duration", envelope_around(extension(5, b"9" * size))),
        (
            "a map of many",
            envelope_around(
                b"\xdf"
                + (size // 7).to_bytes(4, "big")
                + b"".join(b"\xa5%05x\xc0" % number for number in range(size // 7))
            ),
        ),
        ("promises", envelope_around(b"\xdd\x00\x10\x00\x00" * 60 + b"\xc0" * size)),
        ("nesting", envelope_around(b"\x91" * size)),
    ]


def sized_envelopes(size: int, every: int = 1) -> list[tuple[str, bytes]]:
    """Return envelopes of this size, with every so many-th kind of token."""
    most = [(name, as_many(TOKENS[name], size)) for name in list(TOKENS)[::every]]
    return [*most, *list(refused(size))[::every], *big_envelopes(size)]


@pytest.mark.timeout(600)
def test_no_envelope_takes_more_memory_than_eight_times_its_size(
    attack_table: AttackTable, dose: Dose
) -> None:
    """Or 1 MiB: of each token as many as are let through, and more than that."""
    sizes = [UNCOUNTED_BYTES - 100, 40_000, 300_000, MEBIBYTE][: dose(2, 4)]
    over: list[tuple[int, str, int]] = []
    tried = 0
    for size in sizes:
        for name, encoded in sized_envelopes(size, dose(7, 1)):
            tried += 1
            limit = max(MEBIBYTE, 8 * len(encoded))
            peak = peak_memory(encoded)
            if peak > limit:
                # Paths intern their parts. Python's table of interned texts grows by megabytes at
                # some of them, whoever interns; what an envelope takes itself it takes again.
                peak = peak_memory(encoded)
            if peak > limit:
                over.append((size, name, peak))
    attack_table.record(MEMORY, tried, tried - len(over))
    assert not over


@pytest.mark.timeout(900)
@pytest.mark.security_full
def test_no_envelope_takes_longer_than_50_ms(attack_table: AttackTable) -> None:
    """Of any size up to the largest that is read at all; processor time."""
    over: list[tuple[int, str, float]] = []
    tried = 0
    for size in (60_000, MEBIBYTE, 4 * MEBIBYTE):
        envelopes = sized_envelopes(size) if size <= MEBIBYTE else big_envelopes(size)
        for name, encoded in envelopes:
            tried += 1
            taken = seconds(encoded)
            if taken > 0.05:
                over.append((size, name, taken))
    attack_table.record(TIME, tried, tried - len(over))
    assert not over


def test_what_is_not_built_is_not_counted_to_its_end(attack_table: AttackTable) -> None:
    """The work on an envelope is bounded by the limits, whatever its size."""
    beyond = 0
    envelopes = list(refused(MEBIBYTE // 2))
    for _, encoded in envelopes:
        cost = cost_of(encoded[4:])
        beyond += cost.problem() is None
        beyond += cost.tokens > MAX_TOKENS + 2 or cost.effort > MAX_EFFORT + 6
    attack_table.record(TIME, len(envelopes), len(envelopes) - beyond)
    assert not beyond


def test_bytes_beyond_the_largest_size_are_not_looked_at(attack_table: AttackTable) -> None:
    """Not even their lengths."""
    over = isinstance(outcome(HEAD + bytes(MAX_ENVELOPE_BYTES)), EnvelopeError)
    attack_table.record(MEMORY, 1, int(over))
    assert over


PAYLOADS = {
    "integers": list(range(60_000)),
    "digits": [1] * 60_000,
    "rows": [{"id": number, "quantity": 1} for number in range(9000)],
    "pairs": [(number, number + 1) for number in range(9000)],
    "instants": [datetime(2026, 1, 1, tzinfo=timezone.utc)] * 19_000,
    "a huge number": 1 << 10_000,
    "numbers": {number: number for number in range(20_000)},
    "texts": {f"key {number}": "ab" for number in range(20_000)},
    "nothings": [[] for _ in range(19_999)],
}


@pytest.mark.parametrize("kind", PAYLOADS)
def test_whatever_is_sent_is_read(kind: str) -> None:
    """What every reader would refuse, the writer leaves out, and says so."""
    sent = Envelope(
        id="an id",
        signal="any",
        sender=None,
        payload={"value": PAYLOADS[kind], "id": 7},
        sent_at=datetime(2026, 1, 1, tzinfo=timezone.utc),
    )
    received = decode(encode(sent, max_bytes=MAX_ENVELOPE_BYTES)).payload
    assert received["id"] == 7
    value = received["value"]
    if isinstance(value, Omitted):
        assert "send it as text" in value.relay_remedy or "pass an id" in value.relay_remedy
    else:
        assert value == sent.payload["value"]


def test_only_what_is_too_much_is_left_out() -> None:
    """Of a payload that no reader would take, the handler gets the rest."""
    payload: dict[str, Any] = {
        "user": {"name": "Ada", "visits": list(range(50_000))},
        "rows": [{"id": number} for number in range(1000)],
        "note": "x" * 5000,
    }
    sent = Envelope("an id", "any", None, payload, datetime(2026, 1, 1, tzinfo=timezone.utc))
    received = decode(encode(sent)).payload
    assert received["rows"] == payload["rows"]
    assert received["note"] == payload["note"]
    assert received["user"]["name"] == "Ada"
    assert "far more memory" in received["user"]["visits"].relay_explanation


def test_an_envelope_of_usual_size_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The count is for what is long: the usual envelope does not pay for it."""
    counted: list[int] = []
    monkeypatch.setattr("lback_relay.codec.cost_of", lambda data: counted.append(len(data)))
    monkeypatch.setattr("lback_relay.codec_reader.cost_of", lambda data: counted.append(len(data)))
    payload = {"user": {"name": "Ada"}, "note": "x" * (UNCOUNTED_BYTES - 200)}
    sent = Envelope("an id", "any", None, payload, datetime(2026, 1, 1, tzinfo=timezone.utc))
    assert decode(encode(sent)) == sent
    assert counted == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        text(5000)[:-1],
        text(5000) + b"\xc0",
        array([extension(16, b"\x91"), text(5000)]),
        array([extension(16, b"\xdb\xff\xff\xff\xff"), text(5000)]),
        array([extension(16, b""), text(5000)]),
        array([extension(16, b"\x80"), text(5000)]),
        array([b"\xc7\xff\x10\x91", b"\xc0"] + [b"\xc0"] * 100 + [text(5000)]),
        array([b"\xc1", text(5000)]),
        array([b"\x81\x01\xc0", text(5000)]),
        array([b"\x81\xc4\x01a\xc0", text(5000)]),
        array([b"\xc9\xff\xff\xff\xff\x10", text(5000)]),
        nested(70, lambda inside: b"\x91" + inside, text(5000)),
        nested(70, lambda inside: extension(16, b"\x91" + inside), text(5000)),
    ],
)
def test_lengths_that_do_not_fit_are_refused(body: bytes, attack_table: AttackTable) -> None:
    """What the count takes for one token, the unpacking must not take for another."""
    stopped = isinstance(outcome(envelope_around(body)), EnvelopeError)
    attack_table.record("an envelope whose lengths lie", 1, int(stopped))
    assert stopped


def test_nothing_is_imported_or_called_by_a_name_in_an_envelope(
    attack_table: AttackTable,
) -> None:
    """Names of types are labels: of the standard library's module that greets, nothing is seen."""
    names = [b"this.Zen", b"os.system", b"builtins.eval", b"__main__.attack", b"subprocess.Popen"]
    bodies = []
    for code, parts, rest in ((49, 3, b"\x80\xc0"), (52, 5, b"\x90\x80\x90\xc0"), (54, 2, b"\x80")):
        for name in names:
            packed = msgpack.packb(name.decode())
            bodies.append(extension(code, bytes([0x90 + parts]) + packed + rest))
    bodies += [extension(48, name) for name in names]
    bodies += [extension(53, msgpack.packb([n.decode(), n.decode(), n.decode()])) for n in names]
    envelope = envelope_around(array(bodies))
    script = (
        "import sys; from lback_relay.codec import decode; before = set(sys.modules);"
        f"repr(decode({envelope!r})); print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    stopped = done.stdout.strip() == "[]"
    attack_table.record("a type's name that is to be imported", len(bodies), len(bodies) * stopped)
    assert done.stdout.strip() == "[]"


def test_what_newer_versions_write_is_kept_or_put_aside() -> None:
    """Unknown fields and extension types survive; an unknown version or flag is named as such."""
    body = [
        *("an id", "any", None, {"v": msgpack.ExtType(99, b"new")}, 0, ["queue"], ""),
        {"later": [1, {"a": b"b"}]},
    ]
    received = decode(HEAD + msgpack.packb(body))
    assert received.payload["v"] == UnknownValue(99, b"new")
    assert received.extra == {"later": [1, {"a": b"b"}]}
    assert decode(encode(received)) == received
    for head in (b"LR\x02\x00", b"LR\xff\x00", b"LR\x01\x80"):
        with pytest.raises(UnsupportedVersion):
            decode(head + msgpack.packb(body))
