"""Take every mail and print it: ``lback_relay.demo.smtp`` as a command of its own, for compose."""

from __future__ import annotations

import signal
import sys

import click

from lback_relay.demo.smtp import HOST, ReceivedMail, SmtpServer

POLL_S = 1.0


@click.command()
@click.option("--host", default=HOST, show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=1025, show_default=True)
@click.option(
    "--delay-s",
    type=click.FloatRange(0, 3600),
    default=0.0,
    show_default=True,
    help="How long each mail takes, in seconds.",
)
def main(host: str, port: int, delay_s: float) -> None:
    """Take every mail and print it until a SIGTERM or Ctrl-C ends the process.

    It offers STARTTLS with a certificate made at its start, and takes any login.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = SmtpServer(host=host, port=port, delay_s=delay_s)
    try:
        server.start()
    except OSError as error:
        raise click.ClickException(f"can't listen on {host}:{port}: {error.strerror}") from error
    try:
        click.echo(f"Taking mails on {host}:{server.port}")
        shown = 0
        while True:
            server.wait_for_mails(shown + 1, POLL_S)
            for mail in server.mails[shown:]:
                click.echo(as_text(mail))
                shown += 1
    finally:
        server.stop()


def as_text(mail: ReceivedMail) -> str:
    """Return a mail as it is printed: who sent what to whom, and the text below it."""
    body = "\n".join(f"    {line}" for line in mail.body.splitlines())
    return f"{mail.login} to {', '.join(mail.to)}: {mail.subject}\n{body}"


if __name__ == "__main__":
    main()
