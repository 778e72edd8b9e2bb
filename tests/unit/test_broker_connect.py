"""How a URL becomes a broker, before anything is opened."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
from support.deliveries import GROUP, SIGNAL, bodies, publish, read

from lback_relay.broker import Delivery, Retry, connect
from lback_relay.broker.base import EVENTS
from lback_relay.broker.connections import Connections
from lback_relay.broker.records import pack_retry, unpack_retry
from lback_relay.errors import ConfigError, MalformedEnvelope


def _options(url: str) -> dict[str, Any]:
    connections = Connections(url, timeout_s=2.0, client_name="a b\n", client_factory=None)
    options: dict[str, Any] = connections.client(7.0).connection_pool.connection_kwargs
    return options


def test_a_url_that_cannot_be_used_is_refused_without_its_password() -> None:
    """Before anything is tried."""
    with pytest.raises(ConfigError, match="broker URL: ") as refused:
        connect("reddis://:hunter2@h")
    assert "hunter2" not in str(refused.value)


def test_the_clients_own_retries_are_off_and_its_limits_are_ours() -> None:
    """Whatever the URL says and the client's version has for a default."""
    options = _options("redis://h:1/3?protocol=3&health_check_interval=9")
    assert options["protocol"] == 2
    assert options["db"] == 3
    assert options["socket_timeout"] == 7.0
    assert options["socket_connect_timeout"] == 2.0
    assert options["socket_keepalive"] is True
    assert options["client_name"] == "a_b_"
    calls: list[None] = []

    def fail() -> None:
        calls.append(None)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        options["retry"].call_with_retry(fail, lambda *_error: None)
    assert len(calls) == 1


def test_a_socket_of_this_machine_takes_no_options_of_the_network() -> None:
    """The client would refuse them."""
    options = _options("unix:///run/redis.sock?db=2")
    assert (options["path"], options["db"]) == ("/run/redis.sock", 2)
    assert "socket_keepalive" not in options


def test_memory_is_shared_by_name_within_a_process() -> None:
    """And by nobody else."""
    name = os.urandom(8).hex()
    first, second = connect(f"memory://{name}"), connect(f"memory://{name}")
    other = connect(f"memory://{name}-other")
    publish(first, b"1")
    for broker, expected in ((second, [b"1"]), (other, [])):
        broker.ensure_groups([SIGNAL], GROUP)
        assert bodies(read(broker)) == expected
        broker.close()
    first.close()
    assert publish(first, b"1") == 0, "closing forgets nothing"


def test_memory_without_fakeredis_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its Lua support included."""
    connect("memory://")  # fakeredis decides for good about Lua when it is first imported
    monkeypatch.setitem(sys.modules, "lupa", None)
    with pytest.raises(ConfigError, match=r"pip install 'fakeredis\[lua\]'"):
        connect("memory://")


def test_embedded_leads_to_the_server_of_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of the URL is the folder."""
    monkeypatch.setattr(
        "lback_relay.broker.embedded.shared_server_url", lambda path: f"unix://{path}"
    )
    assert repr(connect("embedded:///a/folder")) == "RedisBroker('unix:///a/folder')"


def test_a_retrys_record_keeps_attempts_and_envelope() -> None:
    """Two retries of equal content differ."""
    delivery = Delivery(signal="s", source=EVENTS, entry_id="1-0", encoded=b"\x00\xff")
    records = {pack_retry(delivery, index, {"größe": 2}) for index in (0, 1)}
    assert len(records) == 2
    assert {unpack_retry(record)[1] for record in records} == {b"\x00\xff"}
    assert unpack_retry(records.pop())[0] == {"größe": 2}


@pytest.mark.parametrize(
    "record", [b"", b"\xc1", b"\x01", b"\x93\x01\x02\x03", b"\x95\x01\x02\x03\x04\x05", b"\x81"]
)
def test_what_is_no_retry_is_told(record: bytes) -> None:
    """By one kind of error."""
    with pytest.raises(MalformedEnvelope, match="no retry record"):
        unpack_retry(record)


def test_deliveries_and_retries_are_made_by_keywords() -> None:
    """With defaults for what mostly is not there."""
    delivery = Delivery(signal="s", source=EVENTS, entry_id="1-0", encoded=b"")
    assert (dict(delivery.attempts), delivery.deliveries) == ({}, 1)
    assert Retry(attempts={}, delay_s=0).delay_s == 0
