"""``lback-relay outbox``: publish what processes that are gone have left in the outbox."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lback_relay.cli.exits import EXIT_BROKER
from lback_relay.cli.options import check_one_source, config_options
from lback_relay.config import RelayConfig
from lback_relay.errors import RelayError
from lback_relay.url_files import check_files

if TYPE_CHECKING:
    from lback_relay.outbox_sweep import Published, Sweep

SWEEP_EVERY_S = 5.0
"""Between two sweeps of --watch."""


@click.command()
@config_options("A TOML file instead of a project; needs --database.")
@click.option(
    "--database",
    envvar="OUTBOX_DATABASE_URL",
    metavar="URL",
    help="The database's SQLAlchemy URL; better in the environment variable OUTBOX_DATABASE_URL, "
    "for others may read a command line.  [default: the project's]",
)
@click.option("--watch", is_flag=True, help="Go on until stopped.")
@click.option("--dry-run", is_flag=True, help="Only show what is in the outbox.")
@click.option("--create-table", is_flag=True, help="Create the outbox's table first.")
@click.pass_context
def outbox(
    ctx: click.Context,
    *,
    settings: Path | None,
    config_file: Path | None,
    database: str | None,
    watch: bool,
    dry_run: bool,
    create_table: bool,
) -> None:
    """Publish what is left in the outbox, and say how much.

    Rows that a living process has in hand are left to it, for ten seconds at most. Exits with 0
    when nothing is left but those, 2 when the config or the database can't be used, 4 when the
    broker does not answer or refuses a signal. A SQLite file that is not there is made with
    --create-table alone.

    \b
    Examples:
      lback-relay outbox --dry-run
      lback-relay outbox --watch
      lback-relay outbox --config relay.toml --database sqlite:////srv/shop/db.sqlite3
    """
    from lback_relay.outbox import broker_of, database_errors, open_database
    from lback_relay.outbox import create_table as create
    from lback_relay.outbox_sweep import Sweep

    if watch and dry_run:
        raise click.UsageError("give either --watch or --dry-run, not both")
    config, url = _chosen(settings, config_file, database)
    if not dry_run:
        check_files(config.url)
    engine = open_database(url, create=create_table)
    sweep = Sweep(config.signals, broker_of(config))
    try:
        with database_errors():
            if create_table:
                create(engine)
            if watch:
                _watch(engine, sweep)
                return
            refused = set() if dry_run else _sweep_once(engine, sweep)
            _show(engine)
    finally:
        sweep.close()
        engine.dispose()
    if refused:
        ctx.exit(EXIT_BROKER)


def _chosen(
    settings: Path | None, config_file: Path | None, database: str | None
) -> tuple[RelayConfig, str]:
    """Return the relay's config and the database's URL."""
    check_one_source(settings, config_file)
    if config_file is not None:
        if database is None:
            raise click.UsageError("--config names no database: give --database, too")
        return RelayConfig.from_toml(config_file), database
    from lback_relay.lback.framework_settings import absolute_sqlite, database_url
    from lback_relay.lback.settings import (
        project_root,
        project_settings,
        relay_config_from_project,
        set_project,
    )

    set_project(settings)
    config = relay_config_from_project(settings)
    return config, database or absolute_sqlite(database_url(project_settings()), project_root())


def _sweep_once(engine: Any, sweep: Sweep) -> set[str]:
    """Sweep and say what came of it. Returns the signals that the broker refused."""
    done = sweep.sweep(engine)
    _say(done)
    return done.refused


def _watch(engine: Any, sweep: Sweep) -> None:
    """Sweep until Ctrl-C or SIGTERM; what fails is said and tried again."""
    from lback_relay.outbox import database_errors

    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    said = ""
    click.echo("watching the outbox")
    while not stopped.is_set():
        try:
            with database_errors():
                done = sweep.sweep(engine, until=stopped.is_set)
            said = ""
            if done.published:
                _say(done)
        except RelayError as error:
            if str(error) != said:  # once, however long it lasts
                said = str(error)
                click.echo(f"lback-relay: {said}", err=True)
        stopped.wait(SWEEP_EVERY_S)
    click.echo("stopped")


def _say(done: Published) -> None:
    line = f"published {done.published}"
    if done.doubled:
        line += f" ({done.doubled} of them were in the broker already)"
    if done.refused:
        line += f"; refused: {', '.join(sorted(done.refused))}"
    click.echo(line)


def _show(engine: Any) -> None:
    """List what is in the table."""
    from lback_relay.outbox_table import waiting

    with engine.connect() as connection:
        found = waiting(connection)
    for each in found:
        click.echo(
            f"{each.signal}  {each.rows} left, {each.claimed} of them in hand, "
            f"oldest {each.oldest_s:.0f} s"
        )
    if not found:
        click.echo("the outbox is empty")
