"""The table of attacks itself: a run that shows a hole must fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from security.support.attacks import AttackTable, as_table, write_json

ROOT = Path(__file__).resolve().parents[2]


def run_suite(folder: Path, body: str) -> tuple[int, list[dict[str, object]], str]:
    """Run one test with the suite's conftest; return its exit code, the JSON, and the output."""
    (folder / "conftest.py").write_text("from security.conftest import *\n")
    (folder / "test_one.py").write_text(f"def test_one(attack_table):\n    {body}\n")
    report = folder / "security.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider"),
            *("--rootdir", str(folder), "-c", "/dev/null", "--import-mode=importlib"),
            *("-o", f"pythonpath={ROOT / 'tests'}", "--security-json", str(report), str(folder)),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.returncode, json.loads(report.read_text()), done.stdout + done.stderr


def test_attacks_of_one_name_are_one_row(tmp_path: Path) -> None:
    """Several tests may try the same; the row is their sum."""
    table = AttackTable()
    table.record("forged", 2, 2)
    table.record("read", 1, 1)
    table.record("forged", 3, 3)
    write_json(tmp_path / "build" / "table.json", table)
    assert json.loads((tmp_path / "build" / "table.json").read_text()) == [
        {"attack": "forged", "tried": 5, "stopped": 5},
        {"attack": "read", "tried": 1, "stopped": 1},
    ]
    assert table.held


@pytest.mark.parametrize(("tried", "stopped"), [(0, 0), (3, 2), (1, 0)])
def test_a_row_that_shows_a_hole_or_nothing_is_not_held(tried: int, stopped: int) -> None:
    """What was never tried is not known to be stopped."""
    table = AttackTable()
    table.record("forged", 1, 1)
    table.record("read", tried, stopped)
    assert not table.held
    assert as_table(table)[-1].endswith("NOT STOPPED")
    assert not as_table(table)[1].endswith("NOT STOPPED")


def test_an_empty_table_is_not_held() -> None:
    """A run that tried nothing shows nothing."""
    assert not AttackTable().held


@pytest.mark.parametrize(("tried", "stopped"), [(1, 2), (-1, -1), (1, -1)])
def test_impossible_numbers_are_refused(tried: int, stopped: int) -> None:
    """A test that counts wrongly must not even out another one's hole."""
    with pytest.raises(ValueError, match="can't have been stopped"):
        AttackTable().record("forged", tried, stopped)


@pytest.mark.parametrize(
    ("body", "code", "shown"),
    [
        ("attack_table.record('forged', 3, 3)", 0, "forged"),
        ("attack_table.record('forged', 3, 2)", 1, "NOT STOPPED"),
        ("attack_table.record('forged', 0, 0)", 1, "NOT STOPPED"),
        ("pass", 1, "1 passed"),
    ],
)
def test_a_run_fails_unless_every_row_is_held(
    body: str, code: int, shown: str, tmp_path: Path
) -> None:
    """Whatever the tests themselves say, the exit code follows the table."""
    returned, rows, output = run_suite(tmp_path, body)
    assert returned == code, output
    assert shown in output
    assert [row["attack"] for row in rows] == (["forged"] if "record" in body else [])
