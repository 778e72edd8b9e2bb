"""A real Lback project in a folder of its own, and the servers that run it, as processes.

It is the demo's shop. The framework keeps global state, writes ``config.json`` into the current
folder and starts threads, so that it never runs inside the test process.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lback_relay.demo.processes import Child
from lback_relay.demo.project_files import create_project, project_environment
from lback_relay.demo.registration import wait_for_answer
from lback_relay.demo.scenario import web_socket

SERVERS = ("waitress", "gunicorn", "gunicorn --preload", "runserver")
TIMEOUT_S = 90.0

# The reloader watches all that is imported; someone who edits the sources must not restart it.
_RUNSERVER = """
import functools, os, sys
sys.path.insert(0, os.getcwd())
from lback.commands.runner import RunnerCommands
from lback.core import server
server.run_simple = functools.partial(server.run_simple, exclude_patterns=[sys.argv[1] + "/*"])
RunnerCommands().runserver()
"""
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class LbackProject:
    """One project.

    Attributes:
        folder: where it is; its processes run there.
        environment: all of their environment.
        host: ``name:port`` of its web application.
    """

    folder: Path
    environment: dict[str, str]
    host: str
    listening: socket.socket = field(repr=False)

    def append(self, file: str, text: str) -> None:
        """Add to one of its files, or create it."""
        path = self.folder / file
        path.write_text((path.read_text() if path.exists() else "") + text)

    def run(self, code: str, *arguments: str, check: bool = True) -> str:
        """Run Python code in the project; return its output, or fail with what it said."""
        ran = subprocess.run(
            [sys.executable, "-c", "import sys; sys.path.insert(0, '')\n" + code, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert not check or ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout if check else ran.stdout + ran.stderr

    def run_json(self, code: str, *arguments: str) -> Any:
        """Run code whose last line of output is JSON; return that."""
        return json.loads(self.run(code, *arguments).splitlines()[-1])

    def seed(self) -> None:
        """Create its tables and the group that users join."""
        self.run("import seed; seed.main()")


@contextmanager
def lback_project(
    folder: Path,
    *,
    redis_url: str | None,
    namespace: str = "lback",
    smtp_port: int = 1,
    login: str = "shop@example.org",
) -> Iterator[LbackProject]:
    """Create and seed a project; port 1 as the mail server refuses connections.

    Args:
        folder: must not exist.
        redis_url: of the broker; None runs it without the relay.
        namespace: the relay's.
        smtp_port: of the mail server on 127.0.0.1.
        login: what its processes call themselves to the mail server.
    """
    with web_socket() as listening:
        host = f"127.0.0.1:{listening.getsockname()[1]}"
        environment = project_environment(
            host=host, smtp_port=smtp_port, login=login, relay_url=redis_url
        )
        environment["LBACK_RELAY_NAMESPACE"] = namespace
        environment["XDG_STATE_HOME"] = os.environ["XDG_STATE_HOME"]  # the tests' own
        project = LbackProject(create_project(folder), environment, host, listening)
        project.seed()
        yield project


@contextmanager
def served(project: LbackProject, server: str, *, workers: int = 2) -> Iterator[Child]:
    """Run the project's web application under one of :data:`SERVERS` until the block ends."""
    fd = project.listening.fileno()
    if server == "waitress":
        arguments = ["-m", "lback_relay.demo.web", str(fd)]
    elif server == "runserver":
        project.listening.close()  # it opens its own, on the address that the settings name
        arguments = ["-c", _RUNSERVER, str(ROOT)]
    else:
        arguments = ["-m", *server.split(), "--bind", f"fd://{fd}", "--workers", str(workers)]
        arguments += ["--worker-tmp-dir", str(project.folder)]
        arguments += ["myproject.wsgi:application"]
    log = project.folder.parent / f"{project.folder.name}-web.log"
    with Child(
        server,
        arguments,
        folder=project.folder,
        environment=project.environment,
        log=log,
        pass_fds=[] if server == "runserver" else [fd],
    ) as child:
        wait_for_answer(project.host, timeout_s=TIMEOUT_S, check=child.check)
        yield child
