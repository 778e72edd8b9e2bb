"""The fault suite's options, its fixture ``scene``, and the table at the end.

``pytest tests/faults -m faults`` runs every row, and holds recoveries to their bounds; without
``-m`` only those run that are marked ``faults_quick``. ``-m faults_long`` runs those that take many
minutes, alone. ``@pytest.mark.row(number, name)`` names the row of a test.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, Final

import pytest
from faults.support.rows import Figures, as_table, merged, write_json
from faults.support.scene import Scene
from support.brokers import binary_of

SEED_VARIABLE: Final = "LBACK_RELAY_FAULTS_SEED"
SERVER_VARIABLE: Final = "LBACK_RELAY_FAULTS_SERVER"

_rows: Final[dict[tuple[int, str], Figures]] = {}
_state: Final[dict[str, int]] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; they are there when pytest is given this folder."""
    group = parser.getgroup("faults", "the fault suite")
    group.addoption("--faults-json", metavar="PATH", help="write the rows' figures there")
    group.addoption(
        "--faults-seed", type=int, metavar="N", help=f"seed of all rows; also {SEED_VARIABLE}"
    )
    group.addoption(
        "--faults-server",
        choices=("redis", "redis-6.2", "valkey"),
        help=f"the kind of server, redis by default; also {SERVER_VARIABLE}",
    )
    group.addoption(
        "--faults-minutes", type=float, default=2.0, metavar="N", help="of the long outages"
    )
    group.addoption(
        "--faults-old", metavar="REV", help="row 21's old version; the one before the last change"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and settle the seed."""
    config.addinivalue_line("markers", "row(number, name): the row of the fault matrix")
    config.addinivalue_line("markers", "faults_quick: runs in the default run, too")
    config.addinivalue_line("markers", "faults_long: takes many minutes, runs when asked for")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the rows out of a run that does not ask for the suite by ``-m``."""
    asked = config.option.markexpr

    def left_out(item: pytest.Item) -> bool:
        if item.get_closest_marker("faults_long"):
            return "faults_long" not in asked
        row = item.get_closest_marker("faults") and not item.get_closest_marker("faults_quick")
        return bool(row) and not asked

    out = [item for item in items if left_out(item)]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Note whether a row has passed."""
    report = yield
    figures = item.stash.get(_FIGURES, None)
    if figures is not None:
        if report.when == "call":
            figures.passed = report.passed
        elif report.failed:
            figures.passed = False
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show the table, and write it where it was asked for."""
    rows = merged(_rows.values())
    if rows:
        kind = _kind(config)
        terminalreporter.section(f"faults, seed {_seed(config)}, {kind}")
        for line in as_table(rows):
            terminalreporter.write_line(line)
    path = config.getoption("faults_json", None)
    if path:
        write_json(Path(path), rows)


_FIGURES: Final = pytest.StashKey[Figures]()


def _seed(config: pytest.Config) -> int:
    if "seed" not in _state:
        given = config.getoption("faults_seed", None)
        if given is None:
            given = os.environ.get(SEED_VARIABLE)
        _state["seed"] = SystemRandom().randrange(10**6) if given is None else int(given)
    return _state["seed"]


def _kind(config: pytest.Config) -> str:
    given = config.getoption("faults_server", None) or os.environ.get(SERVER_VARIABLE)
    return str(given or "redis")


@pytest.hookimpl
def pytest_report_header(config: pytest.Config) -> str:
    """Tell the seed before anything runs: a run that is cut short can be repeated, too."""
    return f"faults: seed {_seed(config)}, {_kind(config)}"


@pytest.fixture
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """Yield the scene of the test's row; all that it starts is ended with the test."""
    marker = request.node.get_closest_marker("row")
    assert marker is not None, "a test of the fault suite names its row: @pytest.mark.row"
    number, name = marker.args
    figures = Figures(row=number, name=name)
    request.node.stash[_FIGURES] = _rows[number, request.node.name] = figures
    kind = _kind(request.config)
    random = Random(f"{_seed(request.config)}:{request.node.name}")
    timed = "faults" in request.config.option.markexpr
    scene = Scene(tmp_path, binary_of(kind), random, figures, timed=timed)
    try:
        yield scene
    finally:
        scene.close()
