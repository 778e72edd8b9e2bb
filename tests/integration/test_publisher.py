"""Publishing to a real server: outages, forks, and the end of the process."""

from __future__ import annotations

import os
import signal as os_signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from support.brokers import NO_SERVER, raw_client, running_server, skip_or_fail
from support.waiting import wait_until

from lback_relay.broker import connect
from lback_relay.broker.embedded import find_server
from lback_relay.broker.keys import Keys
from lback_relay.config import SignalConfig
from lback_relay.publisher import Publisher

pytestmark = pytest.mark.broker

ROOT = Path(__file__).resolve().parents[2]
SIGNAL = SignalConfig(name="user_registered")

PROGRAM = """
import os, sys, threading, time, atexit, signal
sys.path.insert(0, {root!r})
from lback_relay.broker import connect
from lback_relay.config import SignalConfig
from lback_relay.publisher import Publisher
url, namespace = sys.argv[1:3]
SIGNAL = SignalConfig(name="user_registered")
def make(**options):
    return Publisher(lambda: connect(url, namespace=namespace), **options)
"""

QUIET = ("-W", "ignore:This process:DeprecationWarning")  # of 3.12: a fork beside threads

Stream = Callable[[], list[bytes]]


@pytest.fixture
def stream(redis_url: str, namespace: str) -> Stream:
    """Return what tells the signal's stream on the session's server."""
    return lambda: entries(redis_url, namespace)


def entries(url: str, namespace: str) -> list[bytes]:
    """Return what the signal's stream holds, in order."""
    client: Any = raw_client(url)
    held = [fields[b"e"] for _, fields in client.xrange(Keys(namespace).events(SIGNAL.name))]
    client.close()
    return held


def answers(port: int) -> bool:
    """Tell whether something listens at a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a port that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def own_server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server at a port known beforehand, whose process the test may stop."""
    binary = find_server()
    if binary is None:
        skip_or_fail(NO_SERVER)
    with subprocess.Popen(
        [str(binary), "--port", str(port), "--save", "", "--bind", "127.0.0.1"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
    ) as server:
        yield server
        server.terminate()
        server.wait(timeout=60)


@pytest.fixture
def run(redis_url: str, namespace: str) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Run a program that has ``make`` and ``SIGNAL`` at hand to its end."""

    # A child forked while another thread is being measured would wait for coverage's own lock.
    environ = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")}

    def run_program(code: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *QUIET, "-c", PROGRAM.format(root=str(ROOT)) + code]
        with subprocess.Popen(
            [*command, redis_url, namespace],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as program:
            try:
                out, err = program.communicate(timeout=60)
            finally:  # its forked children, should they hang
                with suppress(ProcessLookupError):
                    os.killpg(program.pid, os_signal.SIGKILL)
        return subprocess.CompletedProcess(command, program.returncode, out, err)

    return run_program


def numbered(count: int, start: int = 0) -> list[bytes]:
    """Return envelopes that tell their place."""
    return [str(number).encode() for number in range(start, start + count)]


@pytest.mark.parametrize("background", [True, False])
def test_eight_threads_publish_each_envelope_once(
    redis_url: str, namespace: str, stream: Stream, background: bool
) -> None:
    """In each thread's order."""
    publisher = Publisher(lambda: connect(redis_url, namespace=namespace), background=background)

    def send(sender: int) -> None:
        for number in range(300):
            publisher.publish(SIGNAL, f"{sender} {number}".encode())

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=100)
    assert publisher.flush(60.0)
    publisher.close()
    arrived = stream()
    assert len(arrived) == 2400
    for sender in range(8):
        own = [int(e.split()[1]) for e in arrived if e.startswith(b"%d " % sender)]
        assert own == list(range(300))


@pytest.mark.parametrize("background", [True, False])
def test_signals_sent_before_the_server_is_there_arrive_in_order(
    tmp_path: Path, namespace: str, background: bool
) -> None:
    """Publishing returns, and what was queued arrives once the server has come."""
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    publisher = Publisher(
        lambda: connect(url, namespace=namespace, timeout_s=5.0),
        background=background,
        flush_timeout_s=60.0,
    )
    for envelope in numbered(1000):
        publisher.publish(SIGNAL, envelope)
    assert publisher.counts()["queued"] == 1000
    with own_server(tmp_path, port):
        wait_until(lambda: publisher.counts()["queued"] == 0, 60.0, "an empty queue")
        assert entries(url, namespace) == numbered(1000)
        publisher.close()


def test_a_server_that_hangs_holds_up_nobody(tmp_path: Path, namespace: str) -> None:
    """Callers return; the call that was not answered is applied late, and doubles nothing."""
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    publisher = Publisher(
        lambda: connect(url, namespace=namespace, timeout_s=0.25),
        background=False,
        flush_timeout_s=60.0,
    )
    with own_server(tmp_path, port) as server:
        wait_until(lambda: answers(port), what="the server")
        publisher.publish(SIGNAL, b"0")
        assert publisher.flush()
        server.send_signal(os_signal.SIGSTOP)
        try:
            for envelope in numbered(200, start=1):
                publisher.publish(SIGNAL, envelope)
            assert publisher.counts()["queued"] == 200
        finally:
            server.send_signal(os_signal.SIGCONT)
        wait_until(lambda: publisher.counts()["queued"] == 0, 60.0, "an empty queue")
        assert entries(url, namespace) == numbered(201)
        publisher.close()


