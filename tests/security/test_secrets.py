"""What handlers raise may quote secrets: neither the log nor a dead letter repeats them."""

from __future__ import annotations

import logging
import sys

from security.support.attacks import AttackTable

from lback_signal_worker.logs import RelayFormatter
from lback_signal_worker.processor import _described

SECRET = "c0ffee-c0ffee-c0ffee"
QUOTED = [
    f"https://ada:{SECRET}@example.org/hook refused",
    f"GET https://example.org/hook?token={SECRET} gave 500",
    f"{{'password': '{SECRET}'}} is not valid",
    f"Authorization: Bearer {SECRET}",
    f"Cookie: sessionid={SECRET}",
]


def logged(text: str) -> str:
    """Return what the worker's log shows of an error with this text."""
    try:
        raise ValueError(text)
    except ValueError as error:
        record = logging.LogRecord(
            *("lback_signal_worker.processor", logging.ERROR, __file__, 1),
            *("handler failed: %s", (_described(error),), sys.exc_info()),
        )
    return RelayFormatter().format(record)


def test_an_error_that_quotes_a_secret_is_logged_without_it(attack_table: AttackTable) -> None:
    """In its text, and in the last line of its traceback."""
    lines = [logged(text) for text in QUOTED]
    stopped = [SECRET not in line for line in lines]
    attack_table.record("a secret in a handler's error", len(lines), sum(stopped))
    assert all(stopped)
    assert all("Traceback" in line for line in lines)


def test_an_error_can_neither_forge_a_line_nor_steer_a_terminal(attack_table: AttackTable) -> None:
    """Line ends and control characters are escaped."""
    texts = ["x\n2026-01-01 00:00:00 INFO all is well", "\x1b]0;owned\x07", "\x1b[2J", "a\rb"]
    stopped = 0
    for text in texts:
        first = logged(text).split("\nTraceback")[0]
        stopped += "\n" not in first and not set("\x1b\x07\r") & set(logged(text))
    attack_table.record("a forged line in the worker's log", len(texts), stopped)
    assert stopped == len(texts)
