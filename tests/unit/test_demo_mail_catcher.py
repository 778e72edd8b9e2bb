"""The mail catcher of the compose file, run as its container runs it."""

from __future__ import annotations

import re
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60.0


@contextmanager
def catcher(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start the command; it has ended afterwards."""
    with subprocess.Popen(
        [sys.executable, "-m", "lback_relay.demo.mail_catcher", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def test_a_mail_is_printed_and_a_sigterm_ends_it() -> None:
    """Who logged in, to whom, what: one look at the log of the container shows it."""
    with catcher("--port", "0") as running:
        assert running.stdout is not None
        match = re.fullmatch(r"Taking mails on 127\.0\.0\.1:(\d+)\n", running.stdout.readline())
        assert match is not None
        with smtplib.SMTP("127.0.0.1", int(match[1]), timeout=TIMEOUT_S) as client:
            client.starttls()
            client.login("worker@example.org", "any")
            mail = "Subject: Welcome\r\n\r\nSee you\r\nsoon\r\n"
            client.sendmail("shop@example.org", ["ann@example.org"], mail)
        lines = [running.stdout.readline() for _ in range(3)]
        assert lines == [
            "worker@example.org to ann@example.org: Welcome\n",
            "    See you\n",
            "    soon\n",
        ]
        running.terminate()
        assert running.wait(TIMEOUT_S) == 0


def test_a_port_that_is_taken_is_told_in_one_sentence() -> None:
    """No traceback."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with catcher("--port", str(port)) as running:
            _, said = running.communicate(timeout=TIMEOUT_S)
    assert said == f"Error: can't listen on 127.0.0.1:{port}: Address already in use\n"
    assert running.returncode == 1
