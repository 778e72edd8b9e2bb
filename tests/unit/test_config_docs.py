"""docs/configuration.md against the fields it describes."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from lback_relay.config import RelayConfig, SignalConfig
from lback_relay.config_sources import read_toml, variable_of

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def _rows(header: str) -> dict[str, list[str]]:
    """Return the rows of the table that begins with ``header``, by their first cell."""
    lines = PAGE.read_text(encoding="utf-8").split(header, 1)[1].splitlines()[2:]
    rows = {}
    for line in lines:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        rows[cells[0].strip("`")] = cells
    return rows


def test_every_key_is_described_with_its_default_and_variable() -> None:
    """In the order of the fields."""
    rows = _rows("| key | type | default |")
    items = [item for item in fields(RelayConfig) if item.init]
    assert list(rows) == [item.name for item in items]
    for item in items:
        _, _, default, _, variable, what = rows[item.name]
        assert what
        if item.name == "signals":
            assert (default, variable) == ("`{}`", "")
            continue
        assert default == f"`{item.default}`"
        assert variable == f"`{variable_of(item.name)}`"


@pytest.mark.parametrize("name", [item.name for item in fields(RelayConfig)])
def test_the_ranges_in_the_table_are_those_that_are_checked(name: str) -> None:
    """A value just beyond the described range is refused, one at its end is not."""
    checks = {item.name: item.metadata.get("check") for item in fields(RelayConfig)}
    check = checks[name]
    cell = _rows("| key | type | default |").get(name, [""] * 6)[3]
    ends = re.search(r"([\d.,]+) to ([\d.,]+)", cell)
    if check is None or ends is None or name == "namespace":
        return
    low, high = (float(end.replace(",", "")) for end in ends.groups())
    for value, right in ((low, True), (high, True), (low - 1, False), (high + 1, False)):
        given = value if "seconds" in cell else int(value)
        assert (check(given)[1] == []) is right


def test_every_option_of_a_signal_is_described_with_its_default() -> None:
    """The name is the key of the mapping, no option."""
    rows = _rows("| option | type | default |")
    assert list(rows) == [item.name for item in fields(SignalConfig) if item.name != "name"]
    shown = {name: cells[2] for name, cells in rows.items()}
    signal = SignalConfig(name="a")
    assert shown == {
        "delivery": f"`{signal.delivery[0]}`",
        "publish": f"`{signal.publish}`",
        "reveal": f"`{list(signal.reveal)}`",
        "max_backlog": "none",
        "encrypt": f"`{signal.encrypt}`",
    }


def test_the_examples_are_valid(tmp_path: Path) -> None:
    """Both of them, and without a warning."""
    blocks = re.findall(r"```(python|toml)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert [language for language, _ in blocks] == ["python", "toml"]
    settings = tmp_path / "settings.py"
    settings.write_text(blocks[0][1], encoding="utf-8")
    file = tmp_path / "relay.toml"
    file.write_text(blocks[1][1], encoding="utf-8")
    assert read_toml(file)["email"] is True
    for path in (settings, file):
        config = RelayConfig.load(path, environ={})
        assert config.email
        assert config.warnings == ()
