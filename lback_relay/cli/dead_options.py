"""Options of ``lback-relay dead``: which letters, and how sure one is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from lback_relay.cli.dead_selection import REASONS, is_entry_id, parse_age
from lback_relay.cli.options import broker_options, not_empty

Command = TypeVar("Command", bound=Callable[..., Any])


class _Age(click.ParamType):
    """An age such as ``90s`` or ``3d``, in seconds."""

    name = "age"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_age(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class EntryId(click.ParamType):
    """A dead letter's id."""

    name = "id"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        text = str(value)
        if not is_entry_id(text):
            self.fail(
                f"{text!r} is no dead letter's id, which looks like 1764039172123-0; "
                "lback-relay dead list shows them",
                param,
                ctx,
            )
        return text


def place_options(command: Command) -> Command:
    """Give a command ``--signal`` and ``--group``."""
    signal = click.option(
        "--signal", metavar="NAME", callback=not_empty, help="Only those of this signal."
    )
    group = click.option(
        "--group", metavar="NAME", callback=not_empty, help="Only those of this group of workers."
    )
    return signal(group(command))


def selecting(command: Command) -> Command:
    """Give a command the options that choose letters."""
    options = [
        click.option(
            "--handler", metavar="NAME", callback=not_empty,
            help="Only those of this handler; - for those without one.",
        ),
        click.option("--reason", type=click.Choice(REASONS), help="Only those that died of this."),
        click.option(
            "--error", metavar="TEXT", callback=not_empty,
            help="Only those with this text in their error.",
        ),
        click.option(
            "--older-than", "older_than_s", type=_Age(), metavar="AGE",
            help="Only those that died at least so long ago: 90s, 15m, 2h, 3d, 1w.",
        ),
        click.option(
            "--newer-than", "newer_than_s", type=_Age(), metavar="AGE",
            help="Only those that died less than so long ago.",
        ),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return place_options(command)


def changing(command: Command) -> Command:
    """Give a command what those that change something have in common."""
    options = [
        click.argument("ids", metavar="[ID]…", nargs=-1, type=EntryId()),
        click.option("--all", "everything", is_flag=True, help="All dead letters there are."),
        click.option("--dry-run", is_flag=True, help="Only count what would be done."),
        click.option("--yes", is_flag=True, help="Do not ask, at a terminal, before it is done."),
    ]
    command = broker_options(command)
    for option in reversed(options):
        command = option(command)
    return selecting(command)
