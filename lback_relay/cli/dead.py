"""``lback-relay dead``: look at dead letters, retry them once their cause is mended, drop them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import click

from lback_relay.cli import dead_show
from lback_relay.cli.dead_change import Dropping, Retrying
from lback_relay.cli.dead_options import EntryId, changing, place_options, selecting
from lback_relay.cli.dead_selection import Selection, Walk
from lback_relay.cli.dead_steps import (
    CLIENT_NAME,
    echo_lines,
    make_change,
    missing,
    opened_by,
    say_none,
    survey,
)
from lback_relay.cli.dead_tally import Tally
from lback_relay.cli.exits import EXIT_INCOMPLETE
from lback_relay.cli.options import broker_options, opened_broker, read_broker_config
from lback_relay.cli.text import counted
from lback_relay.errors import ConfigError
from lback_relay.keyring import VARIABLE, KeyRing

_NO_TERMINAL_WIDTH: Final = 160


@click.group()
def dead() -> None:
    """Look at dead letters, retry or drop them.

    A dead letter is an envelope that a handler could not deal with, put aside with the reason. It
    stays until it is retried or dropped.

    \b
    Examples:
      lback-relay dead list --signal user_registered --newer-than 1h
      lback-relay dead show 1764039172123-0
      lback-relay dead retry --handler myproject.handlers.welcome --dry-run
      lback-relay dead drop --reason malformed --older-than 30d
    """


@dead.command("list")
@selecting
@click.option(
    "--limit",
    type=click.IntRange(0, 100_000),
    default=20,
    show_default=True,
    metavar="N",
    help="How many letters to list, the newest first; all are counted.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
@broker_options
def list_command(
    *,
    limit: int,
    as_json: bool,
    settings: Path | None,
    config_file: Path | None,
    url: str | None,
    **given: Any,
) -> None:
    """Count the dead letters by signal, group, handler and reason, and list the newest.

    \b
    Examples:
      lback-relay dead list
      lback-relay dead list --error ConnectionRefused --newer-than 2h --limit 100
      lback-relay dead list --json --limit 0
    """
    selection = Selection(**given)
    tally = Tally(limit)
    with opened_by(settings, config_file, url) as broker:
        walk = Walk(broker, selection)
        survey(walk, lambda letters: letters, tally)
        if as_json:
            click.echo(json.dumps(tally.as_json()))
        elif not tally.letters:
            say_none(broker, selection)
        else:
            _say_list(tally, walk.now_ms, limit)


@dead.command()
@click.argument("entry_id", metavar="ID", type=EntryId())
@place_options
@click.option(
    "--values",
    is_flag=True,
    help="Show the payload's values, too: users' data. Its names and kinds are shown in any case.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each letter.")
@broker_options
@click.pass_context
def show(
    ctx: click.Context,
    /,
    *,
    entry_id: str,
    values: bool,
    as_json: bool,
    settings: Path | None,
    config_file: Path | None,
    url: str | None,
    **given: Any,
) -> None:
    """Show one dead letter: what happened, its envelope, its traceback.

    The payload's values are users' data and are shown only with --values. Bytes that can't be
    decoded are shown as hex. With LBACK_RELAY_KEYS the signature is verified, and what is encrypted
    is shown like anything else; without, nothing of what is encrypted is. Where the same id exists
    for several groups, all are shown.

    \b
    Examples:
      lback-relay dead show 1764039172123-0
      lback-relay dead show 1764039172123-0 --group mailers --values
    """
    config = read_broker_config(settings, config_file, url)
    keys = config.keys
    with opened_broker(config, client_name=CLIENT_NAME) as broker:
        walk = Walk(broker, Selection(ids=(entry_id,), **given))
        letters = [letter for page in walk for letter in page.letters]
    if not letters:
        click.echo(f"lback-relay: {missing([entry_id])}", err=True)
        ctx.exit(EXIT_INCOMPLETE)
    for index, letter in enumerate(letters):
        if as_json:
            click.echo(json.dumps(dead_show.as_json(letter, values=values, keys=keys)))
            continue
        if index:
            click.echo()
        for line in dead_show.as_text(letter, walk.now_ms, values=values, keys=keys):
            click.echo(line)


@dead.command()
@click.option(
    "--vouch",
    is_flag=True,
    help="Sign also what is not verified: you answer for what it does.",
)
@changing
@click.pass_context
def retry(ctx: click.Context, /, *, vouch: bool, **given: Any) -> None:
    """Run the handlers that failed again, from their first attempt, and no others.

    Which letters, is told by their ids, by options that all must fit, or by --all. Handlers that
    had succeeded with the same envelope do not run again. Letters that can't be decoded are refused
    and stay. With LBACK_RELAY_KEYS letters are verified and signed anew, so that no worker finds
    them too old; those that are not verified stay, unless --vouch is given.

    Exits with 0, with 1 when a letter was refused or an id not found, 2 when something is wrong
    with options or config, 4 when the broker does not answer or refuses, 130 when stopped by
    Ctrl-C.

    \b
    Examples:
      lback-relay dead retry 1764039172123-0
      lback-relay dead retry --signal user_registered --newer-than 2h --dry-run
      lback-relay dead retry --all --yes
    """

    def make(keys: KeyRing | None) -> Retrying:
        if vouch and keys is None:
            raise ConfigError(["--vouch signs, and needs a key ring"], source=VARIABLE)
        return Retrying(keys, vouch=vouch)

    ctx.exit(make_change(make, **given))


@dead.command()
@changing
@click.pass_context
def drop(ctx: click.Context, /, **given: Any) -> None:
    """Delete dead letters for good.

    Which letters, is told by their ids, by options that all must fit, or by --all.

    Exits with 0, with 1 when an id was not found, 2 when something is wrong with options or config,
    4 when the broker does not answer or refuses, 130 when stopped by Ctrl-C.

    \b
    Examples:
      lback-relay dead drop 1764039172123-0
      lback-relay dead drop --reason rejected --older-than 30d --dry-run
    """
    ctx.exit(make_change(lambda _: Dropping(), **given))


def _say_list(tally: Tally, now_ms: int, limit: int) -> None:
    click.echo(counted(tally.letters, "dead letter"))
    click.echo()
    echo_lines(tally.count_lines(now_ms))
    if not limit:
        return
    click.echo()
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else _NO_TERMINAL_WIDTH
    echo_lines(tally.newest_lines(now_ms, width))
    if tally.letters > limit:
        click.echo(f"the newest {limit:,} of {tally.letters:,} are listed; --limit lists more")
