"""The security suite's options, its fixtures ``attack_table`` and ``dose``, and its last table.

``make security`` runs all of it with ``--security-full``, where ``dose`` is the large one and
tests marked ``security_full`` run, too; any other run takes small doses. A run fails when a row of
the table shows an attack that was not tried, or not stopped each time, whatever its tests say.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from security.support.attacks import AttackTable, as_table, write_json

_table: Final = AttackTable()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; they are there when pytest is given this folder."""
    group = parser.getgroup("security", "the security suite")
    group.addoption("--security-json", metavar="FILE", help="write the table of attacks there")
    group.addoption("--security-full", action="store_true", help="large doses of everything")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", "security_full: runs with --security-full alone")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave what takes long out of a run that has not asked for it."""
    if _full(config):
        return
    out = [item for item in items if item.get_closest_marker("security_full")]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail the run that shows less than all attacks stopped."""
    asked = _json(session.config) is not None
    if (len(_table) or asked) and not _table.held and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show the table, and write it where it was asked for."""
    if len(_table):
        terminalreporter.section("security")
        for line in as_table(_table):
            terminalreporter.write_line(line)
    path = _json(config)
    if path is not None:
        write_json(Path(path), _table)


@pytest.fixture(scope="session")
def attack_table() -> AttackTable:
    """Return the table that every test of the suite records its attacks in."""
    return _table


@pytest.fixture(scope="session")
def dose(pytestconfig: pytest.Config) -> Callable[[int, int], int]:
    """Return what chooses between a small number and one for ``make security``."""

    def choose(small: int, full: int) -> int:
        return full if _full(pytestconfig) else small

    return choose


# The options are unknown to a run of all tests: pytest finds this file too late to add them.
def _full(config: pytest.Config) -> bool:
    return bool(config.getoption("security_full", default=False))


def _json(config: pytest.Config) -> str | None:
    path = config.getoption("security_json", default=None)
    return None if path is None else str(path)
