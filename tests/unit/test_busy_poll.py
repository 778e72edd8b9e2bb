"""Looking for a reply before falling asleep: how long, and when not any more."""

from __future__ import annotations

import math
from typing import Any

import pytest
import redis

from lback_relay import Relay, RelayConfig
from lback_relay.broker import direct
from lback_relay.broker.direct import LOOK_S, MOST_BLIND, DirectConnections

LOOKED_S = LOOK_S / 10
"""What one look takes here."""


class Far:
    """A pool, its connection and the clock: a reply is there ``away_s`` after its command."""

    def __init__(self, away_s: float) -> None:
        self.away_s = away_s
        self.now_s = 0.0
        self.sent_at = math.inf
        self.looks = 0
        self.slept = 0
        self.made = 0
        self.connection_kwargs: dict[str, Any] = {}

    def connection_class(self) -> Far:
        self.made += 1
        return self

    def monotonic(self) -> float:
        return self.now_s

    def send_packed_command(self, _command: list[bytes]) -> None:
        self.sent_at = self.now_s

    def can_read(self) -> bool:
        if self.sent_at == math.inf:  # asked before it is used: nothing has come since
            return False
        self.looks += 1
        self.now_s += LOOKED_S
        return self._is_there()

    def read_response(self) -> bytes:
        if not self._is_there():
            self.slept += 1
            self.now_s = self.sent_at + self.away_s
        self.sent_at = math.inf
        return b"OK"

    def disconnect(self) -> None:
        pass

    def _is_there(self) -> bool:
        return self.now_s >= self.sent_at + self.away_s


def _called(
    monkeypatch: pytest.MonkeyPatch, far: Far, calls: int, *, busy_poll: bool = True
) -> DirectConnections:
    monkeypatch.setattr(direct, "monotonic", far.monotonic)
    pool: Any = far
    connections = DirectConnections(pool, busy_poll=busy_poll)
    for _ in range(calls):
        assert connections.call([("PING",)]) == [b"OK"]
    return connections


def test_a_reply_that_comes_soon_is_seen_before_the_thread_sleeps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That is what looking is for."""
    near = Far(LOOK_S / 2)
    _called(monkeypatch, near, 1000)
    assert near.slept == 0


def test_nobody_looks_who_has_not_been_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a worker, whose handlers want the interpreter meanwhile."""
    near = Far(LOOK_S / 2)
    _called(monkeypatch, near, 1000, busy_poll=False)
    assert (near.looks, near.slept) == (0, 1000)


@pytest.mark.parametrize("away_s", [LOOK_S * 2, LOOK_S * 1000])
def test_a_broker_that_is_far_is_looked_for_less_and_less(
    monkeypatch: pytest.MonkeyPatch, away_s: float
) -> None:
    """So that it takes next to nothing of the processor; no single look is longer than said."""
    far = Far(away_s)
    _called(monkeypatch, far, 1)
    assert far.looks <= 12
    _called(monkeypatch, far, 1000)
    assert far.looks * LOOKED_S <= LOOK_S * (1000 / MOST_BLIND + 12)


def test_a_broker_that_comes_near_again_is_looked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Within a few hundred calls."""
    far = Far(LOOK_S * 2)
    connections = _called(monkeypatch, far, 1000)
    far.away_s = LOOK_S / 2
    for _ in range(4 * MOST_BLIND):
        connections.call([("PING",)])
    far.slept = 0
    for _ in range(1000):
        connections.call([("PING",)])
    assert far.slept == 0


def test_a_reply_that_is_seen_late_counts_as_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else had the interpreter for longer than the look was to take."""

    class Crowded(Far):
        def can_read(self) -> bool:
            found = super().can_read()
            if self.sent_at != math.inf:
                self.now_s += LOOK_S
            return found

    crowded = Crowded(0.0)
    _called(monkeypatch, crowded, 1000)
    assert crowded.looks <= 1000 / MOST_BLIND + 12


def test_a_connection_that_ends_meanwhile_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is known of the call."""

    class Ending(Far):
        ends = True

        def can_read(self) -> bool:
            if self.sent_at != math.inf and self.ends:
                raise redis.ConnectionError("closed")
            return super().can_read()

        def disconnect(self) -> None:
            self.sent_at = math.inf

    ending = Ending(0.0)
    connections = _called(monkeypatch, ending, 0)
    with pytest.raises(redis.ConnectionError):
        connections.call([("PING",)])
    ending.ends = False
    assert connections.call([("PING",)]) == [b"OK"]
    assert ending.made == 2


@pytest.mark.parametrize(("publishing", "looks"), [("sync", True), ("background", False)])
def test_a_relay_looks_where_its_senders_wait(
    monkeypatch: pytest.MonkeyPatch, publishing: str, looks: bool
) -> None:
    """A thread in the background would take the interpreter from those who send."""
    made: list[DirectConnections] = []
    init = DirectConnections.__init__

    def noted(self: DirectConnections, *arguments: Any, **options: Any) -> None:
        init(self, *arguments, **options)
        made.append(self)

    monkeypatch.setattr(DirectConnections, "__init__", noted)
    config = {
        "signals": ["order_paid"],
        "publishing": publishing,
        "url": "redis://127.0.0.1:1",  # nobody answers there, which is said at once
        "spool_dir": "off",
        "flush_timeout_s": 0.25,
    }
    relay = Relay(RelayConfig.from_mapping(config, environ={}))
    relay.relay("order_paid", None, {})
    relay.flush(0.1)
    relay.close()
    assert {connections._busy_poll for connections in made} == {looks}
