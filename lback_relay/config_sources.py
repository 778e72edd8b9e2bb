"""Where config comes from: Lback's settings, the environment, a TOML file.

Each function returns plain data and the problems it met; nothing is judged here but names.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lback_relay.config_checks import closest, read_text
from lback_relay.errors import ConfigError
from lback_relay.url import has_password

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ENVIRONMENT_PREFIX: Final = "LBACK_RELAY_"
SETTINGS_PREFIX: Final = "RELAY_"

# A name after the prefix that is no field: the tests' broker.
_RESERVED: Final = ("TEST_URL",)

KEYS_IN_THE_OPEN: Final = (
    "{}: keys are taken from the environment variable LBACK_RELAY_KEYS alone; take them out here, "
    "and make new ones with 'lback-relay keys new': Lback writes its settings into config.json, "
    "which everybody on the machine may read"
)


def setting_of(key: str) -> str:
    """Turn a field name, or the dotted path below one, into what settings.py calls it."""
    name, dot, rest = key.partition(".")
    return SETTINGS_PREFIX + name.upper() + dot + rest


def variable_of(name: str) -> str:
    """Turn a field name into its environment variable."""
    return ENVIRONMENT_PREFIX + name.upper()


def closest_field(key: str, names: Sequence[str]) -> str:
    """Return the hint for a key that is no field's name; it knows the settings' spelling too."""
    plain = key.removeprefix(SETTINGS_PREFIX).lower()
    if plain in names:
        return f"; here it is called {plain!r}"
    return closest(key, names)


def read_settings(settings: object, names: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Take the ``RELAY_*`` names out of a settings module, object or mapping.

    Args:
        settings: what holds them; other names are not looked at.
        names: the field names there are.

    Returns: the values by field name, and the problems.
    """
    given = settings if isinstance(settings, Mapping) else dir(settings)
    data: dict[str, Any] = {}
    problems: list[str] = []
    for name in sorted(str(key) for key in given):
        rest = name.removeprefix(SETTINGS_PREFIX)
        if rest == name or rest in _RESERVED:
            continue
        value = settings[name] if isinstance(settings, Mapping) else getattr(settings, name)
        if rest.isupper() and rest.lower() in names:
            data[rest.lower()] = value
        else:
            near = _closest_after_prefix(rest, names, SETTINGS_PREFIX)
            problems.append(f"{name}: is no setting of the relay{near}")
    url = data.get("url")
    if isinstance(url, str) and has_password(url):
        del data["url"]
        problems.append(
            "RELAY_URL: holds a password, and Lback writes every setting into config.json, which "
            "everybody on the machine may read; put the URL into the environment variable "
            f"{variable_of('url')}"
        )
    return data, problems


def read_environment(
    environ: Mapping[str, str], defaults: Mapping[str, object]
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Take the ``LBACK_RELAY_*`` variables out of the environment.

    Args:
        environ: the environment.
        defaults: field name to its default, whose type tells how to read the variable.

    Returns: the values by field name, the problems, and the warnings.
    """
    unread = {variable_of("signals"), *map(variable_of, _RESERVED)}
    given = {variable: text for variable, text in environ.items() if variable not in unread}
    problems, warnings = check_variables(
        given, list(defaults), prefix=ENVIRONMENT_PREFIX, owner="the relay"
    )
    if variable_of("signals") in environ:
        problems.append(
            f"{variable_of('signals')}: signals are not read from the environment; "
            "put them into RELAY_SIGNALS in settings.py or into a TOML file"
        )
    values = {
        name: read_text(text, default)
        for name, default in defaults.items()
        if (text := given.get(variable_of(name)))
    }
    return values, problems, warnings


def check_variables(
    environ: Mapping[str, str], names: Sequence[str], *, prefix: str, owner: str
) -> tuple[list[str], list[str]]:
    """Look for variables that are misspelt or set to nothing.

    Args:
        environ: the environment.
        names: the field names there are; a variable is the prefix and one of these in upper case.
        prefix: what marks a variable as ours.
        owner: whose variables these are, for the sentence.

    Returns: the problems, and the warnings.
    """
    problems: list[str] = []
    warnings: list[str] = []
    known = {prefix + name.upper() for name in names}
    for variable in sorted(environ):
        if not variable.startswith(prefix):
            continue
        if variable in known:
            if not environ[variable]:
                problems.append(f"{variable}: is empty; give it a value or unset it")
            continue
        near = _closest_after_prefix(variable.removeprefix(prefix), names, prefix)
        if near:
            problems.append(f"{variable}: is no variable of {owner}{near}")
        else:
            # Not refused: Kubernetes makes such variables for a service named "lback-relay".
            warnings.append(f"{variable}: is no variable of {owner} and is ignored")
    return problems, warnings


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return a TOML file's data.

    Raises:
        ConfigError: it is missing, can't be read, is not UTF-8, or is no TOML.
    """
    source = os.fspath(path)
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - any path-like, as open takes it
            return tomllib.load(file)
    except FileNotFoundError:
        raise ConfigError(["there is no such file"], source=source) from None
    except OSError as error:
        problem = f"can't be read: {error.strerror or type(error).__name__}"
        raise ConfigError([problem], source=source) from error
    except UnicodeDecodeError as error:
        raise ConfigError(["is not UTF-8, as TOML must be"], source=source) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"is no valid TOML: {error}"], source=source) from error


def _closest_after_prefix(rest: str, names: Sequence[str], prefix: str) -> str:
    """Compare without the prefix: what all names share makes everything look alike."""
    near = closest(rest.upper(), [name.upper() for name in names])
    return near.replace("'", f"'{prefix}", 1)
