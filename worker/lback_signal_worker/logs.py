"""What the worker's process writes to stdout and stderr: the only place that configures either.

A line is time, level, which one of several workers, text, and what the record carries as
``relay_…``, so that one worker, signal, handler or envelope can be searched for. What handlers
raise may quote anything: tracebacks are redacted, and no text can forge a line or steer a terminal.
"""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

from lback_relay.printable import printable, printable_lines
from lback_relay.redaction import redact_text

LEVELS = ("debug", "info", "warning", "error")
_OWN = ("lback_relay", "lback_signal_worker")
_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_FORMAT_OF_ONE = "%(asctime)s %(levelname)s worker {number} (pid %(process)d): %(message)s"


class RelayFormatter(logging.Formatter):
    """Adds the record's ``relay_`` values to the line.

    Args:
        number: which one of a supervisor's workers this is; None: it is the only one.
    """

    def __init__(self, number: int | None = None) -> None:
        super().__init__(_FORMAT if number is None else _FORMAT_OF_ONE.format(number=number))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - overridden
        extras = "".join(
            f" {name.removeprefix('relay_')}={value}"
            for name, value in vars(record).items()
            if name.startswith("relay_") and value != ""
        )
        line = super().formatMessage(record)
        if extras:
            line = f"{line} [{extras[1:]}]"
        if str(record.name).startswith(_OWN):
            return printable(line)
        return "\n".join(printable_lines(line))  # a handler's own line may well be several

    def formatException(self, ei: Any) -> str:  # noqa: N802 - overridden
        return "\n".join(printable_lines(redact_text(super().formatException(ei))))


def configure_logging(level: str, number: int | None = None) -> None:
    """Send everything from ``level`` on to stderr.

    Args:
        level: one of :data:`LEVELS`.
        number: as in :class:`RelayFormatter`.
    """
    to_stderr = logging.StreamHandler(sys.stderr)
    to_stderr.setFormatter(RelayFormatter(number))
    root = logging.getLogger()
    root.handlers[:] = [to_stderr]
    root.setLevel(level.upper())


def write_whole_lines() -> None:
    """Have what handlers print appear line by line: at once, and each line whole.

    Python keeps what goes to a pipe or file until there is much of it, and a killed worker takes
    that along. With PYTHONUNBUFFERED, which containers like to set, ``print`` writes the text and
    the end of the line one after the other, and lines of two threads get mixed.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # neither closed nor replaced
            stream.reconfigure(line_buffering=True, write_through=False)
