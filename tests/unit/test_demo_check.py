"""What CI asks of the demo's figures, by ``.ci/check_demo.py``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "check_demo.py"
GOOD: dict[str, Any] = {
    "http_median_s_without": 2.3,
    "http_median_s_with": 0.3,
    "registered": 20,
    "mails": 20,
    "duplicates": 0,
    "lost": 0,
    "per_worker": {"worker-1": 9, "worker-2": 11},
}


def check(output: str) -> subprocess.CompletedProcess[str]:
    """Give the script the output of a demo."""
    return subprocess.run(
        [sys.executable, SCRIPT],
        input=output,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_figures_as_promised_pass_and_are_shown() -> None:
    """The last line counts, whatever comes before it."""
    line = json.dumps(GOOD)
    ran = check(f"Starting\n{line}\n")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"{line}\n", "")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"registered": 19}, "registered is 19, expected 20"),
        ({"mails": 21}, "mails is 21, expected 20"),
        ({"duplicates": 1}, "duplicates is 1, expected 0"),
        ({"lost": 1}, "lost is 1, expected 0"),
        ({"per_worker": {"worker-1": 20, "worker-2": 0}}, "not both workers worked"),
        ({"per_worker": {"worker-1": 20}}, "not both workers worked"),
        ({"http_median_s_with": 0.5}, "registration took 0.5 s with the relay, 2.3 s without"),
        ({"http_median_s_with": None}, "the medians are no numbers"),
    ],
)
def test_a_broken_promise_fails(changed: dict[str, Any], sentence: str) -> None:
    """And is named."""
    ran = check(json.dumps(GOOD | changed))
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"demo: {sentence}")


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("", "demo: printed nothing\n"),
        ("Traceback\n", "demo: its last line is no JSON object: Traceback\n"),
        ("[1]\n", "demo: its last line is no JSON object: [1]\n"),
    ],
)
def test_an_output_without_figures_fails(output: str, sentence: str) -> None:
    """In one sentence."""
    ran = check(output)
    assert (ran.returncode, ran.stderr) == (1, sentence)
