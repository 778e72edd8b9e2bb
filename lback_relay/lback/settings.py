"""Reading a Lback project's settings.py without the framework.

The framework reads settings in the middle of its start, which opens a database and starts file
watchers; the worker and the command line need the ``RELAY_*`` and ``SMTP_*`` names alone. The
file is the project's own code and is run, once, with the project's folder on ``sys.path`` as the
framework would have it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType, ModuleType, SimpleNamespace
from typing import Final

from lback_relay.config import RelayConfig
from lback_relay.error_text import described_in_one_line
from lback_relay.errors import ConfigError

SETTINGS_NAME: Final = "settings.py"
MODULE_NAME: Final = "_lback_relay_settings"
"""What the settings see as their ``__name__``; never left in ``sys.modules``."""


def relay_config_from_project(
    path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None
) -> RelayConfig:
    """Return the relay's config of a project.

    Args:
        path: its settings file, or a folder in the project; None means the current folder.
        environ: where ``LBACK_RELAY_*`` is looked up; None means ``os.environ``.

    Raises:
        ConfigError: there is no project, its settings can't be read, or the config is wrong.
    """
    given = Path.cwd() if path is None else Path(path)
    file = find_project_root(given) / SETTINGS_NAME if given.is_dir() else given
    return RelayConfig.from_settings(load_settings(file), environ=environ, source=str(file))


def find_project_root(start: str | os.PathLike[str] | None = None) -> Path:
    """Return the nearest folder that holds a settings.py: ``start`` or one above it.

    Args:
        start: a folder, or a file in it; None means the current folder.

    Raises:
        ConfigError: none holds one.
    """
    folder = Path.cwd() if start is None else Path(start).absolute()
    for candidate in (folder, *folder.parents):
        if (candidate / SETTINGS_NAME).is_file():
            return candidate
    raise ConfigError(
        ["no settings.py in it or above it; go to the project's folder, or name the file"],
        source=str(folder),
    )


def load_settings(path: str | os.PathLike[str]) -> SimpleNamespace:
    """Run a settings file and return its upper-case names.

    Nothing stays behind in ``sys.path`` or ``sys.modules`` and no bytecode is written; what the
    file itself imports stays imported.

    Args:
        path: the file.

    Raises:
        ConfigError: it is missing, can't be read, or fails; with file, line and error.
    """
    file = Path(path).absolute()
    code = _compiled(file)
    module = ModuleType(MODULE_NAME)
    module.__file__ = str(file)
    with _project_on_path(file.parent, module):
        try:
            exec(code, module.__dict__)  # noqa: S102 - the project's own settings
        except KeyboardInterrupt:  # Ctrl-C, and a worker's end
            raise
        except BaseException as error:
            line = _line_in(file, error)
            raise ConfigError([f"line {line}: {_described(error)}"], source=str(file)) from error
    return SimpleNamespace(
        **{name: value for name, value in vars(module).items() if name.isupper()}
    )


_project: Path | None = None
_loaded: SimpleNamespace | None = None


def set_project(path: str | os.PathLike[str] | None) -> None:
    """Say which project this process works for; the worker does, before it imports handlers.

    Args:
        path: its settings file, or a folder in the project; None means the one around the current
            folder, if there is one.
    """
    global _project, _loaded  # noqa: PLW0603 - a process works for one project
    _project = None if path is None else Path(path).absolute()
    _loaded = None


def project_settings() -> SimpleNamespace:
    """Return the settings of this process's project, read once.

    Without a project they are empty: a container may hold all that matters in its environment.

    Raises:
        ConfigError: the project that was set is none, or its settings can't be read.
    """
    global _loaded  # noqa: PLW0603
    if _loaded is None:
        file = _settings_file()
        _loaded = SimpleNamespace() if file is None else load_settings(file)
    return _loaded


def project_root() -> Path:
    """Return the folder of this process's project; the current one when there is none."""
    file = _settings_file()
    return Path.cwd() if file is None else file.parent


def _settings_file() -> Path | None:
    if _project is not None:
        return find_project_root(_project) / SETTINGS_NAME if _project.is_dir() else _project
    with contextlib.suppress(ConfigError):
        return find_project_root() / SETTINGS_NAME
    return None


def _compiled(file: Path) -> CodeType:
    try:
        code: CodeType = compile(file.read_bytes(), str(file), "exec", dont_inherit=True)
    except FileNotFoundError:
        raise ConfigError(["there is no such file"], source=str(file)) from None
    except IsADirectoryError:
        raise ConfigError(["is a folder; name its settings.py"], source=str(file)) from None
    except OSError as error:
        problem = f"can't be read: {error.strerror or type(error).__name__}"
        raise ConfigError([problem], source=str(file)) from error
    except SyntaxError as error:
        problem = f"line {error.lineno or '?'}: {described_in_one_line(error)}"
        raise ConfigError([problem], source=str(file)) from error
    except ValueError as error:  # a null byte, before Python 3.12
        raise ConfigError([f"is no Python source: {error}"], source=str(file)) from error
    return code


@contextlib.contextmanager
def _project_on_path(folder: Path, module: ModuleType) -> Iterator[None]:
    entry = str(folder)
    without_bytecode = sys.dont_write_bytecode
    sys.path.insert(0, entry)
    sys.modules[module.__name__] = module  # dataclasses look their module up while they are made
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = without_bytecode
        sys.modules.pop(module.__name__, None)
        with contextlib.suppress(ValueError):  # the settings may have taken it out
            sys.path.remove(entry)


def _line_in(file: Path, error: BaseException) -> int | str:
    """Return the line of the settings file at which it failed, also deep in an import."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(file)
    ]
    return lines[-1] if lines and lines[-1] is not None else "?"


def _described(error: BaseException) -> str:
    """Name the error in one line. A KeyError of ``os.environ`` gets its remedy."""
    if isinstance(error, KeyError) and error.args and isinstance(error.args[0], str):
        return f"{described_in_one_line(error)}; if it is an environment variable, set it"
    return described_in_one_line(error)
