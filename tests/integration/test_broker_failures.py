"""What a broker says, and how soon, when Redis is away, silent, or refuses."""

from __future__ import annotations

import logging
import random
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from faults.support.proxy import Proxy
from support.brokers import raw_client, running_server
from support.deliveries import GROUP, SIGNAL, bodies, claim, publish, read
from support.waiting import wait_until

from lback_relay.broker import Broker, DeadLetter, Retry, Settlement, connect, subscription
from lback_relay.broker.base import EVENTS, DeadLetterRecord
from lback_relay.broker.embedded import EmbeddedServer
from lback_relay.broker.keys import Keys
from lback_relay.errors import BrokerError, BrokerUnavailable

PASSWORD = "hunter2-hunter2"
LETTER = DeadLetterRecord(
    entry_id="1-1",
    encoded=b"1",
    letter=DeadLetter(handler="h", reason="attempts", error="E"),
    signal=SIGNAL,
    group=GROUP,
    source=EVENTS,
    source_id="1-0",
    dead_at_ms=1,
)
CALLS: dict[str, Any] = {
    "ping": lambda broker: broker.ping(),
    "publish": lambda broker: publish(broker, b"1"),
    "ensure_groups": lambda broker: broker.ensure_groups([SIGNAL], GROUP),
    "read": read,
    "blocking read": lambda broker: broker.read([SIGNAL], GROUP, "a", count=1, block_s=0.1),
    "claim": claim,
    "promote": lambda broker: broker.promote([SIGNAL], GROUP),
    "trim": lambda broker: broker.trim([SIGNAL]),
    "leave": lambda broker: broker.leave([SIGNAL], GROUP, "a"),
    "reap": lambda broker: broker.reap([SIGNAL], GROUP, idle_s=1),
    "inspect": lambda broker: broker.inspect(persistence=True),
    "heartbeat": lambda broker: broker.heartbeat("w", {}, ttl_s=1),
    "workers": lambda broker: broker.workers(),
    "backlog": lambda broker: broker.backlog(SIGNAL, GROUP),
    "dead_letters": lambda broker: broker.dead_letters(SIGNAL, GROUP, count=1),
    "dead_letter_streams": lambda broker: broker.dead_letter_streams(),
    "find_dead_letters": lambda broker: broker.find_dead_letters(SIGNAL, GROUP, ["1-1"]),
    "retry_dead_letters": lambda broker: broker.retry_dead_letters(SIGNAL, GROUP, [LETTER]),
    "drop_dead_letters": lambda broker: broker.drop_dead_letters(SIGNAL, GROUP, ["1-1"]),
    "now_ms": lambda broker: broker.now_ms(),
    "subscribe": lambda broker: broker.subscribe([SIGNAL]),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@pytest.fixture
def proxy(redis_url: str) -> Iterator[Proxy]:
    """Yield a way to the session's server that can be made a bad one."""
    with Proxy(
        int(redis_url.partition("127.0.0.1:")[2].partition("/")[0]), random.Random(1)
    ) as way:
        yield way


def _open(url: str) -> str:
    """Return the URL without the password that the faults' servers have: the session's has none."""
    scheme, _, place = url.rpartition("@")
    return f"{scheme.partition('://')[0]}://{place}"


def _chain(error: BaseException | None) -> str:
    """Return all that a traceback would print of an error and its causes."""
    text = ""
    while error is not None:
        text += f"{error!r} {error}\n"
        error = error.__cause__ or error.__context__
    return text


# away ------------------------------------------------------------------------------------------


@every_call
def test_a_server_that_is_not_there_is_unavailable(call: Any) -> None:
    """Each method says so, names the masked URL, and no password."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connecting is refused
        url = f"redis://:{PASSWORD}@127.0.0.1:{taken.getsockname()[1]}/0"
        broker = connect(url, timeout_s=5.0)
        with pytest.raises(
            BrokerUnavailable, match=r"redis://:\*\*\*@127\.0\.0\.1.*not answer"
        ) as e:
            call(broker)
        assert PASSWORD not in _chain(e.value) + repr(broker)


@every_call
def test_a_silent_server_is_unavailable_within_the_timeout(call: Any) -> None:
    """It takes the connection, and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        broker = connect(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", timeout_s=0.1)
        began = monotonic()
        with pytest.raises(BrokerUnavailable):
            call(broker)
        # The blocking read waits 5 s longer than it blocks; the others a good deal less.
        assert monotonic() - began < 20
        broker.close()


def test_a_broker_works_again_after_its_server_was_away(tmp_path: Path) -> None:
    """The same object, though the new server does not know the scripts."""
    server = EmbeddedServer(tmp_path)
    server.start()
    broker = connect(server.url, timeout_s=5.0)
    publish(broker, b"1")
    server.stop()
    for call in (CALLS["publish"], CALLS["claim"]):
        with pytest.raises(BrokerUnavailable):
            call(broker)
    with server:
        broker.ensure_groups([SIGNAL], GROUP)
        assert publish(broker, b"1", b"2") == 1
        taken = read(broker)
        assert bodies(taken) == [b"1", b"2"]
        retry = Retry(attempts={"h": 1}, delay_s=0)
        settlements = [Settlement(delivery=d, retries=[retry]) for d in taken]
        assert broker.settle(settlements, GROUP, "a") == []
        broker.close()


@every_call
def test_a_broker_works_again_however_often_a_call_has_failed(tmp_path: Path, call: Any) -> None:
    """The client's pool makes a hundred connections; one that has failed must not count."""
    server = EmbeddedServer(tmp_path)
    server.start()
    broker = connect(server.url, timeout_s=5.0)
    server.stop()
    for _ in range(120):
        with pytest.raises(BrokerUnavailable):
            call(broker)
    with server:
        broker.ensure_groups([SIGNAL], GROUP)
        try:
            call(broker)
        except BrokerUnavailable:
            raise
        except BrokerError:
            pass  # nothing is there that it could find
        broker.close()


def test_closing_ends_a_read_that_waits(broker: Broker, redis_url: str) -> None:
    """With BrokerUnavailable and nothing else; the broker can be used afterwards."""
    broker.ensure_groups([SIGNAL], GROUP)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            broker.read([SIGNAL], GROUP, "a", count=1, block_s=60.0)
        except BaseException as error:
            errors.append(error)

    with raw_client(redis_url) as client:
        for _ in range(5):
            waiting = threading.Thread(target=wait)
            waiting.start()
            wait_until(
                lambda: any("b" in found["flags"] for found in client.client_list()),
                what="a blocked reader",
            )
            broker.close()
            waiting.join(30.0)
            assert not waiting.is_alive()
    assert [type(error) for error in errors] == [BrokerUnavailable] * 5
    broker.ping()


def test_a_black_hole_ends_a_read_within_the_block_and_five_seconds(
    proxy: Proxy, namespace: str
) -> None:
    """A half-open link does not hang the loop; it heals by itself."""
    broker = connect(_open(proxy.url), namespace=namespace, timeout_s=1.0)
    broker.ensure_groups([SIGNAL], GROUP)
    assert broker.read([SIGNAL], GROUP, "a", count=1, block_s=0.05) == []
    proxy.black_hole()
    with pytest.raises(BrokerUnavailable):
        broker.read([SIGNAL], GROUP, "a", count=1, block_s=0.05)
    with pytest.raises(BrokerUnavailable):
        publish(broker, b"1")
    proxy.heal()
    assert wait_until(lambda: _publishes(broker), what="the broker") in (0, 1)
    # The read that was held up may have taken it, after all; then it is claimed.
    assert bodies(read(broker, "b") or claim(broker, "b")) == [b"1"]
    broker.close()


def _publishes(broker: Broker) -> int | None:
    try:
        return publish(broker, b"1") or 1
    except BrokerUnavailable:
        return None


def test_a_silent_subscription_is_noticed_and_comes_back(
    proxy: Proxy, namespace: str, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a ping of its own, because nothing else would ever tell."""
    monkeypatch.setattr(subscription, "PING_AFTER_S", 0.1)
    far = connect(_open(proxy.url), namespace=namespace, timeout_s=0.5)
    heard = far.subscribe([SIGNAL])
    assert heard.get(1.0) is None, "pings that are answered are nobody's business"
    proxy.black_hole()
    with pytest.raises(BrokerUnavailable, match="silent"):
        heard.get(60.0)
    with pytest.raises(BrokerUnavailable):
        heard.get(60.0)
    proxy.heal()
    sent = 0

    def hears() -> tuple[str, bytes] | None:
        nonlocal sent
        sent += 1
        broker.publish(
            SIGNAL, [b"x"], producer_id="p", first_sequence=sent, queue=False, broadcast=True
        )
        try:
            return heard.get(0.05)
        except BrokerUnavailable:
            return None

    assert wait_until(hears, what="a broadcast") == (SIGNAL, b"x")
    heard.close()
    far.close()


# refused ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded_url() -> Iterator[str]:
    """Yield the URL, without a password, of a server that wants one."""
    with running_server() as server:
        with raw_client(server.url) as client:
            client.config_set("requirepass", PASSWORD)
        yield server.url


def _with(url: str, userinfo: str) -> str:
    return url.replace("redis://", f"redis://{userinfo}@")


@pytest.mark.parametrize(
    ("userinfo", "said"),
    [
        ("", "wants a password; put user and password into the broker URL"),
        (f":{PASSWORD}-wrong", "refuses user or password; check both in the broker URL"),
        (f"nobody:{PASSWORD}", "refuses user or password; check both in the broker URL"),
    ],
)
def test_a_refused_password_is_told_with_its_remedy(
    guarded_url: str, userinfo: str, said: str
) -> None:
    """It is no outage: trying again would not help. The password is not shown."""
    broker = connect(_with(guarded_url, userinfo) if userinfo else guarded_url)
    for call in (CALLS["ping"], CALLS["publish"], CALLS["claim"], CALLS["subscribe"]):
        with pytest.raises(BrokerError, match=said) as refused:
            call(broker)
        assert not isinstance(refused.value, BrokerUnavailable)
        assert PASSWORD not in _chain(refused.value)
    broker.close()


def test_the_right_password_is_taken_and_never_shown(
    guarded_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in a repr nor in a log of any level."""
    with caplog.at_level(logging.DEBUG):
        broker = connect(_with(guarded_url, f":{PASSWORD}"), client_name="a name with spaces")
        broker.ping()
        broker.close()
    assert PASSWORD not in repr(broker) + caplog.text


def test_a_password_that_nobody_asked_for_is_told(redis_url: str) -> None:
    """Older servers name the remedy; all refuse."""
    broker = connect(_with(redis_url, "someone:else"))
    with pytest.raises(BrokerError) as refused:
        broker.ping()
    assert not isinstance(refused.value, BrokerUnavailable)
    broker.close()


def test_a_user_without_rights_is_told(guarded_url: str, namespace: str) -> None:
    """What the server says names the command or the key."""
    with raw_client(_with(guarded_url, f":{PASSWORD}")) as client:
        client.execute_command(
            "ACL", "SETUSER", "reader", "on", f">{PASSWORD}", "~*", "+ping", "+xrange"
        )
    broker = connect(_with(guarded_url, f"reader:{PASSWORD}"), namespace=namespace)
    broker.ping()
    for call in (CALLS["publish"], CALLS["trim"]):
        with pytest.raises(BrokerError, match=r"forbids this user .* extend the user's ACL") as e:
            call(broker)
        assert not isinstance(e.value, BrokerUnavailable)
    broker.close()


def test_keys_of_another_kind_are_told(broker: Broker, namespace: str, redis_url: str) -> None:
    """Somebody else uses the namespace: each method says so, and none hangs or loops."""
    keys = Keys(namespace)
    broker.ensure_groups([SIGNAL], GROUP)
    publish(broker, b"1")
    (taken,) = read(broker)
    with raw_client(redis_url) as client:
        for key in (keys.events(SIGNAL), keys.dead(SIGNAL, GROUP), keys.retry(SIGNAL, GROUP)):
            client.delete(key)
            client.set(key, "x")
        letter = DeadLetter(handler="", reason="crashed", error="")
        calls: list[Callable[[], object]] = [
            lambda: publish(broker, b"2", first=2),
            lambda: broker.ensure_groups([SIGNAL], GROUP),
            lambda: read(broker),
            lambda: claim(broker),
            lambda: broker.renew([taken], GROUP, "a"),
            lambda: broker.give_back([taken], GROUP, "a"),
            lambda: broker.settle([Settlement(delivery=taken)], GROUP, "a"),
            lambda: broker.settle([Settlement(delivery=taken, dead_letters=[letter])], GROUP, "a"),
            lambda: broker.promote([SIGNAL], GROUP),
            lambda: broker.trim([SIGNAL]),
            lambda: broker.reap([SIGNAL], GROUP, idle_s=1),
            lambda: broker.leave([SIGNAL], GROUP, "a"),
            lambda: broker.backlog(SIGNAL, GROUP),
            lambda: broker.dead_letters(SIGNAL, GROUP, count=1),
            lambda: broker.dead_letter_streams(SIGNAL, GROUP),
            lambda: broker.find_dead_letters(SIGNAL, GROUP, ["1-1"]),
            lambda: broker.retry_dead_letters(SIGNAL, GROUP, [LETTER]),
            lambda: broker.drop_dead_letters(SIGNAL, GROUP, ["1-1"]),
        ]
        for call in calls:
            with pytest.raises(BrokerError, match=r"redis://127.*WRONGTYPE") as refused:
                call()
            assert not isinstance(refused.value, BrokerUnavailable)


# failed over -----------------------------------------------------------------------------------


def test_a_replica_is_no_broker_and_connections_to_it_are_dropped(namespace: str) -> None:
    """After a failover the name may lead elsewhere, but only new connections go there."""
    with running_server() as server:
        broker = connect(server.url, namespace=namespace, timeout_s=5.0)
        broker.ensure_groups([SIGNAL], GROUP)
        publish(broker, b"1")
        (taken,) = read(broker)
        with raw_client(server.url) as client:
            before = {found["id"] for found in client.client_list()}
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
            settlement = Settlement(delivery=taken, retries=[Retry(attempts={"h": 1}, delay_s=0)])
            for call in (
                lambda: publish(broker, b"2", first=2),
                lambda: broker.settle([settlement], GROUP, "a"),
            ):
                with pytest.raises(BrokerUnavailable, match=r"can't serve now.*READONLY|read only"):
                    call()
            client.execute_command("REPLICAOF", "NO", "ONE")
            assert publish(broker, b"2", first=2) == 1
            ours = {found["id"] for found in client.client_list(_type="normal")}
            assert ours & before == {str(client.client_id())}
            assert broker.settle([settlement], GROUP, "a") == []
        broker.close()
