"""The command ``lback-relay``. Each subcommand is one module, which imports what it needs late."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

import click

from lback_relay.cli.check import check as check_command
from lback_relay.cli.dead import dead as dead_command
from lback_relay.cli.demo import demo as demo_command
from lback_relay.cli.exits import EXIT_BROKER, EXIT_CONFIG, EXIT_INCOMPLETE, EXIT_INTERRUPTED
from lback_relay.cli.keys import keys as keys_command
from lback_relay.cli.outbox import outbox as outbox_command
from lback_relay.cli.spool import spool as spool_command
from lback_relay.errors import BrokerError, RelayError
from lback_relay.version import __version__


class _Group(click.Group):
    """Turns the relay's errors into one sentence on stderr and an exit code, no traceback."""

    def main(self, *args: Any, **options: Any) -> Any:
        try:
            return super().main(*args, **options)
        except OSError as error:
            problem = _problem_of_stdout(error)
            if problem is None:
                raise
            click.echo(f"lback-relay: standard output: {problem}", err=True)
            sys.exit(EXIT_INCOMPLETE)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)
        except RelayError as error:
            click.echo(f"lback-relay: {error}", err=True)
            ctx.exit(EXIT_BROKER if isinstance(error, BrokerError) else EXIT_CONFIG)


def _problem_of_stdout(error: OSError) -> str | None:
    """Return why stdout can't be written, or None when the error is not of stdout."""
    try:
        sys.stdout.flush()  # fails again with what was buffered
    except OSError as again:
        # The interpreter flushes once more, at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return again.strerror or str(again)
    # With PYTHONUNBUFFERED, which containers like to set, nothing was.
    *_, (frame, _line) = traceback.walk_tb(error.__traceback__)
    if frame.f_code is click.echo.__code__ and not frame.f_locals["err"]:
        return error.strerror or str(error)
    return None


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lback-relay")
def main() -> None:
    """Relay the signals of a Lback project through Redis to worker processes.

    \b
    Examples:
      lback-relay check                        the project around the current folder
      lback-relay check --config relay.toml    a TOML file
      lback-relay demo --users 50              see it work, with a broker of its own
    """


main.add_command(check_command)
main.add_command(dead_command)
main.add_command(demo_command)
main.add_command(keys_command)
main.add_command(outbox_command)
main.add_command(spool_command)
