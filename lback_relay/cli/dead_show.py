"""One dead letter, whole, as text or as plain data for JSON. Pure.

What a payload holds is users' data, and stays out of terminals, logs and tickets unless asked for:
shown are its names and what kind of value each has, which is enough to see why a handler could not
take it. Keys of a dict may be data themselves and are not shown either. Errors and tracebacks are
shown, with the secrets that can be told by their form taken out. The codec alone decodes; bytes
that it refuses are shown as hex. With a key ring the signature is verified, and what is encrypted
is shown as anything else; without one, nothing of it but the header is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sized
from typing import Any, Final

from lback_relay.broker.base import DeadLetterRecord
from lback_relay.cli.dead_tally import instant
from lback_relay.cli.text import age, counted, shortened, table
from lback_relay.codec import decode
from lback_relay.codec_header import signed_header
from lback_relay.enum_snapshot import EnumSnapshot
from lback_relay.envelope import QUEUE, Envelope
from lback_relay.errors import EnvelopeError
from lback_relay.keyring import KeyRing
from lback_relay.markers import Marker, Omitted, Redacted
from lback_relay.printable import printable, printable_lines
from lback_relay.redaction import redact_text
from lback_relay.signing import Verifier
from lback_relay.snapshot import SenderSnapshot, Snapshot, short_name

HEAD_BYTES: Final = 16
"""What is shown of unreadable bytes unless all is asked for: the header, and no data yet."""
_MAX_SENDER: Final = 100


def as_text(
    record: DeadLetterRecord, now_ms: int, *, values: bool, keys: KeyRing | None = None
) -> list[str]:
    """Return the lines that show a letter.

    Args:
        record: the letter.
        now_ms: when "now" is, by the broker's clock.
        values: show the payload's values, too, and all bytes of what can't be read.
        keys: verify and decrypt.
    """
    letter = record.letter
    died = f"{instant(record.dead_at_ms)}, {age((now_ms - record.dead_at_ms) / 1000)} ago"
    lines = [f"dead letter {record.entry_id}"]
    lines += _rows(
        ("signal", printable(record.signal)),
        ("group", printable(record.group)),
        ("handler", printable(letter.handler) or "none was reached"),
        ("reason", printable(letter.reason) or "unknown"),
        ("attempts", str(letter.attempts)),
        ("died", died),
        ("from", f"{printable(record.source)} {printable(record.source_id)}".strip() or "unknown"),
        ("error", "\n".join(printable_lines(redact_text(letter.error)))),
    )
    lines += ["", f"envelope of {counted(len(record.encoded), 'byte')}"]
    envelope, problem = _opened(record, keys)
    signature = _signature(record, keys)
    if signature:
        lines += _rows(("signature", printable(signature)))
    if envelope is None:
        lines += _rows(("unreadable", printable(problem)))
        lines += [f"  {line}" for line in _hex_lines(record.encoded, values=values)]
    else:
        lines += _rows(
            ("id", printable(envelope.id)),
            ("sender", printable(_sender(envelope.sender))),
            ("sent", envelope.sent_at.isoformat()),
            ("origin", printable(envelope.origin) or "unknown"),
            ("delivery", printable(", ".join(envelope.delivery))),
            *(("trace", printable(f"{name} {text}")) for name, text in envelope.trace.items()),
        )
        lines += ["", "payload" if values else "payload: kinds of values (--values shows them)"]
        shown = [
            (printable(path), printable(repr(value) if values and leaf else shape(value)))
            for path, value, leaf in flattened(envelope.payload)
        ]
        lines += _rows(*shown) if shown else ["  nothing"]
    if letter.traceback:
        lines += ["", "traceback"]
        traceback = redact_text(letter.traceback).rstrip("\n")
        lines += [f"  {line}".rstrip() for line in printable_lines(traceback)]
    return lines


def as_json(
    record: DeadLetterRecord, *, values: bool, keys: KeyRing | None = None
) -> dict[str, Any]:
    """Return a letter as plain data; see :func:`as_text`."""
    letter = record.letter
    envelope, problem = _opened(record, keys)
    shown: dict[str, Any] = {
        "id": record.entry_id,
        "signal": record.signal,
        "group": record.group,
        "handler": letter.handler,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "dead_at": instant(record.dead_at_ms),
        "source": record.source,
        "source_id": record.source_id,
        "error": redact_text(letter.error),
        "traceback": redact_text(letter.traceback),
        "bytes": len(record.encoded),
        "signature": _signature(record, keys),
        "envelope": None,
    }
    if envelope is None:
        shown["unreadable"] = problem
        shown["hex"] = record.encoded[: None if values else HEAD_BYTES].hex()
        return shown
    shown["envelope"] = {
        "id": envelope.id,
        "sender": _sender(envelope.sender),
        "sent_at": envelope.sent_at.isoformat(),
        "origin": envelope.origin,
        "delivery": list(envelope.delivery),
        "trace": dict(envelope.trace),
        "payload": {
            path: plain(value) if values and leaf else shape(value)
            for path, value, leaf in flattened(envelope.payload)
        },
    }
    return shown


def flattened(payload: Mapping[str, Any], start: str = "") -> Iterator[tuple[str, Any, bool]]:
    """Yield (dotted path, value, whether it has no parts of its own) of all that has a name."""
    for name, value in payload.items():
        path = f"{start}{name}"
        parts = value.relay_values if isinstance(value, Snapshot) else {}
        yield path, value, not parts
        yield from flattened(parts, f"{path}.")


def shape(value: object) -> str:
    """Return what kind of value it is, without its value."""
    if isinstance(value, Redacted):
        return "redacted"
    if isinstance(value, Omitted):
        return f"omitted: {value.relay_reason}"
    if isinstance(value, EnumSnapshot | Snapshot):
        kind = "an enum" if isinstance(value, EnumSnapshot) else "a snapshot"
        return f"{short_name(value.relay_type)}, {kind}"
    if isinstance(value, str | bytes):
        return counted(len(value), "character" if isinstance(value, str) else "byte")
    name = "None" if value is None else type(value).__name__
    return f"{name} of {len(value):,}" if isinstance(value, Sized) else name


def plain(value: object) -> Any:
    """Return a value as JSON can hold it; what it can't, by its repr."""
    if isinstance(value, Marker | Snapshot | EnumSnapshot):
        return repr(value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: plain(each) for key, each in value.items()}
    return repr(value)


