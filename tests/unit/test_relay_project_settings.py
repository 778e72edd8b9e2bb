"""Which project a worker works for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lback_relay.errors import ConfigError
from lback_relay.lback.settings import project_root, project_settings, set_project


@pytest.fixture(autouse=True)
def no_project() -> Iterator[None]:
    """Each test begins and ends without one."""
    set_project(None)
    yield
    set_project(None)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's folder."""
    folder = tmp_path / "shop"
    (folder / "inner").mkdir(parents=True)
    (folder / "settings.py").write_text("import itertools\nSMTP_SERVER = 'mail'\n")
    return folder


@pytest.mark.parametrize("given", [".", "inner", "settings.py"])
def test_a_project_is_named_by_its_file_or_any_of_its_folders(project: Path, given: str) -> None:
    """As on the worker's command line."""
    set_project(project / given)
    assert project_settings().SMTP_SERVER == "mail"
    assert project_root() == project


def test_the_settings_are_read_once(project: Path) -> None:
    """They are code, and run once per process."""
    set_project(project)
    assert project_settings() is project_settings()


def test_the_project_around_the_current_folder_is_the_default(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a worker that is started in it."""
    monkeypatch.chdir(project / "inner")
    assert project_settings().SMTP_SERVER == "mail"


def test_without_a_project_the_settings_are_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that matters may be in the environment."""
    monkeypatch.chdir(tmp_path)
    assert vars(project_settings()) == {}
    assert project_root() == tmp_path


def test_a_project_that_is_none_is_refused(tmp_path: Path) -> None:
    """It was asked for by name."""
    set_project(tmp_path / "settings.py")
    with pytest.raises(ConfigError, match="no such file"):
        project_settings()
