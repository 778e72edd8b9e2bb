"""How ``lback-relay check`` reports what the broker does, with a broker that does as told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import lback_relay.broker
from lback_relay.cli import main
from lback_relay.cli.check import PING_TIMEOUT_S
from lback_relay.errors import BrokerError, BrokerUnavailable, RelayError


class _ToldBroker:
    """Answers a ping, or raises what it was told to."""

    def __init__(self, error: RelayError | None) -> None:
        self._error = error
        self.closed = False

    def ping(self) -> None:
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self.closed = True


def _check(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: RelayError | None
) -> tuple[Result, _ToldBroker, dict[str, Any]]:
    """Run ``check`` in a project; return its result, the broker, and how that was connected."""
    (folder / "settings.py").write_text("RELAY_SIGNALS = ['user_registered']\n")
    broker = _ToldBroker(error)
    given: dict[str, Any] = {}

    def connect(url: str, **options: Any) -> _ToldBroker:
        given.update(options, url=url)
        return broker

    monkeypatch.setattr(lback_relay.broker, "connect", connect)
    monkeypatch.setenv("LBACK_RELAY_URL", "redis://h/3")
    result = CliRunner().invoke(main, ["check", "--settings", str(folder)])
    return result, broker, given


def test_an_answer_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the time it took; the broker is closed."""
    result, broker, given = _check(tmp_path, monkeypatch, None)
    assert result.exit_code == 0
    assert result.output.splitlines()[-1].startswith("broker answers, in ")
    assert broker.closed
    assert (given["url"], given["timeout_s"]) == ("redis://h/3", PING_TIMEOUT_S)


@pytest.mark.parametrize("error", [BrokerUnavailable("no answer"), BrokerError("wrong password")])
def test_a_broker_that_does_not_serve_is_exit_code_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: RelayError
) -> None:
    """Whether it is silent or refuses; the config is shown before."""
    result, broker, _ = _check(tmp_path, monkeypatch, error)
    assert result.exit_code == 4
    assert "config is right: 1 signal relayed" in result.output
    assert f"lback-relay: {error}" in result.output
    assert broker.closed
