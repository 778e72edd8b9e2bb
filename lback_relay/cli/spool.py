"""``lback-relay spool``: what waits on this host for a broker that was away, and send it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import click

from lback_relay.broker import Broker
from lback_relay.cli.exits import EXIT_BROKER, EXIT_INTERRUPTED
from lback_relay.cli.options import broker_options, not_empty, opened_broker, read_broker_config
from lback_relay.cli.progress import Progress, stoppable
from lback_relay.cli.text import table
from lback_relay.config import RelayConfig
from lback_relay.errors import ConfigError, SpoolError
from lback_relay.spool import Spool, Waiting
from lback_relay.spool_drain import Drain
from lback_relay.spool_place import spool_folder, spool_path
from lback_relay.spool_rights import check_folder

_SIZES: Final = ("B", "KiB", "MiB", "GiB")


@click.group()
def spool() -> None:
    """Show or send what could not be published while the broker was away.

    The processes that send signals drain the spool by themselves; these commands are for hosts
    where none of them runs any more, and for a broker that has moved.

    \b
    Examples:
      lback-relay spool status
      lback-relay spool drain --dry-run
      lback-relay spool drain
    """


@spool.command()
@broker_options
def status(*, settings: Path | None, config_file: Path | None, url: str | None) -> None:
    """List what is in the spools of this user on this host.

    \b
    Examples:
      lback-relay spool status
      lback-relay spool status --settings /srv/shop/settings.py
    """
    config = read_broker_config(settings, config_file, url)
    folder = _folder(config)
    own = spool_path(folder, config)
    click.echo(f"folder  {folder}")
    try:
        check_folder(folder)
    except SpoolError as error:
        click.echo(f"lback-relay: {error}", err=True)
    _show(own, f"{config.masked_url}, namespace {config.namespace}")
    for path in _others(folder, own):
        _show(path, "another broker or namespace")


@spool.command()
@broker_options
@click.option(
    "--signal",
    "signals",
    multiple=True,
    metavar="NAME",
    callback=not_empty,
    help="Only this signal.",
)
@click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE.spool",
    help="A spool that was written for another URL: the broker has moved.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be sent.")
@click.pass_context
def drain(
    ctx: click.Context,
    *,
    settings: Path | None,
    config_file: Path | None,
    url: str | None,
    signals: tuple[str, ...],
    path: Path | None,
    dry_run: bool,
) -> None:
    """Send what is in the spool to the broker, in order, each envelope once.

    Exits with 0 when all was sent, 2 when the config or the spool can't be used, 4 when the broker
    does not answer or refuses a signal, 130 when stopped by Ctrl-C: after the current batch, and
    what was not sent stays.

    \b
    Examples:
      lback-relay spool drain
      lback-relay spool drain --signal user_registered
      lback-relay spool drain --file /var/lib/lback-relay/0a1b2c3d4e.spool
    """
    config = read_broker_config(settings, config_file, url)
    spool_file = Spool(path if path is not None else spool_path(_folder(config), config))
    try:
        waiting = [each for each in spool_file.waiting() if not signals or each.signal in signals]
        if dry_run or not waiting:
            _list(waiting)
            return
        with opened_broker(config, client_name="lback-relay-spool") as broker:
            ctx.exit(_drain(spool_file, broker, config, waiting, frozenset(signals)))
    finally:
        spool_file.close()


def _drain(
    spool_file: Spool,
    broker: Broker,
    config: RelayConfig,
    waiting: list[Waiting],
    signals: frozenset[str],
) -> int:
    """Drain, and say how far it came. Returns the exit code."""
    total = sum(each.envelopes for each in waiting)
    drained = Drain(spool_file, lambda: broker, max_backlog=config.max_backlog_of)
    left_out = frozenset(each.signal for each in spool_file.waiting()) - signals
    progress = Progress()
    with stoppable() as asked, _counted(drained, progress):
        refused = drained.one_pass(
            skip=left_out if signals else frozenset(),
            until=asked,
            progress=lambda: progress.say(f"sent {drained.published} of {total}"),
        )
        stopped = asked()
    for signal, error in refused.items():
        click.echo(f"lback-relay: {signal} was refused, and stays in the spool: {error}", err=True)
    if stopped:
        return EXIT_INTERRUPTED
    if not refused and not signals:
        spool_file.shrink()
    return EXIT_BROKER if refused else 0


@contextmanager
def _counted(drained: Drain, progress: Progress) -> Iterator[None]:
    """Say in the end how many were sent, also when it failed."""
    try:
        yield
    finally:
        progress.clear()
        click.echo(f"sent {drained.published}")


def _folder(config: RelayConfig) -> Path:
    folder = spool_folder(config)
    if folder is None:
        problem = (
            "is off, so that nothing is kept on the disk"
            if config.spool_dir == "off"
            else f"is not used with {config.masked_url}, a broker of one process"
        )
        raise ConfigError([f"spool_dir: {problem}"])
    return folder


def _others(folder: Path, own: Path) -> list[Path]:
    """Return the other files; none of a folder that may not be entered, which has been said."""
    with suppress(PermissionError):
        return sorted(path for path in folder.glob("*.spool") if path != own)
    return []


def _show(path: Path, what: str) -> None:
    """Show one file; one that can't be read is said, and the others are shown."""
    found = Spool(path)
    click.echo()
    try:
        size = path.stat().st_size if found.exists() else 0
        click.echo(f"{path.name}  {_size(size)}  for {what}")
        _list(found.waiting())
    except SpoolError as error:
        click.echo(f"lback-relay: {error}", err=True)
    finally:
        found.close()


def _list(waiting: list[Waiting]) -> None:
    if not waiting:
        click.echo("nothing waits")
        return
    rows = [
        (each.signal, str(each.envelopes), _size(each.encoded_bytes), f"{each.oldest_s:.0f} s")
        for each in waiting
    ]
    for line in table(("signal", "envelopes", "size", "oldest"), rows):
        click.echo(line)


def _size(count: float) -> str:
    for unit in _SIZES[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} {_SIZES[-1]}"
