"""The command ``lback-signal-worker``: options in, an exit code out.

A user's mistake is one sentence on stderr, with the remedy, and no traceback. Durations are
seconds.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from lback_relay.config import RelayConfig
from lback_relay.config_sources import check_variables
from lback_relay.errors import BrokerError, BrokerUnavailable, ConfigError, RelayError
from lback_relay.remote import remote_dispatcher
from lback_relay.version import __version__
from lback_signal_worker.config import WorkerConfig
from lback_signal_worker.health import problems_of
from lback_signal_worker.loader import HandlersNotLoaded, load_handlers
from lback_signal_worker.logs import LEVELS, configure_logging, write_whole_lines
from lback_signal_worker.os_signals import OsSignals, Stopped
from lback_signal_worker.startup import client_name, mismatches, reach_broker, relay_config
from lback_signal_worker.supervised import DRAINED, Supervised
from lback_signal_worker.supervisor import EXIT_RECYCLED, Supervisor
from lback_signal_worker.verification import Verification, verification_of
from lback_signal_worker.worker import Worker

logger = logging.getLogger(__name__)

NAME: Final = "lback-signal-worker"

EXIT_DRAINED: Final = 0
"""All that ran has ended and is settled."""
EXIT_CONFIG: Final = 2
"""Wrong usage or config."""
EXIT_HANDLERS: Final = 3
"""A handler module can't be used."""
EXIT_BROKER: Final = 4
"""The broker did not answer at the start, refused us, or is set up so that it loses entries."""
EXIT_DRAIN_TIMEOUT: Final = 5
"""Handlers were still running when the drain's time was up or it was cut short, or outcomes could
not be written."""

YOUNG_OBJECTS: Final = 10_000
"""Made and not yet gone when the collector looks at them: more than a thousand envelopes are in
hand, and by its own rule it would look at those again and again."""
_THRESHOLD_AT_START: Final = gc.get_threshold()
_LEFT: Final = ", with handlers still running or outcomes not written, see above"
_PREFIX: Final = "LBACK_SIGNAL_WORKER_"
_EXIT_S: Final = {EXIT_DRAINED: 5.0, EXIT_DRAIN_TIMEOUT: 1.0, EXIT_RECYCLED: 5.0}
_EXIT_BEFORE_START_S: Final = 1.0
_DEFAULTS: Final = WorkerConfig()


def _variable(option: str) -> dict[str, Any]:
    return {"envvar": _PREFIX + option, "show_envvar": True}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("modules", metavar="MODULE…", nargs=-1, required=True)
