"""What a worker says of its broker's set-up before it takes anything."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.brokers import raw_client, running_server

from lback_relay.broker import connect, embedded
from lback_relay.config import RelayConfig
from lback_relay.errors import BrokerError, BrokerUnavailable
from lback_signal_worker.cli import _warning_level
from lback_signal_worker.startup import reach_broker
from lback_signal_worker.supervised import Supervised

pytestmark = pytest.mark.broker


def _reach(url: str) -> Callable[[], Any]:
    """Reach a broker as the worker does; it must not need to wait."""

    def pause(seconds: float) -> None:
        raise AssertionError("it waited for the broker")

    return reach_broker(RelayConfig(signals={}, url=url), pause=pause, client_name="test")


def test_a_broker_that_keeps_nothing_is_warned_of_at_the_start(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, and the worker runs."""
    with caplog.at_level(logging.WARNING):
        broker = _reach(redis_url)()
    (record,) = caplog.records
    assert record.getMessage() == (
        f"broker {redis_url} keeps nothing on disk: what is queued is lost when it restarts; set "
        "appendonly yes"
    )
    broker.ping()
    broker.close()


def test_only_the_first_of_several_workers_warns(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The others have the same to say."""
    channel, theirs = socket.socketpair()
    with channel, theirs:
        levels = [_warning_level(link) for link in (None, *_workers(channel))]
    assert levels == [logging.WARNING, logging.WARNING, logging.DEBUG]
    config = RelayConfig(signals={}, url=redis_url)
    with caplog.at_level(logging.DEBUG):
        reach_broker(config, pause=lambda _: None, client_name="test", level=logging.DEBUG)
    (record,) = (record for record in caplog.records if "keeps nothing" in record.getMessage())
    assert record.levelno == logging.DEBUG


def _workers(channel: socket.socket) -> list[Supervised]:
    """Return the first and the second of a supervisor's workers."""
    return [Supervised(1, channel), Supervised(2, channel)]


def test_a_broker_for_development_is_not_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is known to keep nothing."""
    monkeypatch.setattr(embedded, "_started", {})
    with caplog.at_level(logging.WARNING):
        try:
            _reach("embedded://")().close()
            _reach(f"memory://{uuid.uuid4().hex}")().close()
        finally:
            for server in embedded._started.values():
                server.stop()
    assert not caplog.records


def test_a_broker_that_evicts_streams_is_refused() -> None:
    """Before the first entry is taken."""
    refused = pytest.raises(BrokerError, match=r"drops whole streams .* set maxmemory-policy noev")
    with (
        running_server("--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru") as server,
        refused,
    ):
        _reach(server.url)


def test_the_command_ends_with_4_where_the_broker_can_not_be_used(tmp_path: Path) -> None:
    """One sentence on stderr names the thing and the remedy, and nothing is written."""
    (tmp_path / "handlers.py").write_text(
        "from lback_relay import remote_dispatcher\n"
        "remote_dispatcher.connect('shop_opened', lambda sender: None, name='h')\n"
    )
    with running_server("--maxmemory", "1gb", "--maxmemory-policy", "allkeys-random") as server:
        done = subprocess.run(
            [sys.executable, "-m", "lback_signal_worker", "handlers", "--url", server.url],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        with raw_client(server.url) as client:
            assert list(client.scan_iter()) == []
    assert done.returncode == 4, done.stderr
    assert done.stderr.splitlines()[-1] == (
        f"lback-signal-worker: broker {server.url} drops whole streams when its memory is full "
        "(maxmemory-policy allkeys-random); set maxmemory-policy noeviction, and give a cache a "
        "server of its own"
    )


def test_a_broker_that_goes_away_while_it_is_looked_at_is_waited_for(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As one that is not up yet."""
    refusals = [BrokerUnavailable("loading")]

    def connect_to_one_that_goes(*arguments: Any, **options: Any) -> Any:
        broker: Any = connect(*arguments, **options)
        inspect = broker.inspect

        def inspect_later(**how: Any) -> Any:
            if refusals:
                raise refusals.pop()
            return inspect(**how)

        broker.inspect = inspect_later
        return broker

    monkeypatch.setattr("lback_signal_worker.startup.connect", connect_to_one_that_goes)
    pauses: list[float] = []
    config = RelayConfig(signals={}, url=redis_url)
    reach_broker(config, pause=pauses.append, client_name="test")
    assert len(pauses) == 1
    assert "waiting for the broker: loading" in caplog.text


def test_it_says_once_a_second_at_most_that_it_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it tries."""
    monkeypatch.setattr("lback_signal_worker.startup.REACH_S", 0.3)
    monkeypatch.setattr("lback_signal_worker.startup.monotonic", lambda: 0.0)
    pauses: list[float] = []
    with pytest.raises(BrokerUnavailable):
        reach_broker(
            RelayConfig(signals={}, url="redis://127.0.0.1:1/0"),
            pause=pauses.append,
            client_name="test",
        )
    assert len(pauses) > 1
    assert caplog.text.count("waiting for the broker") == 1
