"""Checks of single config values: a value in, its normalized form and what is wrong with it out.

Pure functions. A sentence goes on from the key ("publish_timeout_s: must be …"), says what is
expected and the type of what was given; it quotes the value only where that can be no secret.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lback_relay.envelope import DELIVERY_MODES

Check = Callable[[object], tuple[Any, list[str]]]
"""Takes what was given; returns (the value to keep, problems)."""


def closest(given: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for a misspelt word, "" when nothing comes near."""
    near = difflib.get_close_matches(given, list(known), n=1, cutoff=0.7)
    return f"; did you mean {near[0]!r}?" if near else ""


def kind(value: object) -> str:
    """Name what was given by its type, never by its value."""
    if value is None:
        return "None"
    return {str: "text", bool: "true or false"}.get(type(value), type(value).__name__)


def shown(text: str) -> str:
    """Quote a word that may be quoted; a URL or a sentence in its place may hold a secret."""
    return repr(text) if re.fullmatch(r"[\w.*-]{0,60}", text) else "that text"


def integer(minimum: int, maximum: int, unit: str, *, optional: bool = False) -> Check:
    """Make the check of a whole number of ``unit``, both limits included; None if optional."""

    def check(value: object) -> tuple[Any, list[str]]:
        if value is None and optional:
            return value, []
        wanted = f"must be a whole number of {unit} from {minimum} to {maximum}"
        if isinstance(value, bool) or not isinstance(value, int):
            return value, [f"{wanted}, not {kind(value)}"]
        return value, [] if minimum <= value <= maximum else [f"{wanted}, not {value}"]

    return check


def number(minimum: float, maximum: float, unit: str) -> Check:
    """Make the check of a finite number of ``unit``, both limits included; it becomes a float."""

    def check(value: object) -> tuple[Any, list[str]]:
        wanted = f"must be a number of {unit} from {minimum} to {maximum}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value, [f"{wanted}, not {kind(value)}"]
        if not math.isfinite(value) or not minimum <= value <= maximum:
            return value, [f"{wanted}, not {value}"]
        return float(value), []

    return check


def true_or_false(value: object) -> tuple[Any, list[str]]:
    """Check a switch. The text "False" would count as true, so text is refused."""
    return value, [] if isinstance(value, bool) else [f"must be true or false, not {kind(value)}"]


def folder(value: object) -> tuple[Any, list[str]]:
    """Check a folder's path: absolute, because programs start in different folders."""
    if not isinstance(value, str):
        return value, [f"must be text, not {kind(value)}"]
    if value in {"auto", "off"} or Path(value).expanduser().is_absolute():
        return value, []
    return value, ["must be a folder's absolute path, 'auto' or 'off'"]


def one_of(*words: str) -> Check:
    """Make the check of one of some words."""

    def check(value: object) -> tuple[Any, list[str]]:
        listed = " or ".join(repr(word) for word in words)
        if not isinstance(value, str):
            return value, [f"must be {listed}, not {kind(value)}"]
        if value not in words:
            return value, [f"must be {listed}, not {shown(value)}{closest(value, words)}"]
        return value, []

    return check


def word(max_length: int) -> Check:
    """Make the check of a name of letters, digits and ``. _ - :``."""

    def check(value: object) -> tuple[Any, list[str]]:
        if not isinstance(value, str):
            return value, [f"must be text, not {kind(value)}"]
        if not re.fullmatch(r"[A-Za-z0-9._:-]+", value) or len(value) > max_length:
            return value, [
                f"must be 1 to {max_length} letters, digits, dots, colons, hyphens or underscores"
            ]
        return value, []

    return check


def check_name(value: object) -> list[str]:
    """Return what is wrong with a signal's name."""
    if not isinstance(value, str):
        return [f"signals: a signal's name must be text, not {kind(value)}"]
    if not value:
        return ["signals: a signal's name must not be empty"]
    try:
        value.encode()
    except UnicodeEncodeError:
        return ["signals: a signal's name must be valid Unicode"]
    return []


def check_delivery(value: object) -> tuple[Any, list[str]]:
    """Check delivery modes: one word, or a list of them without doubles; it becomes a tuple."""
    given = (value,) if isinstance(value, str) else value
    wanted = "must be 'queue', 'broadcast' or a list of both"
    if not isinstance(given, list | tuple):
        return value, [f"{wanted}, not {kind(value)}"]
    if not given:
        return value, [f"{wanted}; an empty list would send the signal nowhere"]
    problems = []
    for mode in given:
        if not isinstance(mode, str):
            problems.append(f"{wanted}, not a list with {kind(mode)}")
        elif mode not in DELIVERY_MODES:
            problems.append(f"{wanted}, not {shown(mode)}{closest(mode, DELIVERY_MODES)}")
    return tuple(mode for mode in DELIVERY_MODES if mode in given), problems


def check_publish(value: object) -> tuple[Any, list[str]]:
    """Check when a signal is published."""
    return one_of("on_commit", "immediate", "outbox")(value)


def check_reveal(value: object) -> tuple[Any, list[str]]:
    """Check the paths of values to reveal; they become a tuple."""
    if isinstance(value, str):
        return value, [f"must be a list of paths, not one text: put {shown(value)} into brackets"]
    if not isinstance(value, list | tuple | set | frozenset):
        return value, [f"must be a list of paths such as ['user.email'], not {kind(value)}"]
    problems = []
    for path in value:
        if not isinstance(path, str):
            problems.append(f"must be a list of paths as text, not of {kind(path)}")
        elif "*" in path:
            problems.append(f"{shown(path)} holds '*', which is no pattern here; name each value")
        elif not re.fullmatch(r"[^.\s]+(\.[^.\s]+)*", path):
            problems.append(f"{shown(path)} is no path; write names with dots between them")
    ordered = value if isinstance(value, list | tuple) else sorted(value, key=str)
    return tuple(dict.fromkeys(path for path in ordered if isinstance(path, str))), problems


def read_text(text: str, default: object) -> object:
    """Read the text of an environment variable as the type of the field's default.

    What can't be read stays text, which the field's check then refuses.
    """
    if isinstance(default, bool):
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    if isinstance(default, int | float):
        try:
            return int(text) if isinstance(default, int) else float(text)
        except ValueError:
            return text
    return text
