"""What the code itself must not do, and what others on the host must not be able to."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from security.support.attacks import AttackTable

from lback_relay.errors import SpoolError
from lback_relay.spool import Spool

ROOT = Path(__file__).parents[2]
FORBIDDEN_CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "__import__"}
# Lback's settings are a program of the project's own, and are run as Lback runs them.
ALLOWED = {"settings.py compile", "settings.py exec"}
FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill"}


def sources() -> Iterator[Path]:
    yield from (ROOT / "lback_relay").rglob("*.py")
    yield from (ROOT / "worker" / "lback_signal_worker").rglob("*.py")


def offences(path: Path) -> Iterator[str]:
    """Yield what a module has of what none may have."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            if ast.unparse(node.func) in FORBIDDEN_CALLS:
                yield f"{path.name} {ast.unparse(node.func)}"
            if any(
                keyword.arg == "shell" and ast.unparse(keyword.value) != "False"
                for keyword in node.keywords
            ):
                yield f"{path.name} shell"
        names = [alias.name for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)]
        if isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
        if isinstance(node, ast.Import | ast.ImportFrom) and FORBIDDEN_MODULES & set(names):
            yield f"{path.name} {names}"


def test_no_module_has_a_shell_an_eval_or_a_pickle() -> None:
    """Nothing that came from elsewhere can become code."""
    assert {offence for path in sources() for offence in offences(path)} <= ALLOWED


def test_the_lock_file_pins_everything_and_names_no_host() -> None:
    """Whoever installs from it takes the same versions, from a registry of his own choice."""
    lines = (ROOT / ".ci" / "lock.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if not line.startswith("#")]
    assert len(pinned) > 20
    assert [line for line in pinned if not re.fullmatch(r"[\w.-]+==[\w.+!-]+", line)] == []


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_spool_that_others_can_write_to_is_refused(
    mode: int, tmp_path: Path, attack_table: AttackTable
) -> None:
    """What they plant there would be sent under the application's name."""
    folder = tmp_path / "spool"
    folder.mkdir()
    folder.chmod(mode)
    try:
        Spool(folder / "a.spool").append("any", "producer", 1, ("queue",), [b"envelope"])
    except SpoolError:
        stopped = 1
    else:
        stopped = 0
    attack_table.record("a spool that others can write to", 1, stopped)
    assert stopped


def test_a_spools_folder_and_files_are_its_owners_alone(
    tmp_path: Path, attack_table: AttackTable
) -> None:
    """Whatever the umask."""
    spool = Spool(tmp_path / "spool" / "a.spool")
    before = os.umask(0)
    try:
        spool.append("any", "producer", 1, ("queue",), [b"envelope"])
        made = [tmp_path / "spool", *(tmp_path / "spool").iterdir()]
        closed = sum(path.stat().st_mode & 0o077 == 0 for path in made)
    finally:
        os.umask(before)
        spool.close()
    attack_table.record("a spool read by another user", len(made), closed)
    assert closed == len(made)