def _opened(record: DeadLetterRecord, keys: KeyRing | None) -> tuple[Envelope | None, str]:
    """Return the envelope, or None and why it can't be read."""
    encoded = record.encoded
    try:
        header = signed_header(encoded)
        if keys is not None and header is not None and header.encrypted:
            encoded = Verifier(keys, max_age_s=None).verified(encoded, record.signal, QUEUE)
        return decode(encoded), ""
    except EnvelopeError as error:
        return None, str(error)


def _signature(record: DeadLetterRecord, keys: KeyRing | None) -> str:
    """Return what there is to say of a signature: whose, when, and whether it is right."""
    header = signed_header(record.encoded)
    if header is None:
        return "none" if keys is not None else ""
    said = f"by the key {header.key_id} at {instant(header.signed_at_ms)}"
    said += ", encrypted" if header.encrypted else ""
    if keys is None:
        return f"{said}; not verified, for LBACK_RELAY_KEYS is not set"
    try:
        Verifier(keys, max_age_s=None).verified(record.encoded, record.signal, QUEUE)
    except EnvelopeError as error:
        return f"{said}; not right: {error}"
    return f"{said}; right"


def _sender(sender: object) -> str:
    """A sender says where a signal comes from: its type's name, or a word."""
    if isinstance(sender, SenderSnapshot):
        return sender.relay_type
    if isinstance(sender, str):
        return shortened(redact_text(sender), _MAX_SENDER)
    return shape(sender)


def _rows(*rows: tuple[str, str]) -> list[str]:
    """Lay out names and what they stand for, which may have several lines."""
    flat: list[tuple[str, str]] = []
    for name, text in rows:
        first, *more = text.split("\n")
        flat += [(name, first), *(("", line) for line in more)]
    return [f"  {line}".rstrip() for line in table(*_apart(flat))]


def _apart(rows: list[tuple[str, str]]) -> tuple[tuple[str, str], list[tuple[str, str]]]:
    return rows[0], rows[1:]


def _hex_lines(encoded: bytes, *, values: bool) -> list[str]:
    shown = encoded if values else encoded[:HEAD_BYTES]
    lines = [shown[start : start + 32].hex(" ") for start in range(0, len(shown), 32)]
    if len(shown) < len(encoded):
        lines.append(f"and {counted(len(encoded) - len(shown), 'more byte')} (--values)")
    return lines
