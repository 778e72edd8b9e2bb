"""Who may import what (design section 3), read off the sources, and what an import loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(
    path
    for folder in (ROOT / "lback_relay", ROOT / "worker" / "lback_signal_worker")
    for path in folder.rglob("*.py")
)
MAX_LINES = 400

# Package to the places that may import it at all, and those that may do so when they are imported
# themselves; everybody else must not, or only inside a function.
ALLOWED = {
    "redis": ("lback_relay/broker/",),
    "fakeredis": ("lback_relay/broker/",),
    "lback": ("lback_relay/lback/", "lback_relay/demo/project/"),
    "sqlalchemy": ("lback_relay/transaction.py", "lback_relay/outbox", "lback_relay/lback/"),
    "lback_signal_worker": ("worker/",),
}
LAZY = {"sqlalchemy": ("lback_relay/",), "fakeredis": ("lback_relay/",)}


def imports_of(file: Path) -> Iterator[tuple[str, bool]]:
    """Yield (top-level package, whether importing the file imports it)."""
    tree = ast.parse(file.read_text())
    lazily = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_type_checking(node)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.partition(".")[0], id(node) not in lazily
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0], id(node) not in lazily


def _is_type_checking(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_a_package_is_imported_in_its_place_only(package: str) -> None:
    """Whoever wants to know Redis, Lback or SQLAlchemy does so where the design puts it."""
    strangers = [
        str(file.relative_to(ROOT))
        for file in FILES
        if any(name == package for name, _ in imports_of(file))
        and not str(file.relative_to(ROOT)).startswith(ALLOWED[package])
    ]
    assert strangers == []


@pytest.mark.parametrize("package", sorted(LAZY))
def test_optional_packages_are_imported_inside_functions(package: str) -> None:
    """The core installs without them."""
    eager = [
        str(file.relative_to(ROOT))
        for file in FILES
        if (package, True) in imports_of(file)
        and str(file.relative_to(ROOT)).startswith(LAZY[package])
    ]
    assert eager == []


def test_the_rules_see_imports() -> None:
    """A rule that finds nothing anywhere would hold for ever."""
    seen = {name for file in FILES for name, _ in imports_of(file)}
    assert {"redis", "lback", "sqlalchemy", "lback_signal_worker"} <= seen


def test_importing_the_public_names_loads_nothing_optional() -> None:
    """A web process pays for what it uses: no framework, no ORM, no broker client."""
    code = (
        "import sys\n"
        "import lback_relay\n"
        "from lback_relay import remote_dispatcher, RelayConfig, HandlerContext, RetryLater\n"
        "import lback_relay.lback.settings, lback_relay.lback.catalogue\n"
        "heavy = {'lback', 'sqlalchemy', 'redis', 'fakeredis', 'rich', 'aiosmtpd'}\n"
        "heavy |= {'cryptography'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stdout == "[]\n", ran.stderr


def test_files_stay_readable_at_one_sitting() -> None:
    """A longer one plays more than one role."""
    long = {
        str(file.relative_to(ROOT)): lines
        for file in FILES
        if (lines := len(file.read_text().splitlines())) > MAX_LINES
    }
    assert long == {}
