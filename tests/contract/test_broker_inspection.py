"""What every broker says of its own set-up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from support.brokers import SERVERS, TestedBroker, binary_of, raw_client, running_server

from lback_relay.broker import Broker, connect
from lback_relay.broker.base import Inspection
from lback_relay.errors import BrokerError, BrokerUnavailable


class _Server:
    """A server of a test's own, whose set-up the test changes."""

    def __init__(self, url: str) -> None:
        self.broker: Broker = connect(url, timeout_s=30.0)
        self.client: Any = raw_client(url)
        self.place = url

    def set(self, **options: str | int) -> None:
        """Set options of the server; underscores stand for dashes."""
        for name, value in options.items():
            self.client.config_set(name.replace("_", "-"), value)

    def said(self, *, persistence: bool = True) -> tuple[list[str], list[str]]:
        """Return problems and warnings, without the name of the broker in front of each."""
        found = self.broker.inspect(persistence=persistence)
        prefix = f"broker {self.place} "
        assert all(said.startswith(prefix) for said in (*found.problems, *found.warnings))
        return (
            [problem.removeprefix(prefix) for problem in found.problems],
            [warning.removeprefix(prefix) for warning in found.warnings],
        )


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[_Server]:
    """Yield each kind of server in turn."""
    with running_server(binary=binary_of(request.param)) as started:
        server = _Server(started.url)
        yield server
        server.broker.close()
        server.client.close()


def test_a_broker_that_keeps_nothing_is_warned_of(server: _Server) -> None:
    """Snapshots are something, and a broker for development needs nothing."""
    lost = ["keeps nothing on disk: what is queued is lost when it restarts; set appendonly yes"]
    assert server.said() == ([], lost)
    assert server.said(persistence=False) == ([], [])
    server.set(save="3600 1")
    assert server.said() == ([], [])


@pytest.mark.parametrize("kind", SERVERS)
def test_a_broker_with_an_append_only_file_is_right(kind: str) -> None:
    """However often it writes to the disk."""
    with running_server("--appendonly", "yes", binary=binary_of(kind)) as started:
        broker = connect(started.url, timeout_s=30.0)
        assert broker.inspect(persistence=True) == Inspection()
        broker.close()


def test_a_broker_that_evicts_streams_is_a_problem(server: _Server) -> None:
    """Once it has a limit; keys that expire are a smaller loss."""
    for policy in ("allkeys-lru", "allkeys-lfu", "allkeys-random"):
        server.set(maxmemory=0, maxmemory_policy=policy)
        assert server.said(persistence=False) == ([], [])
        server.set(maxmemory="1gb")
        problems, warnings = server.said(persistence=False)
        (problem,) = problems
        assert problem == (
            f"drops whole streams when its memory is full (maxmemory-policy {policy}); set "
            "maxmemory-policy noeviction, and give a cache a server of its own"
        )
        assert warnings == []
    server.set(maxmemory_policy="volatile-ttl")
    problems, (warning,) = server.said(persistence=False)
    assert problems == []
    assert warning.startswith("drops keys that expire when its memory is full (maxmemory-policy vo")
    assert warning.endswith("set maxmemory-policy noeviction")
    server.set(maxmemory_policy="noeviction")
    assert server.said(persistence=False) == ([], [])


def test_what_the_user_may_not_ask_is_said(server: _Server) -> None:
    """It is no problem: the rights of a worker's user should be few."""
    server.client.execute_command("ACL", "SETUSER", "default", "-config")
    problems, (warning,) = server.said()
    assert problems == []
    assert warning.startswith("has no append-only file, and does not tell this user whether it sav")
    assert server.said(persistence=False) == ([], [])
    server.client.execute_command("ACL", "SETUSER", "default", "-info")
    problems, (warning,) = server.said()
    assert problems == []
    assert warning == (
        "does not show its version, eviction and persistence: this user may not ask; allow +info "
        "in the user's ACL"
    )


def test_a_broker_in_memory_has_nothing_to_look_at(tested: TestedBroker) -> None:
    """It is for tests, and says nothing; a real one of the tests keeps nothing."""
    found = tested.broker.inspect(persistence=True)
    assert found.problems == ()
    assert len(found.warnings) == (1 if tested.real else 0)


# What no server of today says ------------------------------------------------------------------


class _Told:
    """A client that answers each command as it was told; an exception is raised."""

    def __init__(self) -> None:
        self.replies: dict[tuple[str, ...], Any] = {}
        broker: Any = connect("redis://h/0")
        broker._redis.client = lambda reply_timeout_s: self
        self.broker: Broker = broker

    def execute_command(self, *command: str) -> Any:
        reply = self.replies[command]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def inspect(self) -> Inspection:
        return self.broker.inspect(persistence=True)


@pytest.fixture
def told() -> _Told:
    """Return a broker that answers as it was told."""
    return _Told()


@pytest.mark.parametrize(
    ("info", "problem"),
    [
        ({"redis_version": "6.0.16"}, "is Redis 6.0.16; upgrade it to Redis 6.2 or newer"),
        ({"redis_version": "6.2.0"}, None),
        ({"redis_version": "255.255.255"}, None),
        ({"redis_version": 7.4}, None),
        (
            {"redis_version": "7.2.4", "valkey_version": "7.1.9"},
            "is Valkey 7.1.9; upgrade it to Valkey 7.2 or newer",
        ),
        ({"redis_version": "7.2.4", "valkey_version": "8.0.1"}, None),
        ({"redis_version": "unstable"}, None),
        ({}, None),
    ],
)
def test_an_old_version_is_a_problem(
    info: dict[str, Any], problem: str | None, told: _Told
) -> None:
    """An unknown one is not."""
    told.replies["INFO",] = {"aof_enabled": 1, **info}
    found = told.inspect()
    assert found.problems == ((f"broker redis://h/0 {problem}",) if problem else ())
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("refusal", "why"),
    [
        (
            "unknown command 'INFO', with args beginning with: ",
            "it has no INFO, as imitations for tests and development have none",
        ),
        ("not available for this plan", "broker redis://h/0 refuses: not available for this plan"),
    ],
)
def test_a_broker_without_info_is_used_unseen(refusal: str, why: str, told: _Told) -> None:
    """That is said plainly, with the reason."""
    told.replies["INFO",] = redis.ResponseError(refusal)
    found = told.inspect()
    assert found.problems == ()
    (warning,) = found.warnings
    assert warning.endswith(f"does not show its version, eviction and persistence: {why}")


def test_a_setting_that_a_server_does_not_know_is_not_seen(
    told: _Told,
) -> None:
    """Servers for hire hide some."""
    told.replies["INFO",] = {"aof_enabled": 0}
    told.replies["CONFIG", "GET", "save"] = []
    (warning,) = told.inspect().warnings
    assert "does not tell this user whether it saves snapshots" in warning


@pytest.mark.parametrize("asked", [("INFO",), ("CONFIG", "GET", "save")])
def test_silence_is_silence(asked: tuple[str, ...], told: _Told) -> None:
    """The caller waits for a broker that comes up; it is no finding."""
    told.replies["INFO",] = {"aof_enabled": 0}
    told.replies[asked] = redis.ConnectionError("away")
    with pytest.raises(BrokerUnavailable):
        told.inspect()
    told.replies[asked] = redis.exceptions.AuthenticationError("WRONGPASS")
    with pytest.raises(BrokerError, match="refuses user or password"):
        told.inspect()
