"""``lback-relay demo``: sets the stage, plays the course, tells the outcome, and cleans up.

The course itself is :mod:`lback_relay.demo.scenario`. Needs the extra ``demo``.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click

from lback_relay.broker.embedded import EmbeddedServer
from lback_relay.demo.figures import Figures
from lback_relay.demo.processes import DemoFailed
from lback_relay.demo.report import PlainReport, TerminalReport, reporting
from lback_relay.demo.scenario import Stage, prepare, web_socket, with_relay, without_relay
from lback_relay.demo.smtp import SmtpServer
from lback_relay.demo.stopping import OsSignals, Stopped

EXIT_BROKEN: Final = 1
"""A promise was broken, or the demo could not go on."""
MAIL_S: Final = 2.0
FOLDER_PREFIX: Final = "lback-relay-demo-"

# Only the processes that the demo starts import these; what they are for is missed before.
NEEDED_BY_CHILDREN: Final = ("lback", "sqlalchemy", "waitress")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the demo ended: its exit code, the figures, and what is to be said on standard error."""

    exit_code: int
    figures: Figures | None = None
    complaint: str = ""


def run_demo(*, users: int, as_json: bool) -> int:
    """Play the demo, from the main thread: its processes end with the thread that started them.

    Args:
        users: how many to register with the relay, at least 1.
        as_json: whether the last line of standard output is the JSON object; the progress goes to
            standard error then.

    Returns:
        0; 1 when a promise was broken or the demo could not go on, which standard error then
        tells; 128 + the number of the OS signal that ended it.

    Raises:
        ModuleNotFoundError: the extra ``demo`` is not installed.
        BrokerError: no broker could be started.
    """
    _check_extra()
    with OsSignals() as os_signals:
        with reporting(as_json=as_json) as report:
            outcome = _play(users, report, os_signals)
            if outcome.figures is not None and not as_json:
                report.table(outcome.figures.rows())
        if outcome.figures is not None and as_json:
            click.echo(json.dumps(outcome.figures.as_json()))
        if outcome.complaint:
            click.echo(f"lback-relay: {outcome.complaint}", err=True)
    return outcome.exit_code


def _check_extra() -> None:
    for name in NEEDED_BY_CHILDREN:
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _play(users: int, report: PlainReport | TerminalReport, os_signals: OsSignals) -> Outcome:
    report.say(f"Starting a broker, and a mail server that takes {MAIL_S:g} s per mail")
    # OS signals are held back wherever something would be left behind.
    with (
        TemporaryDirectory(prefix=FOLDER_PREFIX) as folder,
        EmbeddedServer() as broker,
        SmtpServer(delay_s=MAIL_S) as smtp,
        web_socket() as web,
    ):
        stage = Stage(
            folder=Path(folder), smtp=smtp, web=web, reporter=report, hold=os_signals.held
        )
        try:
            with contextlib.closing(stage), os_signals.may_stop():
                prepare(stage)
                without_s = without_relay(stage)
                figures = with_relay(stage, relay_url=broker.url, users=users, without_s=without_s)
        except Stopped as stopped:
            return Outcome(exit_code=stopped.exit_code, complaint="stopped; nothing is left behind")
        except DemoFailed as error:
            return Outcome(exit_code=EXIT_BROKEN, complaint=f"the demo failed: {error}")
        problems = figures.problems(users)
        if not problems:
            return Outcome(exit_code=0, figures=figures)
        # The folder goes, and with it the logs; what they end with is told here.
        complaint = f"the demo broke its promise: {'; '.join(problems)}\n{stage.logs()}"
        return Outcome(exit_code=EXIT_BROKEN, figures=figures, complaint=complaint)
