"""What several commands take: where the config is, and how they come to the broker.

Durations are seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import click

from lback_relay.config import RelayConfig
from lback_relay.config_sources import variable_of
from lback_relay.errors import ConfigError
from lback_relay.url import check_url
from lback_relay.url_files import check_files

if TYPE_CHECKING:
    from lback_relay.broker import Broker

CALL_TIMEOUT_S: Final = 10.0
_URL_VARIABLE: Final = variable_of("url")

Command = TypeVar("Command", bound=Callable[..., Any])


def config_options(
    toml_help: str = "A TOML file instead of a project.",
) -> Callable[[Command], Command]:
    """Return the decorator that gives a command ``--settings`` and ``--config``."""

    def add(command: Command) -> Command:
        toml = click.option(
            "--config",
            "config_file",
            type=click.Path(path_type=Path),
            metavar="FILE.toml",
            help=toml_help,
        )
        settings = click.option(
            "--settings",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="A Lback project's settings.py, or its folder.  "
            "[default: around the current folder]",
        )
        return settings(toml(command))

    return add


def broker_options(command: Command) -> Command:
    """Give a command that needs a broker and no signals ``--settings``, ``--config``, ``--url``."""
    url = click.option(
        "--url",
        metavar="URL",
        help="The broker; better in the environment, for others may read a command line.  "
        f"[env: {_URL_VARIABLE}]",
    )
    return config_options()(url(command))


def not_empty(_ctx: click.Context, _option: click.Parameter, value: Any) -> Any:
    """Refuse an empty text: a variable of a script that is not set must not mean all, nor nothing.

    The callback of an option that takes text, once or several times.
    """
    if value == "" or (isinstance(value, tuple) and "" in value):
        raise click.BadParameter("is empty; leave it out, or give a text")
    return value


def check_one_source(settings: Path | None, config_file: Path | None) -> None:
    """Refuse two places for one config.

    Raises:
        click.UsageError: both were given.
    """
    if settings is not None and config_file is not None:
        raise click.UsageError("give either --settings or --config, not both")


def read_config(settings: Path | None, config_file: Path | None) -> RelayConfig:
    """Return the relay's config from where the options say, and from the environment.

    Raises:
        click.UsageError: both places were given.
        ConfigError: with all problems.
    """
    return _read(settings, config_file, dict(os.environ))


def read_broker_config(
    settings: Path | None, config_file: Path | None, url: str | None
) -> RelayConfig:
    """Return the config of a command that needs to know the broker alone.

    Without a project and a file, a URL from ``--url`` or the environment is enough.

    Raises:
        click.UsageError: both places were given.
        ConfigError: with all problems.
    """
    environ = dict(os.environ)
    if url is not None:
        problems = check_url(url)
        if problems:
            raise ConfigError(problems, source="--url")
        environ[_URL_VARIABLE] = url
    if settings is None and config_file is None:
        from lback_relay.lback.settings import find_project_root

        try:
            find_project_root()
        except ConfigError:
            if _URL_VARIABLE not in environ:
                problem = (
                    "no settings.py in it or above it; go to the project's folder, or give "
                    "--settings FILE, --config FILE.toml or --url URL"
                )
                raise ConfigError([problem], source=str(Path.cwd())) from None
            return RelayConfig.from_mapping({}, environ=environ, source="environment")
    return _read(settings, config_file, environ)


def _read(settings: Path | None, config_file: Path | None, environ: dict[str, str]) -> RelayConfig:
    check_one_source(settings, config_file)
    if config_file is not None:
        return RelayConfig.from_toml(config_file, environ=environ)
    from lback_relay.lback.settings import relay_config_from_project

    return relay_config_from_project(settings, environ=environ)


@contextmanager
def opened_broker(config: RelayConfig, *, client_name: str) -> Iterator[Broker]:
    """Yield the broker that the workers use; it is closed at the end.

    Raises:
        ConfigError: its URL names one that belongs to a single process, or a file that is not
            there.
    """
    parts = urlsplit(config.url)
    if parts.scheme == "memory" or (parts.scheme == "embedded" and parts.path in ("", "/")):
        problem = (
            f"{config.masked_url} is a broker inside of the process that opens it: it holds "
            "nothing of other processes; give the URL that the workers use"
        )
        raise ConfigError([problem], source="broker URL")
    check_files(config.url)
    # Imported here, so that --help works where the client can't be imported.
    from lback_relay.broker import connect

    broker = connect(
        config.url,
        namespace=config.namespace,
        timeout_s=CALL_TIMEOUT_S,
        client_name=client_name,
    )
    try:
        yield broker
    finally:
        broker.close()
