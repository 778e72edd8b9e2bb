"""What is said of an exception that a project's code raised: redacted, and whatever its class does.

Its text may quote anything, and its class may be anything.
"""

from __future__ import annotations

from typing import Final

from lback_relay.printable import printable
from lback_relay.redaction import redact_text

MAX_ERROR_LENGTH: Final = 2000


def described(error: BaseException) -> str:
    """Return "TypeName: message", redacted; an error whose text can't be made still has a name."""
    return _named(error, error)


def described_in_one_line(error: BaseException) -> str:
    """Return the same in one printable line; of a syntax error without its place."""
    source = getattr(error, "msg", None) if isinstance(error, SyntaxError) else error
    return printable(" ".join(_named(error, source).split()))


def _named(error: BaseException, source: object) -> str:
    try:
        text = str(source)
    except BaseException:  # noqa: BLE001 - a class of the project's own may do anything
        text = "(its text can't be made)"
    name = type(error).__name__
    # Redacted without the name, or the first word behind a TokenError would be taken for a token.
    text = redact_text(text[: 4 * MAX_ERROR_LENGTH])
    return (f"{name}: {text}" if text.strip() else name)[:MAX_ERROR_LENGTH]
