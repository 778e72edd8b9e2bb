"""``lback-relay check``: is the config right, what is relayed, can the broker be used?"""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import urlsplit

import click

from lback_relay.cli.options import config_options, read_config
from lback_relay.cli.text import table
from lback_relay.config import EMAIL_SIGNAL, RelayConfig, SignalConfig
from lback_relay.errors import BrokerError, SpoolError
from lback_relay.keyring import VARIABLE
from lback_relay.lback.catalogue import NEVER_SENT, OPTIONAL, SIGNALS, kind_of
from lback_relay.signing import signer_of
from lback_relay.spool_place import open_spool
from lback_relay.spool_rights import check_folder
from lback_relay.url_files import check_files

PING_TIMEOUT_S = 3.0

# What a handler gets for each kind of value, as the projection makes it.
_RELAYED_AS = {
    "entity": "snapshot",
    "request": "snapshot",
    "response": "snapshot",
    "exception": "snapshot",
    "session": "left out",
    "secret": "redacted unless revealed",
    "bulk": "cut when long",
    "object": "left out or named",
}


@click.command()
@config_options()
@click.option("--no-ping", is_flag=True, help="Do not connect to the broker.")
def check(*, settings: Path | None, config_file: Path | None, no_ping: bool) -> None:
    """Check the config, list what is relayed, ping the broker and look at its set-up.

    Exits with 0 when all is well, 2 when the config can't be used, 4 when the broker can't be
    reached, is too old, or drops streams at its maxmemory. Warnings do not change the exit code.

    \b
    Examples:
      lback-relay check
      lback-relay check --settings /srv/shop/settings.py --no-ping
      LBACK_RELAY_URL=redis://:secret@redis:6379/0 lback-relay check --config relay.toml
    """
    config = read_config(settings, config_file)
    if not no_ping:  # else this may be another machine than the one that connects
        check_files(config.url)
    _show(config)
    if not no_ping:
        _ping(config)


def _show(config: RelayConfig) -> None:
    click.echo(f"broker      {config.masked_url}")
    click.echo(f"namespace   {config.namespace}")
    click.echo(f"publishing  {config.publishing}")
    spool, problem = _spool(config)
    click.echo(f"spool       {spool}")
    click.echo(f"e-mail      {'relayed' if config.email else 'not relayed'}")
    click.echo(f"signing     {_signing(config)}")
    click.echo()
    if config.signals:
        for name in config.signals:
            signer_of(config, name)
        rows = [_row(signal) for signal in config.signals.values()]
        for line in table(("signal", "delivery", "publish", "reveal", "carries"), rows):
            click.echo(line)
        click.echo()
        kinds = sorted({kind for signal in config.signals for kind in _kinds(signal)})
        for kind in kinds:
            click.echo(f"{kind}: {_RELAYED_AS[kind]}")
        if kinds:
            click.echo()
    for warning in config.warnings:
        click.echo(f"warning: {warning}")
    if problem:
        click.echo(f"warning: nothing is kept while the broker is away: {problem}")
    count = len(config.signals)
    click.echo(f"config is right: {count} signal{'' if count == 1 else 's'} relayed")


def _signing(config: RelayConfig) -> str:
    """Keys are named by their ids alone."""
    if config.keys is None:
        return f"off: {VARIABLE} is not set"
    first, *others = config.keys.ids
    return f"by the key {first}" + (f"; verifies {', '.join(others)}, too" if others else "")


def _spool(config: RelayConfig) -> tuple[str, str]:
    """Say where the spool is and how many envelopes wait in it, and why it can't be used."""
    spool = open_spool(config)
    if spool is None:
        return "none", ""
    folder = spool.path.parent
    try:
        check_folder(folder)
        waiting = sum(each.envelopes for each in spool.waiting())
    except SpoolError as error:
        return str(folder), str(error)
    finally:
        spool.close()
    return f"{folder}" + (f", {waiting} envelopes wait" if waiting else ""), ""


def _row(signal: SignalConfig) -> tuple[str, ...]:
    return (
        signal.name,
        "+".join(signal.delivery) + (", encrypted" if signal.encrypt else ""),
        signal.publish,
        ", ".join(signal.reveal) or "-",
        _carries(signal.name),
    )


def _carries(name: str) -> str:
    if name == EMAIL_SIGNAL:
        return "to_email, subject, body"
    if name in NEVER_SENT:
        return "never sent by the framework"
    if name not in SIGNALS:
        return "what the project sends"
    return ", ".join(_carried(name, key) for key in SIGNALS[name]) or "nothing"


def _carried(name: str, key: str) -> str:
    optional = "?" if key in OPTIONAL[name] else ""
    kind = kind_of(key)
    return f"{key}{optional}" if kind == "plain" else f"{key}{optional} ({kind})"


def _kinds(name: str) -> set[str]:
    return {kind_of(key) for key in SIGNALS.get(name, ())} - {"plain"}


def _ping(config: RelayConfig) -> None:
    """Ping and inspect the broker; its errors go on to the command's own reporting."""
    if urlsplit(config.url).scheme == "embedded":
        click.echo("broker not pinged: embedded:// starts its server when it is first used")
        return
    # Imported here, so that --no-ping works where the client can't be imported.
    from lback_relay.broker import connect

    broker = connect(
        config.url,
        namespace=config.namespace,
        timeout_s=PING_TIMEOUT_S,
        client_name="lback-relay-check",
    )
    started = time.perf_counter()
    try:
        broker.ping()
        took_ms = (time.perf_counter() - started) * 1000
        click.echo(f"broker answers, in {took_ms:.1f} ms")
        found = broker.inspect(persistence=True)
    finally:
        broker.close()
    for warning in found.warnings:
        click.echo(f"warning: {warning}")
    if found.problems:
        raise BrokerError("\n".join(found.problems))
