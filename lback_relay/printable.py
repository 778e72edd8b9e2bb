"""Text that others wrote, made harmless for a terminal and a log. Pure."""

from __future__ import annotations


def printable(text: str) -> str:
    """Escape what is no printable character, line ends too."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "backslashreplace").decode()
        for character in text
    )


def printable_lines(text: str) -> list[str]:
    """Return the lines of a text, each printable."""
    return [printable(line) for line in text.expandtabs(4).split("\n")]