@click.option(
    "--group",
    default=_DEFAULTS.group,
    show_default=True,
    metavar="NAME",
    help="The service whose handlers these are. Each group gets every signal once.",
    **_variable("GROUP"),
)
@click.option(
    "--concurrency",
    type=int,
    default=_DEFAULTS.concurrency,
    show_default=True,
    metavar="N",
    help="How many handlers run at once: plain ones in threads, async ones on one event loop.",
    **_variable("CONCURRENCY"),
)
@click.option(
    "--url",
    metavar="URL",
    help="The broker; better in the environment, for others may read a command line.  "
    "[env: LBACK_RELAY_URL]",
)
@click.option(
    "--settings",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A Lback project's settings.py, or its folder.  [default: around the current folder]",
)
@click.option(
    "--config",
    "toml",
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    help="The relay's config from a TOML file instead of the project's settings.",
)
@click.option(
    "--lease-s",
    type=float,
    default=_DEFAULTS.lease_s,
    show_default=True,
    metavar="S",
    help="For how long an entry stays with a worker that died; renewed while a handler runs.",
    **_variable("LEASE_S"),
)
@click.option(
    "--drain-timeout-s",
    type=float,
    default=_DEFAULTS.drain_timeout_s,
    show_default=True,
    metavar="S",
    help="How long running handlers may take after SIGTERM.",
    **_variable("DRAIN_TIMEOUT_S"),
)
@click.option(
    "--stop-grace-s",
    type=float,
    default=_DEFAULTS.stop_grace_s,
    show_default=True,
    metavar="S",
    help="When the container's runtime kills a stopping worker; must be more than the drain.",
    **_variable("STOP_GRACE_S"),
)
@click.option(
    "--group-ttl-s",
    type=float,
    default=_DEFAULTS.group_ttl_s,
    show_default=True,
    metavar="S",
    help="A group whose workers are away for so long loses what it has not settled.",
    **_variable("GROUP_TTL_S"),
)
@click.option(
    "--health-file",
    metavar="PATH",
    help="Touch this file after each successful poll.",
    **_variable("HEALTH_FILE"),
)
@click.option(
    "--processes",
    type=int,
    default=_DEFAULTS.processes,
    show_default=True,
    metavar="N",
    help="How many workers to run, each a process of its own; dead and hung ones are replaced.",
    **_variable("PROCESSES"),
)
@click.option(
    "--hung-s",
    type=float,
    default=_DEFAULTS.hung_s,
    show_default=True,
    metavar="S",
    help="With several processes: replace one that makes no progress for so long.",
    **_variable("HUNG_S"),
)
@click.option(
    "--max-deliveries",
    type=int,
    metavar="N",
    help="Replace a process after so many deliveries, up to a fifth earlier.",
    **_variable("MAX_DELIVERIES"),
)
@click.option(
    "--max-memory-mb",
    type=int,
    metavar="M",
    help="Replace a process that takes more memory, in MiB (Linux).",
    **_variable("MAX_MEMORY_MB"),
)
@click.option(
    "--log-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="info",
    show_default=True,
    **_variable("LOG_LEVEL"),
)
@click.version_option(__version__, prog_name=NAME)
def main(
    *,
    modules: tuple[str, ...],
    url: str | None,
    settings: Path | None,
    toml: Path | None,
    log_level: str,
    **options: Any,
) -> None:
    """Run the remote handlers that MODULE… register, until SIGTERM or Ctrl-C.

    \b
    Examples:
      lback-signal-worker myproject.handlers
      lback-signal-worker myproject.handlers lback_relay.lback.email_handler --group mails
      lback-signal-worker handlers --url redis://127.0.0.1:6379/0 --concurrency 32

    \b
    Exit codes: 0 drained, 2 usage or config, 3 handlers, 4 no broker, 5 drain timed out.
    """
    link = Supervised.from_environment(os.environ)
    write_whole_lines()
    configure_logging(log_level, None if link is None else link.number)
    with OsSignals() as stop:
        try:
            mistaken, unknown = _check_environment()
            # A supervisor's workers go on as it did when the folder goes away meanwhile.
            worker_config = _worker_config(options, mistaken, check_health=link is None)
            if link is None and worker_config.supervised:
                code = _supervise(worker_config, stop)
                click.get_current_context().exit(code)
            if link is not None:
                stop.watch(signal.SIGHUP)
                worker_config = link.config(worker_config)
            with stop.may_stop():  # settings and handlers are the project's code
                config, complete = relay_config(
                    settings=settings, toml=toml, url=url, environ=os.environ
                )
                verification = verification_of(config)
                warnings = load_handlers(modules, remote_dispatcher)
            if complete:
                warnings += [*config.warnings, *mismatches(config, remote_dispatcher)]
            for warning in (*unknown, *warnings):
                logger.log(_warning_level(link), "%s", warning)
            code = _run(worker_config, config, verification, stop, link)
        except Stopped:
            code = EXIT_DRAINED
            _bound_exit(code, _EXIT_BEFORE_START_S)
        except KeyboardInterrupt:  # no user's, for Ctrl-C is caught
            click.echo(f"{NAME}: the settings raise KeyboardInterrupt", err=True)
            code = EXIT_CONFIG
        except RelayError as error:
            click.echo(f"{NAME}: {error}", err=True)
            code = _code_of(error)
    click.get_current_context().exit(code)


def _supervise(worker_config: WorkerConfig, stop: OsSignals) -> int:
    """Run the same command line in several processes. Returns the exit code."""
    command = [sys.executable, "-m", "lback_signal_worker", *sys.argv[1:]]
    return Supervisor(worker_config, command).run(stop)


