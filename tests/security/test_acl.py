"""The users of ``docs/security.md``: the whole flow works under them, and nothing beyond it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from security.support.attacks import AttackTable
from support.brokers import binary_of, raw_client, running_server
from support.waiting import wait_until
from support.workers import GROUP, SIGNAL, publish, settled, worker_starter

from lback_relay.broker import Broker, connect
from lback_relay.broker.base import DeadLetterRecord
from lback_relay.errors import BrokerError, RetryLater
from lback_relay.remote import RemoteDispatcher

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"
EVENTS = f"lback:{{{SIGNAL}}}:events"
STREAMS_OF_OTHERS = "other:{user_registered}:events"


def users() -> dict[str, list[str]]:
    """Return the rules of each user that the document has."""
    lines = re.findall(r"^user (\w+) (on .*)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    # A selector, in brackets, is one rule.
    return {name: re.findall(r"\([^)]*\)|\S+", rules) for name, rules in lines}


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    """Yield a URL for each user of the document, and one for the administrator."""
    with running_server(binary=binary_of("redis")) as server:
        with raw_client(server.url) as client:
            for name, rules in users().items():
                client.execute_command("ACL", "SETUSER", name, *rules)
        port = server.url.removeprefix("redis://").partition("/")[0]
        made = {name: f"redis://{name}:{name.upper()}-PASSWORD@{port}/0" for name in users()}
        yield {**made, "admin": server.url}


def test_the_whole_flow_runs_under_the_documented_users(urls: dict[str, str]) -> None:
    """Sent, handled, dead-lettered, found, retried by hand and dropped, heard as a broadcast."""
    dispatcher = RemoteDispatcher()
    handled: list[Any] = []

    @dispatcher.receiver(SIGNAL, max_attempts=2)
    def handle(sender: object, number: int, **_: Any) -> None:
        if number < 0:
            raise RetryLater(0.01)
        handled.append(number)

    publisher = connect(urls["publisher"], namespace="lback", timeout_s=10.0)
    workers = connect(urls["worker"], namespace="lback", timeout_s=10.0)
    try:
        with worker_starter(urls["worker"], "lback") as start:
            start(dispatcher)
            publish(publisher, [{"number": number} for number in range(20)] + [{"number": -1}])
            publish(publisher, [{"number": 20}], delivery=("queue", "broadcast"))
            wait_until(
                lambda: len(handled) >= 21 and settled(workers), timeout_s=60, what="handled"
            )
            assert sorted(handled) == list(range(21))
            wait_until(lambda: len(dead_letters(workers)) == 1, timeout_s=60, what="dead")
            assert retried(workers) == 1
            wait_until(
                lambda: settled(workers) and len(dead_letters(workers)) == 1,
                timeout_s=60,
                what="dead again",
            )
            # What a worker calls, too, where it would only log that it is refused.
            workers.trim([SIGNAL], GROUP, group_ttl_s=600.0)
            workers.reap([SIGNAL], GROUP, idle_s=3600.0)
        assert workers.leave([SIGNAL], GROUP, "a-consumer-that-is-gone")
        assert dropped(workers) == 1
        assert not workers.dead_letter_streams()
    finally:
        publisher.close()
        workers.close()


def dead_letters(workers: Broker) -> list[DeadLetterRecord]:
    """Find the dead letters, by the calls that ``lback-relay dead`` makes."""
    found = []
    for signal, group, count, _ in workers.dead_letter_streams():
        page = workers.dead_letters(signal, group, count=count + 1, until=str(workers.now_ms()))
        found += workers.find_dead_letters(signal, group, [letter.entry_id for letter in page])
    return found


def retried(workers: Broker) -> int:
    """Retry all dead letters; return how many."""
    assert workers.workers()
    return workers.retry_dead_letters(SIGNAL, GROUP, dead_letters(workers))


def dropped(workers: Broker) -> int:
    """Drop all dead letters; return how many."""
    ids = [letter.entry_id for letter in dead_letters(workers)]
    return workers.drop_dead_letters(SIGNAL, GROUP, ids)


FORBIDDEN = {
    "publisher": [
        ("XRANGE", EVENTS, "-", "+"),
        ("XREAD", "STREAMS", EVENTS, "0"),
        ("XREADGROUP", "GROUP", GROUP, "c", "STREAMS", EVENTS, ">"),
        ("XREVRANGE", EVENTS, "+", "-"),
        ("DUMP", EVENTS),
        ("DEL", EVENTS),
        ("SET", EVENTS, "gone"),
        ("GET", EVENTS),
        ("XTRIM", EVENTS, "MAXLEN", "0"),
        ("EVAL", "return redis.call('XRANGE', KEYS[1], '-', '+')", "1", EVENTS),
        ("XADD", STREAMS_OF_OTHERS, "*", "e", "x"),
        ("PUBLISH", "other", "x"),
        ("SUBSCRIBE", f"lback:{{{SIGNAL}}}:broadcast"),
        ("SCAN", "0"),
        ("KEYS", "*"),
        ("MONITOR",),
        ("CONFIG", "GET", "requirepass"),
        ("ACL", "LIST"),
        ("FLUSHALL",),
    ],
    "worker": [
        ("CONFIG", "GET", "requirepass"),
        ("CONFIG", "SET", "maxmemory", "1"),
        ("ACL", "LIST"),
        ("ACL", "SETUSER", "worker", "+@all"),
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("SHUTDOWN", "NOSAVE"),
        ("ROLE",),
        ("MONITOR",),
        ("CLIENT", "LIST"),
        ("CLIENT", "KILL", "TYPE", "normal"),
        ("REPLICAOF", "NO", "ONE"),
        ("MODULE", "LIST"),
        ("SAVE",),
        ("KEYS", "*"),
        ("XRANGE", STREAMS_OF_OTHERS, "-", "+"),
        ("GET", "other"),
        ("SUBSCRIBE", "other"),
        ("PUBLISH", "other", "x"),
    ],
}


@pytest.mark.parametrize("user", FORBIDDEN)
def test_a_user_can_do_nothing_beyond_its_work(
    user: str, urls: dict[str, str], attack_table: AttackTable
) -> None:
    """A publisher reads nothing; a worker administers nothing; neither touches other keys."""
    done = []
    for command in FORBIDDEN[user]:
        with raw_client(urls[user]) as client:
            try:
                client.execute_command(*command)
            except redis.exceptions.NoPermissionError:
                continue
            except redis.exceptions.ResponseError as error:
                if "NOPERM" in str(error) or "can't run this command" in str(error):
                    continue
            done.append(command)
    count = len(FORBIDDEN[user])
    attack_table.record(f"a {user}'s user beyond its work", count, count - len(done))
    assert done == []


def test_a_wrong_password_is_refused_and_not_quoted(
    urls: dict[str, str], attack_table: AttackTable
) -> None:
    """Neither by the error nor by what it was raised from."""
    url = urls["worker"].replace("WORKER-PASSWORD", "wrong-c0ffee")
    broker = connect(url, namespace="lback", timeout_s=5.0)
    with pytest.raises(BrokerError) as info:
        broker.ping()
    broker.close()
    stopped = "c0ffee" not in f"{info.value!r}{info.value.__cause__!r}{broker!r}"
    attack_table.record("a broker's password in an error", 1, int(stopped))
    assert stopped
