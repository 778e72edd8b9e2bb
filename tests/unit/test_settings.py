"""Reading settings.py without the framework."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from lback_relay.config import RelayConfig
from lback_relay.errors import ConfigError
from lback_relay.lback.settings import find_project_root, load_settings, relay_config_from_project


def _settings(folder: Path, text: str) -> Path:
    file = folder / "settings.py"
    file.write_text(text, encoding="utf-8")
    return file


def test_upper_case_names_are_the_settings(tmp_path: Path) -> None:
    """As the framework takes them; imports and other names are left out."""
    file = _settings(tmp_path, "import os\nRELAY_EMAIL = True\nlower = 1\nA_1 = os.sep\n")
    assert vars(load_settings(file)) == {"RELAY_EMAIL": True, "A_1": os.sep}


def test_settings_see_their_file_and_the_project_on_the_path(tmp_path: Path) -> None:
    """Real ones compute BASE_DIR and import modules of the project."""
    (tmp_path / "local_of_test_settings.py").write_text("NAME = 'shop'\n")
    file = _settings(
        tmp_path,
        "from pathlib import Path\nfrom dataclasses import dataclass\n"
        "import local_of_test_settings\n"
        "@dataclass\nclass Thing:\n    name: 'str' = 'x'\n"
        "RELAY_NAMESPACE = local_of_test_settings.NAME\n"
        "BASE_DIR = Path(__file__).parent\n",
    )
    try:
        settings = load_settings(file)
    finally:
        sys.modules.pop("local_of_test_settings", None)
    assert settings.RELAY_NAMESPACE == "shop"
    assert tmp_path == settings.BASE_DIR


def test_reading_leaves_nothing_behind(tmp_path: Path) -> None:
    """No path, no module of its own, no bytecode; the framework stays unimported."""
    (tmp_path / "other_of_test_settings.py").write_text("X = 1\n")
    path, modules = list(sys.path), set(sys.modules)
    load_settings(_settings(tmp_path, "import other_of_test_settings\n"))
    assert sys.path == path
    assert set(sys.modules) - modules == {"other_of_test_settings"}
    del sys.modules["other_of_test_settings"]
    assert {file.name for file in tmp_path.iterdir()} == {
        "settings.py",
        "other_of_test_settings.py",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A = 1\nB = = 2\n", "line 2: SyntaxError: invalid syntax"),
        ("A = 1\n  B = 2\n", "line 2: IndentationError: unexpected indent"),
        ("A = 1\n\nB = A / 0\n", "line 3: ZeroDivisionError: division by zero"),
        ("import no_such_module_at_all\n", "line 1: ModuleNotFoundError: No module named"),
        (
            "import os\nX = os.environ['NO_SUCH_VARIABLE']\n",
            "line 2: KeyError: 'NO_SUCH_VARIABLE'; if it is an environment variable, set it",
        ),
        ("raise SystemExit('stop')\n", "line 1: SystemExit: stop"),
        ("class B(BaseException): pass\nraise B('x')\n", "line 2: B: x"),
        (
            "class B(Exception):\n    def __str__(self): raise self\n\nraise B\n",
            "line 4: B: (its text can't be made)",
        ),
        ("def f():\n    raise ValueError\n\nf()\n", "line 2: ValueError"),
        ("import json\njson.loads('{')\n", "line 2: JSONDecodeError"),
        ("raise ValueError('a\\nb')\n", "line 1: ValueError: a b"),
        (
            "raise ValueError('redis://u:geheim@h password=geheim')\n",
            "line 1: ValueError: redis://[redacted]@h password=[redacted]",
        ),
        ("raise ValueError('\\x1b[2Jred')\n", r"line 1: ValueError: \x1b[2Jred"),
        ("{}['redis://u:geheim@h']\n", "line 1: KeyError: 'redis://[redacted]@h'; if it is"),
        ("A = '\x00'\n", "null bytes"),
    ],
)
def test_an_error_in_settings_is_one_sentence_with_its_line(
    tmp_path: Path, text: str, said: str
) -> None:
    """File, line, error; never a traceback."""
    file = _settings(tmp_path, text)
    path = list(sys.path)
    with pytest.raises(ConfigError) as caught:
        load_settings(file)
    (problem,) = caught.value.problems
    assert caught.value.source == str(file)
    assert said in problem
    assert "\n" not in str(caught.value)
    assert sys.path == path


def test_a_file_that_is_not_there_or_a_folder_is_told(tmp_path: Path) -> None:
    """With its full path."""
    with pytest.raises(ConfigError, match="there is no such file"):
        load_settings(tmp_path / "settings.py")
    with pytest.raises(ConfigError, match="is a folder; name its"):
        load_settings(tmp_path)


def test_the_project_root_is_the_nearest_folder_with_settings(tmp_path: Path) -> None:
    """From a folder or a file in the project."""
    file = _settings(tmp_path, "")
    inner = tmp_path / "app" / "views"
    inner.mkdir(parents=True)
    assert find_project_root(inner) == tmp_path
    assert find_project_root(file) == tmp_path


def test_without_a_project_the_remedy_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder that was searched is named."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no settings\.py in it or above it") as caught:
        find_project_root()
    assert caught.value.source == str(tmp_path)


def test_the_relay_config_of_a_project_is_found_from_within(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the current folder, a folder, or the file; the environment wins."""
    file = _settings(tmp_path, "RELAY_SIGNALS = ['user_registered']\nRELAY_NAMESPACE = 'x'\n")
    inner = tmp_path / "app"
    inner.mkdir()
    monkeypatch.chdir(inner)
    environ = {"LBACK_RELAY_NAMESPACE": "shop"}
    for path in (None, inner, file, str(file)):
        config = relay_config_from_project(path, environ=environ)
        assert (config.namespace, list(config.signals)) == ("shop", ["user_registered"])
        assert RelayConfig.load(path, environ=environ) == config


def test_problems_of_a_project_name_its_file(tmp_path: Path) -> None:
    """There may be several settings.py on a machine."""
    file = _settings(tmp_path, "RELAY_SIGNALS = 3\n")
    with pytest.raises(ConfigError) as caught:
        relay_config_from_project(tmp_path, environ={})
    assert str(caught.value).startswith(f"{file}: RELAY_SIGNALS: must be a mapping")


def test_an_interrupt_while_settings_are_read_is_one(tmp_path: Path) -> None:
    """Ctrl-C is no mistake of the settings."""
    with pytest.raises(KeyboardInterrupt):
        load_settings(_settings(tmp_path, "raise KeyboardInterrupt\n"))
