"""The record of one sent signal, and the ids that order it."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from datetime import datetime, timezone
from typing import Final

import pytest

from lback_relay.envelope import QUEUE, Envelope, new_envelope_id, process_origin

SENT_AT = datetime(2026, 1, 2, tzinfo=timezone.utc)


def test_an_envelope_needs_little_and_defaults_the_rest() -> None:
    """By queue, from nowhere in particular, without a trace."""
    envelope = Envelope(id="1", signal="s", sender=None, payload={"a": 1}, sent_at=SENT_AT)
    assert envelope.delivery == (QUEUE,)
    assert envelope.origin == ""
    assert dict(envelope.trace) == dict(envelope.extra) == {}
    assert envelope == envelope._replace(signal="s")
    assert envelope != envelope._replace(signal="t")


def test_an_envelope_can_not_be_changed() -> None:
    """The same envelope is handed to every handler."""
    envelope = Envelope(id="1", signal="s", sender=None, payload={}, sent_at=SENT_AT)
    with pytest.raises(AttributeError):
        envelope.signal = "t"  # type: ignore[misc]
    with pytest.raises(TypeError):
        envelope.trace["traceparent"] = "x"  # type: ignore[index]


def test_an_id_is_a_uuid_of_version_7_that_begins_with_the_time() -> None:
    """RFC 9562, section 5.7."""
    made = new_envelope_id(0x0123456789AB)
    parsed = uuid.UUID(made)
    assert str(parsed) == made
    assert parsed.int >> 80 == 0x0123456789AB
    assert made[14] == "7"
    assert parsed.variant == uuid.RFC_4122


def test_ids_are_unique_and_in_order_of_time() -> None:
    """To the millisecond."""
    ids = [new_envelope_id(now_ms) for now_ms in range(1000)]
    assert ids == sorted(ids)
    assert len({new_envelope_id(7) for _ in range(1000)}) == 1000
    assert new_envelope_id() > new_envelope_id(1_700_000_000_000)


FORKED: Final = """
import ctypes
import os
from lback_relay.envelope import new_envelope_id

fork = {fork}
first = new_envelope_id(7)
heard, said = os.pipe()
if fork() == 0:
    os.write(said, " ".join(new_envelope_id(7) for _ in range(300)).encode())
    os._exit(0)
os.close(said)
childs = os.fdopen(heard).read().split()
print(len({first, *childs, *(new_envelope_id(7) for _ in range(300))}))
"""


@pytest.mark.parametrize("fork", ["os.fork", "ctypes.PyDLL(None).fork"])
def test_a_forked_child_makes_ids_of_its_own(fork: str) -> None:
    """The digits that were drawn ahead are its parent's; some servers fork in C."""
    command = [sys.executable, "-c", FORKED.replace("{fork}", fork)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "601\n"


def test_the_origin_names_the_process_of_the_moment() -> None:
    """Processes fork."""
    assert process_origin("web-1") == f"web-1:{os.getpid()}"
