"""What may be set of a worker, and the page that says so."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import click
import pytest

from lback_relay.errors import ConfigError
from lback_signal_worker.cli import main
from lback_signal_worker.config import WorkerConfig

PAGE = Path(__file__).resolve().parents[2] / "docs" / "worker.md"


def test_the_defaults_fit_together() -> None:
    """A lease survives two failed renewals, and the drain ends before the container is killed."""
    config = WorkerConfig()
    assert config.renew_every_s * 3 == config.lease_s == 60
    assert config.drain_timeout_s < config.stop_grace_s
    with pytest.raises(FrozenInstanceError):
        config.group = "other"  # type: ignore[misc]


def test_every_problem_is_named_at_once() -> None:
    """Each with its field."""
    with pytest.raises(ConfigError) as caught:
        WorkerConfig(
            group=7,  # type: ignore[arg-type]
            concurrency=True,
            lease_s=0,
            max_crashes=2,
            health_file="",
        )
    fields = [problem.partition(":")[0] for problem in caught.value.problems]
    assert fields == ["group", "concurrency", "lease_s", "max_crashes", "health_file"]


def test_consumers_are_removed_after_ten_leases_and_an_hour_at_most() -> None:
    """What they had in hand was claimed long before."""
    assert WorkerConfig(lease_s=3).reap_after_s == 30
    assert WorkerConfig(lease_s=86_400).reap_after_s == 3600


@pytest.mark.parametrize("group", ["", "  ", "a\nb", "x" * 101])
def test_a_group_needs_a_name(group: str) -> None:
    """That can be printed."""
    with pytest.raises(ConfigError, match="group: must"):
        WorkerConfig(group=group)


def test_a_drain_must_end_before_the_kill() -> None:
    """The sentence names both values."""
    with pytest.raises(ConfigError, match=r"is 30, not below stop_grace_s \(30\)"):
        WorkerConfig(drain_timeout_s=30)
    WorkerConfig(drain_timeout_s=30, stop_grace_s=40)


def test_the_page_names_every_option_with_its_default_and_variable() -> None:
    """It is what a user reads."""
    page = PAGE.read_text()
    for option in main.params:
        if not isinstance(option, click.Option) or option.name == "version":
            continue
        row = re.search(rf"^\| `{option.opts[0]}` \|(.*)$", page, re.MULTILINE)
        assert row is not None, option.opts[0]
        if option.envvar:
            assert f"`{option.envvar}`" in row[1]
        if option.default is not None and option.show_default:
            default = option.default
            shown = f"{default:g}" if isinstance(default, float) else str(default)
            assert row[1].split("|")[0].strip(" `") == shown
