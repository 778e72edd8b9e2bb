"""The demo's course: the same project without the relay, then with it.

It starts real processes in a folder that it is given and knows no terminal; the broker's URL and
the mail server are its caller's. Durations are seconds.
"""

from __future__ import annotations

import contextlib
import math
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from lback_relay.demo.figures import Figures, count
from lback_relay.demo.processes import AT_ONCE_S, TAIL_LINES, Child, DemoFailed
from lback_relay.demo.project_files import create_project, project_environment
from lback_relay.demo.registration import Registration, register, wait_for_answer
from lback_relay.demo.smtp import HOST, SmtpServer

USERS_WITHOUT: Final = 5
WORKERS: Final = ("worker-1", "worker-2")
# Few, so that one worker alone can't keep up with the registrations and both have to work.
SLOTS: Final = 3
HANDLER_MODULES: Final = ("lback_relay.lback.email_handler", "myproject.handlers")
GROUP: Final = "shop"
WEB_START_S: Final = 30.0
WORKER_START_S: Final = 30.0
SEED_S: Final = 60.0
# Beyond the time that the mails take anyway: the start of the workers, retries.
MAIL_GRACE_S: Final = 30.0
POLL_S: Final = 0.2


class Reporter(Protocol):
    """Whom the course tells how far it is."""

    def say(self, text: str) -> None:
        """Tell one thing."""

    def advance(self, what: str, done: int, total: int) -> None:
        """Tell that ``done`` of ``total`` are done; ``done`` never falls for the same ``what``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where the course is played.

    Attributes:
        folder: the demo's own, existing folder; project and logs go below it.
        smtp: the running mail server.
        web: a bound TCP socket, not yet listening; both web applications serve on it, one after
            the other, so that links in mails stay right.
        reporter: is told the progress.
        hold: holds OS signals back, so that none comes between the start of a process and the note
            that it runs.
        started: every process that was started.
    """

    folder: Path
    smtp: SmtpServer
    web: socket.socket
    reporter: Reporter
    hold: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    started: list[Child] = field(default_factory=list)

    @property
    def project(self) -> Path:
        """The project's folder."""
        return self.folder / "project"

    @property
    def host(self) -> str:
        """``name:port`` of the web application."""
        return f"{HOST}:{self.web.getsockname()[1]}"

    def logs(self) -> str:
        """Return the end of every process's log, under its name."""
        parts = []
        for log in sorted(self.folder.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
            parts.append("\n    ".join([f"the end of {log.stem}'s log:", *lines]))
        return "\n".join(parts)

    def close(self) -> None:
        """End every process that still runs, without waiting for a drain."""
        for child in reversed(self.started):
            child.stop(AT_ONCE_S)

    def start(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        relay_url: str | None = None,
        pass_fds: Sequence[int] = (),
    ) -> Child:
        """Start one of the project's processes; its login at the mail server is its name."""
        environment = project_environment(
            host=self.host,
            smtp_port=self.smtp.port,
            login=f"{name}@example.org",
            relay_url=relay_url,
        )
        environment["XDG_STATE_HOME"] = str(self.folder / "state")  # where the relay spools
        with self.hold():
            child = Child(
                name,
                arguments,
                folder=self.project,
                environment=environment,
                log=self.folder / f"{name}.log",
                pass_fds=pass_fds,
            )
            self.started.append(child)
        return child

    def start_web(self, name: str, *, relay_url: str | None = None) -> Child:
        """Start the web application; ``wait_for_answer`` tells when it serves."""
        descriptor = self.web.fileno()
        return self.start(
            name,
            ["-m", "lback_relay.demo.web", str(descriptor)],
            relay_url=relay_url,
            pass_fds=[descriptor],
        )


def web_socket() -> socket.socket:
    """Return a TCP socket on a free port of 127.0.0.1."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((HOST, 0))
    return bound


def prepare(stage: Stage) -> None:
    """Create the project and its database.

    Raises:
        DemoFailed: the project could not be seeded.
    """
    stage.reporter.say("Creating a Lback project")
    create_project(stage.project)
    with stage.start("seed", ["seed.py"]) as seed:
        seed.wait(SEED_S)


def without_relay(stage: Stage, *, users: int = USERS_WITHOUT) -> list[float]:
    """Register users with Lback as it is; return the seconds that each took.

    Raises:
        DemoFailed: the application did not start, or a registration failed.
    """
    stage.reporter.say("Starting the shop without the relay")
    with stage.start_web("web-without-relay") as web:
        wait_for_answer(stage.host, timeout_s=WEB_START_S, check=web.check)
        made = _register(stage, "without the relay", "before", users, [web])
        refused = [registration for registration in made if not registration.accepted]
        if refused:
            raise DemoFailed(f"{_failed(refused)}; {web.tail()}")
    return [registration.took_s for registration in made]


def with_relay(stage: Stage, *, relay_url: str, users: int, without_s: Sequence[float]) -> Figures:
    """Register users with the relay and two workers, wait for their mails, and count.

    Args:
        stage: where; :func:`prepare` was called.
        relay_url: of the running broker.
        users: how many to register, at least 1.
        without_s: what :func:`without_relay` returned.

    Raises:
        DemoFailed: a process did not start or ended early, or nobody could be registered.
    """
    already = len(stage.smtp.mails)
    with contextlib.ExitStack() as running:
        stage.reporter.say(f"Starting {len(WORKERS)} workers, and the shop again")
        workers = [
            running.enter_context(
                stage.start(name, _worker_arguments(stage, name), relay_url=relay_url)
            )
            for name in WORKERS
        ]
        web = running.enter_context(stage.start_web("web-with-relay", relay_url=relay_url))
        children = [*workers, web]
        wait_for_answer(stage.host, timeout_s=WEB_START_S, check=web.check)
        for worker in workers:
            _wait_for_worker(stage, worker)
        made = _register(stage, "with the relay", "after", users, children)
        accepted = [registration for registration in made if registration.accepted]
        if not accepted:
            raise DemoFailed(f"{_failed(made)}; {web.tail()}")
        _wait_for_mails(stage, already, len(accepted), children)
        # Drained, not killed: a mail that is sent twice is on its way now, and has to count.
        for worker in workers:
            code = worker.stop()
            if code != 0:
                raise DemoFailed(f"{worker.name} drained with exit code {code}; {worker.tail()}")
    return count(
        without_s=without_s,
        with_s=[registration.took_s for registration in made],
        registered=[registration.email for registration in accepted],
        delivered=[
            (address, mail.login.partition("@")[0])
            for mail in stage.smtp.mails[already:]
            for address in mail.to
        ],
        workers=WORKERS,
    )


def _worker_arguments(stage: Stage, name: str) -> list[str]:
    return [
        "-m",
        "lback_signal_worker",
        *HANDLER_MODULES,
        "--group",
        GROUP,
        "--concurrency",
        str(SLOTS),
        "--settings",
        str(stage.project / "settings.py"),
        "--health-file",
        str(_health_file(stage, name)),
    ]


def _health_file(stage: Stage, name: str) -> Path:
    return stage.folder / f"{name}.health"


def _wait_for_worker(stage: Stage, worker: Child) -> None:
    """Wait for its first poll: two workers that are not there yet could not share the work."""
    deadline = time.monotonic() + WORKER_START_S
    while not _health_file(stage, worker.name).exists():
        worker.check()
        if time.monotonic() > deadline:
            raise DemoFailed(
                f"{worker.name} did not reach the broker within {WORKER_START_S:g} s; "
                f"{worker.tail()}"
            )
        time.sleep(POLL_S)


def _register(
    stage: Stage, how: str, prefix: str, users: int, children: Sequence[Child]
) -> list[Registration]:
    made = []
    for number in range(1, users + 1):
        for child in children:
            child.check()
        made.append(register(stage.host, f"{prefix}{number}"))
        stage.reporter.advance(f"Registered {how}", number, users)
    return made


def _wait_for_mails(stage: Stage, already: int, expected: int, children: Sequence[Child]) -> None:
    """Wait until ``expected`` more mails are there, or give up: the count will tell."""
    rounds = math.ceil(expected / (SLOTS * len(WORKERS)))
    deadline = time.monotonic() + rounds * stage.smtp.delay_s + MAIL_GRACE_S
    arrived = False
    while not arrived and time.monotonic() < deadline:
        arrived = stage.smtp.wait_for_mails(already + expected, POLL_S)
        stage.reporter.advance("Mails delivered", len(stage.smtp.mails) - already, expected)
        for child in children:
            child.check()


def _failed(refused: Sequence[Registration]) -> str:
    first = refused[0]
    reason = f"HTTP {first.status}: {first.answer}" if first.status else first.answer
    return f"{len(refused)} registrations failed, the first with {reason}"
