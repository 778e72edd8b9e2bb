"""What the commands of ``lback-relay dead`` have in common: look, ask, do it, say how it ended."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any, Final

import click

from lback_relay.broker.base import Broker, DeadLetterRecord
from lback_relay.cli.dead_change import Change, Outcome, Retrying, carry_out, sort_out
from lback_relay.cli.dead_selection import Selection, Walk
from lback_relay.cli.dead_tally import Tally
from lback_relay.cli.exits import EXIT_INCOMPLETE, EXIT_INTERRUPTED
from lback_relay.cli.options import opened_broker, read_broker_config
from lback_relay.cli.progress import Progress, stoppable
from lback_relay.cli.text import counted
from lback_relay.errors import BrokerError
from lback_relay.keyring import KeyRing
from lback_relay.printable import printable

CLIENT_NAME: Final = "lback-relay-dead"

Letters = list[DeadLetterRecord]


def make_change(
    make: Callable[[KeyRing | None], Change],
    *,
    everything: bool,
    dry_run: bool,
    yes: bool,
    settings: Path | None,
    config_file: Path | None,
    url: str | None,
    **given: Any,
) -> int:
    """Do what ``make`` makes of the keys, or say what would be done. Returns the exit code."""
    selection = Selection(**given)
    if everything and selection.narrow:
        raise click.UsageError("give either --all or a selection, not both")
    if not everything and not selection.narrow:
        raise click.UsageError("name ids, or choose by --signal and its like, or give --all")
    outcome = Outcome()
    config = read_broker_config(settings, config_file, url)
    change = make(config.keys)
    with opened_broker(config, client_name=CLIENT_NAME) as broker:
        walk = Walk(broker, selection)
        code = _check_ids(walk, selection)
        ask = not yes and sys.stdin.isatty()
        if dry_run or ask:
            tally = Tally()
            survey(walk, lambda letters: sort_out(change, letters, outcome), tally)
            if tally.letters:
                click.echo(f"would {change.verb} {counted(tally.letters, 'dead letter')}:")
                echo_lines(tally.count_lines(walk.now_ms))
            elif not outcome.refused:
                say_none(broker, selection)
            if dry_run or not tally.letters:
                return _say_refused(change, outcome, code)
            if not _confirmed(change, tally.letters):
                click.echo("nothing was changed")
                return code
            outcome = Outcome()
        _carry_out(change, broker, walk, outcome)
        if not (outcome.done or outcome.gone or outcome.refused or outcome.stopped):
            say_none(broker, selection)
        if isinstance(change, Retrying) and outcome.groups:
            _say_idle_groups(broker, outcome.groups)
    code = _say_refused(change, outcome, code)
    return EXIT_INTERRUPTED if outcome.stopped else code


def _carry_out(change: Change, broker: Broker, walk: Walk, outcome: Outcome) -> None:
    """Do it, and say how far it came, however it ended."""
    shown = Progress()

    def progress() -> None:
        shown.say(
            f"{change.done} {outcome.done:,}; looked at {outcome.looked_at:,} of "
            f"{counted(walk.total, 'dead letter')}"
        )

    ended = False
    try:
        with stoppable() as stop:
            carry_out(change, broker, walk, outcome, stop=stop, progress=progress)
        ended = not outcome.stopped
    finally:
        shown.clear()
        if outcome.done or not ended:
            before = "" if ended else "stopped; "
            click.echo(f"{before}{change.done} {counted(outcome.done, 'dead letter')}")
        if outcome.gone:
            click.echo(f"{outcome.gone:,} were gone: somebody else has retried or dropped them")


@contextmanager
def opened_by(settings: Path | None, config_file: Path | None, url: str | None) -> Iterator[Broker]:
    """Yield the broker of the config that the options name."""
    config = read_broker_config(settings, config_file, url)
    with opened_broker(config, client_name=CLIENT_NAME) as broker:
        yield broker


def survey(walk: Walk, chosen: Callable[[Letters], Letters], tally: Tally) -> None:
    """Count the letters of a walk that are chosen."""
    progress, looked_at = Progress(), 0
    try:
        for page in walk:
            looked_at += page.looked_at
            for letter in chosen(page.letters):
                tally.add(letter)
            progress.say(f"looked at {looked_at:,} of {counted(walk.total, 'dead letter')}")
    finally:
        progress.clear()


def _check_ids(walk: Walk, selection: Selection) -> int:
    """Say which ids are not there. Returns the exit code.

    Raises:
        click.UsageError: an id exists more than once: it is unique for a signal and group only.
    """
    if not selection.ids:
        return 0
    found: dict[str, list[str]] = {}
    for page in walk:
        for letter in page.letters:
            place = f"--signal {quote(page.signal)} --group {quote(page.group)}"
            found.setdefault(letter.entry_id, []).append(place)
    for entry_id, places in found.items():
        if len(places) > 1:
            raise click.UsageError(
                f"{len(places)} dead letters have the id {entry_id}; tell which one: "
                f"{printable(', or '.join(places))}"
            )
    absent = [entry_id for entry_id in selection.ids if entry_id not in found]
    if absent:
        click.echo(f"lback-relay: {missing(absent)}", err=True)
    return EXIT_INCOMPLETE if absent else 0


def missing(ids: list[str]) -> str:
    """Say that these are not there."""
    return (
        f"there is no dead letter {', '.join(ids)} in what was chosen; it may have been retried or "
        "dropped already"
    )


def say_none(broker: Broker, selection: Selection) -> None:
    """Say that there is nothing; a misspelt name shows by what there is."""
    if not selection.narrow:
        click.echo("there are no dead letters")
        return
    if selection.ids:  # those that are missing have been named
        return
    click.echo("no dead letter fits")
    there = broker.dead_letter_streams()
    if there and (selection.signal or selection.group):
        places = [f"{printable(each.signal)} (group {printable(each.group)})" for each in there]
        click.echo(f"there are some of {', '.join(places)}")


def _say_refused(change: Change, outcome: Outcome, code: int) -> int:
    """Name letters that were refused. Returns the exit code."""
    for entry_id, why in outcome.reasons:
        click.echo(
            f"lback-relay: can't {change.verb} {entry_id}, which stays: {printable(why)}", err=True
        )
    more = outcome.refused - len(outcome.reasons)
    if more:
        click.echo(f"lback-relay: and {more:,} others that stay", err=True)
    return EXIT_INCOMPLETE if outcome.refused else code


def _say_idle_groups(broker: Broker, groups: set[str]) -> None:
    """Say whose retries wait because nobody is there."""
    try:
        there = {figures.get("group") for figures in broker.workers().values()}
    except BrokerError:  # it was a hint only; what was asked for is done
        return
    for group in sorted(groups - there):
        click.echo(
            f"no worker of the group {printable(group)} runs; what was retried waits for one"
        )


def _confirmed(change: Change, letters: int) -> bool:
    these = "this dead letter" if letters == 1 else f"these {counted(letters, 'dead letter')}"
    try:
        return click.confirm(f"{change.verb.capitalize()} {these}?")
    except click.Abort:
        click.echo()
        raise KeyboardInterrupt from None


def echo_lines(lines: list[str]) -> None:
    """Print the lines."""
    for line in lines:
        click.echo(line)