def test_a_server_that_restarts_costs_no_signal(namespace: str) -> None:
    """A sync caller's connection is gone; the envelope is there all the same."""
    with running_server() as server:
        publisher = Publisher(
            lambda: connect(server.url, namespace=namespace, timeout_s=30.0),
            background=False,
            publish_timeout_s=30.0,
        )
        client: Any = raw_client(server.url)
        publisher.publish(SIGNAL, b"0")
        publisher.publish(SIGNAL, b"1")
        assert client.client_kill_filter(_type="normal", skipme=True) >= 1
        publisher.publish(SIGNAL, b"2")
        assert entries(server.url, namespace) == numbered(3)
        assert publisher.counts()["failed"] <= 1, "the client may have seen it before the call"
        client.close()
        publisher.close()


def test_a_wrong_password_is_said_without_the_password(
    redis_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The server refuses; the application runs on; the envelope is kept."""
    url = redis_url.replace("redis://", "redis://nobody:hunter2@")
    publisher = Publisher(
        lambda: connect(url, namespace=namespace), background=False, flush_timeout_s=0.0
    )
    publisher.publish(SIGNAL, b"x")
    wait_until(lambda: "refused a signal" in caplog.text, what="the log line")
    assert publisher.counts()["queued"] == 1
    publisher.close()
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("ending", ["pass", "sys.exit(3)", "raise ZeroDivisionError"])
def test_the_end_of_a_process_flushes(
    run: Callable[[str], subprocess.CompletedProcess[str]], stream: Stream, ending: str
) -> None:
    """Whatever way the main thread ends."""
    ran = run(
        "publisher = make()\n"
        "for number in range(5000): publisher.publish(SIGNAL, str(number).encode())\n" + ending
    )
    assert "relay" not in ran.stderr.replace("lback_relay", "")
    assert stream() == numbered(5000)


def test_a_signal_of_an_exit_handler_is_flushed(
    run: Callable[[str], subprocess.CompletedProcess[str]], stream: Stream
) -> None:
    """Also where it is the first of all and no thread can be started any more."""
    ran = run("publisher = make()\natexit.register(publisher.publish, SIGNAL, b'0')\n")
    assert "Traceback" not in ran.stderr
    assert stream() == [b"0"]


def test_the_end_waits_no_longer_than_it_may(namespace: str) -> None:
    """With the broker away it says what is lost, and ends."""
    code = PROGRAM.format(root=str(ROOT)) + (
        "publisher = make(flush_timeout_s=0.2)\n"
        "for _ in range(7): publisher.publish(SIGNAL, b'x')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, "redis://127.0.0.1:1/0", namespace],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0
    assert "7 signals" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_preloading_server_forks_publishers(
    run: Callable[[str], subprocess.CompletedProcess[str]], stream: Stream
) -> None:
    """As gunicorn --preload does: made in the master, used there and in its children.

    The master's queue stays the master's, each child has its own producer and connection, and a
    child that publishes nothing opens nothing.
    """
    ran = run(
        "publisher = make(background=False)\n"
        "publisher.publish(SIGNAL, b'master 0')\n"
        "queued = make()\n"
        "queued._open_line().sending.inbox.append((SIGNAL, b'queued by the master', None))\n"
        "idle = make()\n"
        "children = []\n"
        "for child in range(3):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        assert publisher.counts()['published'] == 0\n"
        "        for number in range(50):\n"
        "            publisher.publish(SIGNAL, f'child {child} {number}'.encode())\n"
        "        queued.publish(SIGNAL, f'child {child} last'.encode())\n"
        "        sys.exit(0)\n"
        "    children.append(pid)\n"
        "publisher.publish(SIGNAL, b'master 1')\n"
        "for pid in children: assert os.waitpid(pid, 0)[1] == 0\n"
        "publisher.publish(SIGNAL, b'master 2')\n"
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    arrived = stream()
    for child in range(3):
        own = [e for e in arrived if e.startswith(b"child %d" % child)]
        assert own[:50] == [b"child %d %d" % (child, number) for number in range(50)]
        assert own[50:] == [b"child %d last" % child]
    assert [e for e in arrived if e.startswith(b"master")] == [b"master %d" % n for n in range(3)]
    assert arrived.count(b"queued by the master") == 1


def test_a_fork_while_threads_publish_harms_nobody(
    run: Callable[[str], subprocess.CompletedProcess[str]], stream: Stream
) -> None:
    """Locks may be held and the thread in the middle of a call at that moment."""
    ran = run(
        "publisher = make()\n"
        "def send():\n"
        "    for number in range(3000): publisher.publish(SIGNAL, b'parent')\n"
        "threads = [threading.Thread(target=send) for _ in range(2)]\n"
        "for thread in threads: thread.start()\n"
        "children = []\n"
        "for _ in range(5):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        publisher.publish(SIGNAL, b'child')\n"
        "        publisher.close()\n"
        "        os._exit(0)\n"
        "    children.append(pid)\n"
        "for pid in children: assert os.waitpid(pid, 0)[1] == 0\n"
        "for thread in threads: thread.join()\n"
    )
    assert ran.returncode == 0, ran.stderr
    arrived = stream()
    assert (arrived.count(b"parent"), arrived.count(b"child")) == (6000, 5)


def test_ctrl_c_still_flushes(redis_url: str, namespace: str, stream: Stream) -> None:
    """The interrupted program ends by KeyboardInterrupt, which ends it in order."""
    code = PROGRAM.format(root=str(ROOT)) + (
        "publisher = make(background=False)\n"
        "number = 0\n"
        "try:\n"
        "    while True:\n"
        "        publisher.publish(SIGNAL, str(number).encode())\n"
        "        number += 1\n"
        "        if number == 100: print('ready', flush=True)\n"
        "finally:\n"
        "    print(number, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, redis_url, namespace],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        os.kill(program.pid, os_signal.SIGINT)
        out, _ = program.communicate(timeout=100)
    returned = int(out.split()[-1])
    arrived = stream()
    assert arrived[:returned] == numbered(returned)
    assert len(arrived) <= returned + 1
