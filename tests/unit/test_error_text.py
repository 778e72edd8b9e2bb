"""What is said of an exception that a project's code raised."""

from __future__ import annotations

import pytest

from lback_relay.error_text import MAX_ERROR_LENGTH, described, described_in_one_line


class Unprintable(BaseException):
    """Its text can't be made."""

    def __str__(self) -> str:
        raise SystemExit


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("a\n  b"), "ValueError: a b"),
        (ValueError(), "ValueError"),
        (ValueError("\n"), "ValueError"),
        (Unprintable(), "Unprintable: (its text can't be made)"),
        (RuntimeError("no redis://u:geheim@h/0"), "RuntimeError: no redis://[redacted]@h/0"),
        (RuntimeError("password=geheim x"), "RuntimeError: password=[redacted] x"),
        (RuntimeError("\x1b[2Jred \x07"), r"RuntimeError: \x1b[2Jred \x07"),
        (RuntimeError("\ud800"), r"RuntimeError: \ud800"),
        (type("TokenError", (Exception,), {})("expired"), "TokenError: expired"),
        (
            SyntaxError("redis://u:geheim@h", ("f.py", 1, 1, "x")),
            "SyntaxError: redis://[redacted]@h",
        ),
    ],
)
def test_one_line_without_secrets_and_control_characters(
    error: BaseException, expected: str
) -> None:
    """Whatever its class does."""
    assert described_in_one_line(error) == expected


def test_lines_are_kept_where_there_is_room_for_them() -> None:
    """In a dead letter; and no text is endless."""
    assert described(ValueError("a\nb")) == "ValueError: a\nb"
    assert len(described(ValueError("x" * 100_000))) == MAX_ERROR_LENGTH
