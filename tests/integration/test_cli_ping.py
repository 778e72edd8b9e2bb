"""How ``lback-relay check`` reports what the broker does, with a broker that does as told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import lback_relay.broker
from lback_relay.broker.base import Inspection
from lback_relay.cli import main
from lback_relay.cli.check import PING_TIMEOUT_S
from lback_relay.errors import BrokerError, BrokerUnavailable, RelayError


class _ToldBroker:
    """Answers a ping, or raises what it was told to; says what it was told of its set-up."""

    def __init__(self, error: RelayError | None, found: Inspection) -> None:
        self._error = error
        self._found = found
        self.closed = False

    def ping(self) -> None:
        if self._error is not None:
            raise self._error

    def inspect(self, *, persistence: bool) -> Inspection:
        assert persistence
        return self._found

    def close(self) -> None:
        self.closed = True


def _check(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: RelayError | None = None,
    found: Inspection = Inspection(),  # noqa: B008 - frozen
) -> tuple[Result, _ToldBroker, dict[str, Any]]:
    """Run ``check`` in a project; return its result, the broker, and how that was connected."""
    (folder / "settings.py").write_text("RELAY_SIGNALS = ['user_registered']\n")
    broker = _ToldBroker(error, found)
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
    result, broker, given = _check(tmp_path, monkeypatch)
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


def test_what_the_broker_can_not_keep_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Warnings do not change the exit code; a broker that can't be used is exit code 4."""
    warned = Inspection(warnings=("broker h keeps nothing; do this",))
    result, broker, _ = _check(tmp_path, monkeypatch, found=warned)
    assert result.exit_code == 0
    assert result.output.splitlines()[-1] == "warning: broker h keeps nothing; do this"
    both = Inspection(problems=("broker h is old; do that",), warnings=warned.warnings)
    result, broker, _ = _check(tmp_path, monkeypatch, found=both)
    assert result.exit_code == 4
    assert result.output.splitlines()[-2:] == [
        "warning: broker h keeps nothing; do this",
        "lback-relay: broker h is old; do that",
    ]
    assert broker.closed
