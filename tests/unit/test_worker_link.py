"""What a worker shows of itself: outages, health, lines of the log."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from lback_relay.errors import BrokerError, BrokerUnavailable
from lback_signal_worker.health import HealthFile
from lback_signal_worker.health import main as health
from lback_signal_worker.link import Backoff, Link
from lback_signal_worker.logs import RelayFormatter


def test_an_outage_is_said_once_a_second_and_its_end_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whichever thread comes first; a refusal is no outage."""
    now = [100.0]
    monkeypatch.setattr("lback_signal_worker.link.monotonic", lambda: now[0])
    caplog.set_level(logging.INFO)
    link = Link()
    link.worked()
    for doing in ("reading", "settling", "reading"):
        link.failed(doing, BrokerUnavailable("away"))
    assert len(caplog.records) == 1
    now[0] += 1
    link.failed("settling", BrokerUnavailable("away"))
    link.worked()
    link.worked()
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "INFO"]
    assert "answers again, after 1.0 s" in caplog.text
    for _ in range(3):
        link.failed("settling", BrokerError("full"))
        link.worked()
    assert len(caplog.records) == 4


def test_a_refusal_stands_until_it_would_have_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what was refused alone; the broker is not away."""
    now = [100.0]
    monkeypatch.setattr("lback_signal_worker.link.monotonic", lambda: now[0])
    link = Link()
    assert not link.refuses("reading")
    link.failed("reading", BrokerError("forbidden"))
    link.worked()
    assert link.refuses("reading")
    assert not link.refuses("settling")
    assert not link.away
    now[0] += 15
    assert not link.refuses("reading")


def test_waits_grow_spread_and_begin_again() -> None:
    """Half of each is random."""
    backoff = Backoff(lambda: 0.0)
    assert [backoff.next_s() for _ in range(8)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.5, 2.5]
    backoff.reset()
    assert backoff.next_s() == 0.05


def test_health_is_the_age_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No file, or an old one, is not healthy."""
    path = tmp_path / "health"
    file = HealthFile(str(path))
    assert health([str(path)]) == 1
    file.touch(100.0)
    assert health([str(path)]) == 0
    os.utime(path, (0, 0))
    file.touch(100.5)
    assert health([str(path), "--max-age", "5"]) == 1
    file.touch(101.0)
    assert health([str(path), "--max-age", "5"]) == 0
    file.remove()
    file.remove()
    assert health([str(path)]) == 1
    assert "the last poll was" in capsys.readouterr().err


def test_a_health_file_that_can_not_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker is worth more than its file."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").touch()
    HealthFile(str(tmp_path / "missing" / "health")).touch(1.0)
    HealthFile(str(tmp_path / "folder")).remove()
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2


def formatted(extra: dict[str, object], number: int | None = None) -> str:
    """Return a formatted record."""
    record = logging.makeLogRecord({"msg": "failed", "levelname": "ERROR", **extra})
    return RelayFormatter(number).format(record)


def test_a_line_of_one_of_several_workers_names_it() -> None:
    """By number and process."""
    line = formatted({"relay_signal": "a", "process": 77}, number=2)
    assert line.endswith(" ERROR worker 2 (pid 77): failed [signal=a]")


@pytest.mark.parametrize(
    ("extra", "end"),
    [
        ({}, "ERROR failed"),
        ({"relay_signal": "a", "relay_handler": ""}, "ERROR failed [signal=a]"),
        ({"relay_signal": "a", "relay_handler": "b"}, "ERROR failed [signal=a handler=b]"),
    ],
)
def test_a_line_shows_what_it_is_about(extra: dict[str, object], end: str) -> None:
    """So that one signal can be searched for."""
    assert formatted(extra).endswith(end)
