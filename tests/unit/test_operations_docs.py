"""The runbook names every alarm: what is logged at WARNING or above is in docs/operations.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOUD = {"warning", "error", "critical", "exception"}
SAID = {"say", "_say"}
"""``ThrottledLog.say(level, text, …)``, by whatever name it is kept."""
VALUE = re.compile(r"%(?:\.\d)?[a-z]")
WORDS = 5
"""So many of a line's words in a row must be in the runbook."""


def texts() -> Iterator[tuple[str, str]]:
    """Yield where a line is logged, and its text."""
    for folder in ("lback_relay", "worker/lback_signal_worker"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "demo" not in path.relative_to(ROOT).parts:
                for line, text in logged(ast.parse(path.read_text(encoding="utf-8"))):
                    yield f"{path.relative_to(ROOT)}:{line}", text


def logged(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each loud log call that is given its text as it is."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        arguments = node.args
        if node.func.attr in SAID and arguments:
            if ast.unparse(arguments[0]).rpartition(".")[2].lower() not in LOUD:
                continue
            arguments = arguments[1:]
        elif node.func.attr not in LOUD:
            continue
        if arguments and isinstance(arguments[0], ast.Constant):
            text = arguments[0].value
            if isinstance(text, str):
                yield node.lineno, text


def sought(text: str) -> str:
    """Return the words to look for: the first few of the longest stretch without a value."""
    longest = max(VALUE.split(text), key=len)
    return " ".join(longest.split()[:WORDS]).strip(" :;,.()'")


LINES = [(where, sought(text)) for where, text in texts() if VALUE.sub("", text).strip()]


def test_log_calls_are_found() -> None:
    """In the publishing processes and in the worker."""
    assert {where.partition("/")[0] for where, _ in LINES} == {"lback_relay", "worker"}


@pytest.mark.parametrize("words", sorted({words for _, words in LINES}))
def test_the_runbook_names_each_alarm(words: str) -> None:
    """By its first words, so that it is found by searching for what the log shows."""
    runbook = " ".join((ROOT / "docs/operations.md").read_text(encoding="utf-8").split())
    where = [where for where, each in LINES if each == words]
    assert words in runbook, f"docs/operations.md does not tell what to do about it: {where}"