def _run(
    worker_config: WorkerConfig,
    config: RelayConfig,
    verification: Verification,
    stop: OsSignals,
    link: Supervised | None,
) -> int:
    """Run the worker until an OS signal. Returns the exit code."""

    def pause(seconds: float) -> None:
        if stop.wait(seconds):
            raise Stopped

    try:
        connect = reach_broker(
            config,
            pause=pause,
            client_name=client_name(worker_config.group),
            level=_warning_level(link),
        )
    except BrokerUnavailable as error:
        raise BrokerUnavailable(
            f"{error}; start it, or give its address in LBACK_RELAY_URL or --url"
        ) from error
    worker = Worker(worker_config, remote_dispatcher, connect, verification=verification)
    _calm_collector()
    worker.start()
    _say_started(worker_config, config, verification)
    name = stop.wait() if link is None else link.attend(worker, worker_config, stop)
    logger.info("%s: finishing what runs, taking nothing new", name)
    recycled = link is not None and link.recycling
    interrupted = stop.pending if link is None else partial(link.interrupted, stop)
    code = EXIT_DRAINED if worker.drain(interrupted=interrupted) else EXIT_DRAIN_TIMEOUT
    # The drain has said which of the two it was.
    logger.info("stopped%s", "" if code == EXIT_DRAINED else _LEFT)
    if link is not None and code == EXIT_DRAINED:
        link.say(DRAINED)
    if recycled and code == EXIT_DRAINED:
        code = EXIT_RECYCLED
    _bound_exit(code, _EXIT_S[code])
    return code


def _warning_level(link: Supervised | None) -> int:
    """Return at which level config and broker are warned of: the first of several says it."""
    return logging.WARNING if link is None or link.number == 1 else logging.DEBUG


def _check_environment() -> tuple[list[str], list[str]]:
    """Return the problems and the warnings of the worker's variables, as the relay has them."""
    options = click.get_current_context().command.params
    names = [option.name for option in options if option.envvar and option.name]
    return check_variables(os.environ, names, prefix=_PREFIX, owner="the worker")


def _worker_config(
    options: dict[str, Any], mistaken: list[str], *, check_health: bool
) -> WorkerConfig:
    """Return the worker's config; its problems name the options as the user wrote them.

    Args:
        options: by field name.
        mistaken: the environment's problems.
        check_health: whether the health file's folder must be there.
    """
    problems = []
    if check_health and options["health_file"]:
        problems += [f"--health-file: {found}" for found in problems_of(options["health_file"])]
    try:
        config = WorkerConfig(**options)
    except ConfigError as error:
        for problem in error.problems:
            field, _, sentence = problem.partition(": ")
            problems.append(f"--{field.replace('_', '-')}: {sentence}")
    if mistaken or problems:
        places = (("environment", mistaken), ("options", problems))
        source = " and ".join(place for place, found in places if found)
        raise ConfigError(mistaken + problems, source=source)
    return config


def _code_of(error: RelayError) -> int:
    if isinstance(error, BrokerError):
        return EXIT_BROKER
    return EXIT_HANDLERS if isinstance(error, HandlersNotLoaded) else EXIT_CONFIG


def _calm_collector() -> None:
    """Have the garbage collector look at what comes and goes, and not too often."""
    # What the handlers have loaded stays: looking at it again and again took a third of the reading
    # thread's time.
    gc.collect()
    gc.freeze()
    if gc.get_threshold() == _THRESHOLD_AT_START:  # what the handlers' module has set stays
        gc.set_threshold(YOUNG_OBJECTS)


def _say_started(
    worker_config: WorkerConfig, config: RelayConfig, verification: Verification
) -> None:
    listed = "; ".join(
        f"{signal} -> {', '.join(item.name for item in remote_dispatcher.handlers(signal))}"
        for signal in remote_dispatcher.signals()
    )
    logger.info(
        "started: group %s, %d slots, %s, namespace %s, %s: %s",
        worker_config.group, worker_config.concurrency, config.masked_url, config.namespace,
        verification.described(), listed,
    )  # fmt: skip


def _bound_exit(code: int, seconds: float) -> None:
    """End the process even when threads of handlers, which Python waits for, never end."""

    def end() -> None:
        with contextlib.suppress(Exception):
            logging.shutdown()
        os._exit(code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
