"""What can go wrong in the half of the demo with the relay, and how it is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.brokers import running_server
from support.smtp_server import smtp_server

from lback_relay.demo import scenario
from lback_relay.demo.processes import STOP_TIMEOUT_S, Child, DemoFailed
from lback_relay.demo.scenario import Stage, prepare, web_socket, with_relay

pytestmark = [pytest.mark.broker, pytest.mark.lback, pytest.mark.slow]


class Silent:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """Ignore it."""

    def advance(self, what: str, done: int, total: int) -> None:
        """Ignore it."""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A mail server without delay and a seeded project."""
    with smtp_server() as smtp, web_socket() as web:
        ready = Stage(folder=tmp_path, smtp=smtp, web=web, reporter=Silent())
        prepare(ready)
        yield ready


def test_workers_that_reach_no_broker_are_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after all users have been registered for nothing."""
    monkeypatch.setattr(scenario, "WORKER_START_S", 0.0)
    nowhere = f"unix://{stage.folder}/nowhere.sock"
    with pytest.raises(DemoFailed, match=r"worker-1 (did not reach the broker|ended by itself)"):
        with_relay(stage, relay_url=nowhere, users=1, without_s=[2.0])
    assert stage.smtp.mails == ()


def test_a_worker_that_does_not_drain_is_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every mail may have arrived, and yet something was cut off."""
    original = Child.stop

    def stop(self: Child, timeout_s: float = STOP_TIMEOUT_S) -> int:
        code = original(self, timeout_s)
        return 5 if self.name == "worker-2" else code

    monkeypatch.setattr(Child, "stop", stop)
    # Of its own: the shop's keys are in the namespace that everybody has by default.
    with (
        running_server() as broker,
        pytest.raises(DemoFailed, match="worker-2 drained with exit code 5"),
    ):
        with_relay(stage, relay_url=broker.url, users=1, without_s=[2.0])
    assert len(stage.smtp.mails) == 1
