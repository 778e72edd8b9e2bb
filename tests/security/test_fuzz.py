"""A million inputs at the decoder: by Hypothesis, by damage, and by what covers more branches."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from security.support.attacks import AttackTable
from security.support.tokens import HEAD, envelope_around

from lback_relay.codec import decode, encode
from lback_relay.errors import EnvelopeError

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "contract" / "vectors"
PROGRAM = Path(__file__).parent / "support" / "fuzz_decoder.py"
GUIDED = ROOT / ".venv-fuzz" / "bin" / "python"
"""An environment with atheris; ``make security`` makes it where atheris can be installed."""

values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(),
        st.text(),
        st.binary(max_size=40),
    ),
    lambda parts: st.one_of(
        st.lists(parts, max_size=6),
        st.dictionaries(st.one_of(st.text(max_size=9), st.integers(-9, 9)), parts, max_size=4),
        st.builds(
            msgpack.ExtType,
            st.sampled_from([*range(1, 9), 16, 17, 18, 19, 32, 33, *range(48, 58), 99]),
            st.one_of(st.binary(max_size=40), parts.map(msgpack.packb)),
        ),
    ),
    max_leaves=15,
)
damage = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 4), st.binary(max_size=6)),
    max_size=4,
)


def corpus(folder: Path) -> Path:
    """Write the golden vectors' bytes, each into a file of its own."""
    folder.mkdir()
    for path in VECTORS.glob("*.hex"):
        (folder / path.name).write_bytes(bytes.fromhex(path.read_text(encoding="ascii")))
    return folder


def run(python: str | Path, folder: Path, runs: int, kind: str) -> tuple[int, str]:
    """Return how many inputs were tried without a finding, and what the program has printed."""
    done = subprocess.run(
        [str(python), str(PROGRAM), str(folder), str(runs), kind],
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=800,
        check=False,
        cwd=folder.parent,
    )
    found = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    return (int(found[1]) if found and done.returncode == 0 else 0), done.stderr[-3000:]


def test_hypothesis_finds_no_other_error(
    attack_table: AttackTable, dose: Callable[[int, int], int]
) -> None:
    """Well-formed msgpack of any shape, then damaged: an envelope or an EnvelopeError."""
    tried = stopped = 0

    @settings(
        max_examples=dose(200, 8_000),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(values, damage)
    def attempt(value: Any, changes: list[tuple[float, int, bytes]]) -> None:
        nonlocal tried, stopped
        encoded = bytearray(envelope_around(msgpack.packb(value, unicode_errors="surrogatepass")))
        for where, lost, added in changes:
            at = int(where * len(encoded))
            encoded[at : at + lost] = added
        for data in (bytes(encoded), HEAD + bytes(encoded[4:])):
            tried += 1
            try:
                received = decode(data)
            except EnvelopeError:
                pass
            else:
                assert decode(encode(received)).id == received.id
            stopped += 1

    try:
        attempt()
    finally:
        attack_table.record("an input by Hypothesis", tried, stopped)


@pytest.mark.timeout(900)
def test_damaged_envelopes_raise_no_other_error(
    attack_table: AttackTable, dose: Callable[[int, int], int], tmp_path: Path
) -> None:
    """The golden vectors with bytes changed, lost, added and repeated."""
    wanted = dose(5_000, 300_000 if GUIDED.exists() else 1_000_000)
    runs, shown = run(sys.executable, corpus(tmp_path / "corpus"), wanted, "own")
    attack_table.record("an input damaged at random", wanted, min(wanted, runs))
    assert runs >= wanted, shown


@pytest.mark.timeout(900)
@pytest.mark.security_full
def test_a_guided_fuzzer_finds_no_other_error(attack_table: AttackTable, tmp_path: Path) -> None:
    """A million inputs that follow the branches they reach, from the golden vectors on."""
    if not GUIDED.exists():
        pytest.skip("atheris is not installed (.venv-fuzz): a million were damaged at random")
    wanted = 1_000_000
    runs, shown = run(GUIDED, corpus(tmp_path / "corpus"), wanted, "atheris")
    attack_table.record("an input by a coverage-guided fuzzer", wanted, min(wanted, runs))
    assert runs >= wanted, shown
