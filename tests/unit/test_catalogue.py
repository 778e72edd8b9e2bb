"""The catalogue against the sources of the installed framework."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

from lback_relay.lback.catalogue import NEVER_SENT, OPTIONAL, SIGNALS, VERSION, kind_of


def _framework() -> Path:
    spec = importlib.util.find_spec("lback")  # finds, does not run
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def _sends(path: Path) -> Iterator[tuple[str, list[str | None]]]:
    """Yield (signal, keys) of each ``dispatcher.send`` of one file; None stands for ``**``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr != "send" or "dispatcher" not in ast.unparse(node.func.value):
            continue
        keys = [keyword.arg for keyword in node.keywords]
        name = next((k.value for k in node.keywords if k.arg == "signal_name"), None)
        name = name or (node.args[0] if node.args else None)
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            yield name.value, [key for key in keys if key not in ("sender", "signal_name")]


@cache
def _sent() -> dict[str, list[frozenset[str | None]]]:
    found: dict[str, list[frozenset[str | None]]] = {}
    files = [*_framework().rglob("*.py"), *_framework().rglob("manage.py.template")]
    for path in files:
        for name, keys in _sends(path):
            found.setdefault(name, []).append(frozenset(keys))
    return found


def test_the_catalogue_describes_the_installed_version() -> None:
    """A new version of the framework must be read anew."""
    assert metadata.version("lback-framework") == VERSION


def test_the_catalogue_has_every_signal_that_the_framework_sends_and_no_other() -> None:
    """186 names: 183 of the package, 3 of a generated manage.py."""
    assert set(SIGNALS) == set(_sent())
    assert len(SIGNALS) == 186
    assert sum(not name.startswith("command_") for name in SIGNALS) == 183


@pytest.mark.parametrize("name", sorted(SIGNALS))
def test_a_signal_has_the_keys_of_its_sends(name: str) -> None:
    """Each key is given somewhere, and the optional ones are those that not all sends give."""
    sends = _sent()[name]
    given = frozenset().union(*sends)
    if None in given:  # "**": the source does not show those keys
        assert given - {None} <= set(SIGNALS[name])
        return
    assert set(SIGNALS[name]) == given
    assert OPTIONAL[name] == given - frozenset.intersection(*sends)


def test_the_names_that_are_never_sent_are_not_in_the_catalogue() -> None:
    """The framework's README names six signals that no source sends."""
    assert len(NEVER_SENT) == 6
    assert not set(NEVER_SENT) & set(_sent())


def test_what_replaces_a_name_that_is_never_sent_exists() -> None:
    """A hint must not name another signal that is never sent."""
    named = {word.strip(",;") for hint in NEVER_SENT.values() for word in hint.split()}
    signals = {word for word in named if "_" in word}
    assert signals <= set(SIGNALS)


def test_kinds_tell_live_objects_and_secrets_from_plain_values() -> None:
    """One key of each kind."""
    kinds = [kind_of(key) for key in ("user", "session", "request", "token", "spec", "username")]
    assert kinds == ["entity", "session", "request", "secret", "bulk", "plain"]


def test_the_catalogue_imports_without_the_framework() -> None:
    """It is data; the framework's import starts loggers and reads files."""
    code = (
        "import sys; import lback_relay.lback.catalogue; "
        "sys.exit(any(name.split('.')[0] in ('lback', 'redis', 'sqlalchemy') "
        "for name in sys.modules))"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
