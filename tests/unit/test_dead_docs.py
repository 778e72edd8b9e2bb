"""docs/dead-letters.md against the commands that it describes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from lback_relay.cli import main
from lback_relay.cli.dead import dead
from lback_relay.cli.dead_selection import REASONS

PAGE = (Path(__file__).parents[2] / "docs" / "dead-letters.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ lback-relay (dead .*)$", PAGE, re.MULTILINE)
SHARED = {"--settings", "--config", "--url", "--all", "--dry-run", "--yes", "--vouch", "--help"}


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_on_the_page_are_right(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They get as far as a broker that is not there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LBACK_RELAY_URL", "redis://127.0.0.1:1/0")
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(line), prog_name="lback-relay")
    assert ended.value.code == 4


def test_every_option_that_chooses_is_described() -> None:
    """And every command and reason."""
    assert {line.split()[1] for line in COMMANDS} == set(dead.commands)
    for name in ("retry", "drop"):
        options = {
            option
            for parameter in dead.commands[name].params
            if isinstance(parameter, click.Option)
            for option in parameter.opts
        }
        assert set(re.findall(r"^\| `(--[a-z-]+) ", PAGE, re.MULTILINE)) == options - SHARED
    assert set(re.findall(r"^\| `([a-z]+)` \| [A-Z]", PAGE, re.MULTILINE)) == set(REASONS)
    assert set(re.findall(r"(--[a-z-]+)", PAGE)) >= SHARED - {"--help"}
