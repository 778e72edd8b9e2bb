"""Exit codes of ``lback-relay``; the worker's are the same where they mean the same."""

from __future__ import annotations

from typing import Final

EXIT_INCOMPLETE: Final = 1
"""Something that was asked for could not be done; stderr says what."""
EXIT_CONFIG: Final = 2
"""Wrong usage or config."""
EXIT_BROKER: Final = 4
"""The broker did not answer, or refused us."""
EXIT_INTERRUPTED: Final = 130
"""Stopped by Ctrl-C."""
