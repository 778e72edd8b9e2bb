"""``lback-relay keys``: make a key, and say how a ring is changed while everything runs.

``new`` is the only place where a secret is printed, and to stdout alone.
"""

from __future__ import annotations

import os
from typing import Final

import click

from lback_relay.keyring import VARIABLE, KeyRing, new_key

_STEPS: Final = """\
1. Make a key:

       lback-relay keys new

2. Put it at the END of {variable} everywhere, of what sends and of workers,
   and restart them, in any order:

       {variable}="{old},NEW"

   Everybody verifies with it, nobody signs with it yet.

3. Move it to the FRONT everywhere, and restart, in any order:

       {variable}="NEW,{old}"

   Who has restarted signs with it; who has not verifies it already.

4. Wait until nothing signed by the old key is left: streams, retries, spools
   and outboxes are empty, and dead letters that are to be retried are retried.
   After max_age_s (RELAY_MAX_AGE_S) nothing else would run anyway.

5. Take the old key out everywhere, and restart:

       {variable}="NEW"

A key that has leaked: do not wait in step 4. What it has signed becomes dead
letters ("unverified"); 'lback-relay dead retry --vouch' signs those that you
know.
"""


@click.group()
def keys() -> None:
    """Make the keys that sign envelopes, and change them.

    Keys are taken from the environment variable LBACK_RELAY_KEYS alone: one, or several with commas
    between them. The first one signs, all of them verify.

    \b
    Examples:
      export LBACK_RELAY_KEYS="$(lback-relay keys new)"
      lback-relay keys rotate-help
    """


@keys.command()
def new() -> None:
    """Print a new key, ID:SECRET.

    It goes to stdout and is kept nowhere: put it into your secrets' store at once. The id is no
    secret; logs and 'lback-relay check' show it.

    \b
    Examples:
      lback-relay keys new
      lback-relay keys new | docker secret create relay-keys -
    """
    key = new_key()
    click.echo(key.text())
    click.echo(
        f"the key {key.id}: whoever has it can have workers run what he likes; it belongs into "
        f"{VARIABLE}, of senders and workers alike",
        err=True,
    )


@keys.command("rotate-help")
def rotate_help() -> None:
    """Say step by step how keys are changed so that nothing is lost.

    With LBACK_RELAY_KEYS set its keys are named, by their ids.

    \b
    Examples:
      lback-relay keys rotate-help
    """
    text = os.environ.get(VARIABLE)
    old = "OLD"
    if text:
        ring = KeyRing.parse(text)
        click.echo(f"now: {ring.signing.id} signs; {', '.join(ring.ids)} verify")
        click.echo()
        old = ",".join(f"{each}:…" for each in ring.ids)
    click.echo(_STEPS.format(variable=VARIABLE, old=old), nl=False)
