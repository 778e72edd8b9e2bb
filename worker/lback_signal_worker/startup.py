"""What happens before the worker runs: its config, its handlers, the way to the broker.

Everything that a user can get wrong is found here, before the first entry is taken. Durations are
seconds.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Final

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay
from tenacity.wait import wait_random_exponential

from lback_relay.broker import connect
from lback_relay.broker.base import Broker, Inspection
from lback_relay.config import RelayConfig
from lback_relay.config_checks import closest
from lback_relay.envelope import BROADCAST, QUEUE
from lback_relay.errors import BrokerError, BrokerUnavailable, ConfigError
from lback_relay.lback.settings import (
    find_project_root,
    project_root,
    project_settings,
    set_project,
)
from lback_relay.remote import RemoteDispatcher
from lback_relay.throttle import Throttle
from lback_relay.url import check_url
from lback_relay.url_files import check_files

logger = logging.getLogger(__name__)

URL_VARIABLE: Final = "LBACK_RELAY_URL"
REACH_S: Final = 5.0
"""How long the broker may take to come up beside the worker."""
CALL_TIMEOUT_S: Final = 5.0

_NO_PROJECT: Final = (
    "there is no settings.py in it or above it; go to the project's folder, or give "
    "--settings FILE, --config FILE.toml or --url URL"
)


def relay_config(
    *, settings: Path | None, toml: Path | None, url: str | None, environ: Mapping[str, str]
) -> tuple[RelayConfig, bool]:
    """Read the relay's config and put the project on ``sys.path``.

    Args:
        settings: the project's settings file or folder; None: around the current folder.
        toml: the relay's config, in place of the project's settings.
        url: wins over every other URL.
        environ: the environment.

    Returns: the config, and whether it names the relayed signals: without project and file it
        knows nothing of them.

    Raises:
        ConfigError: with all problems.
    """
    if url is not None:
        problems = check_url(url)
        if problems:
            raise ConfigError(problems, source="--url")
        environ = {**environ, URL_VARIABLE: url}
    set_project(settings)
    try:
        root = find_project_root(settings)
    except ConfigError:
        if settings is not None and not settings.is_file():
            raise
        if settings is None and toml is None and URL_VARIABLE not in environ:
            raise ConfigError([_NO_PROJECT], source=str(Path.cwd())) from None
        root = None
    put_on_path(Path.cwd(), project_root() if root is None and settings is not None else root)
    if toml is not None:
        return RelayConfig.from_toml(toml, environ=environ), True
    if root is None and settings is None:
        return RelayConfig.from_mapping({}, environ=environ, source="environment"), False
    source = str(settings if settings is not None else (root or Path.cwd()) / "settings.py")
    config = RelayConfig.from_settings(project_settings(), environ=environ, source=source)
    return config, True


def put_on_path(*folders: Path | None) -> None:
    """Let modules be imported from these folders, the first one first."""
    for folder in reversed(folders):
        if folder is not None:
            entry = str(folder)
            while entry in sys.path:
                sys.path.remove(entry)
            sys.path.insert(0, entry)


def mismatches(config: RelayConfig, dispatcher: RemoteDispatcher) -> list[str]:
    """Return warnings for handlers that nothing will ever reach."""
    warnings = []
    for name in dispatcher.signals():
        signal = config.signals.get(name)
        if signal is None:
            warnings.append(
                f"nothing will arrive for the handlers of {name!r}: it is not in RELAY_SIGNALS"
                f"{closest(name, config.signals)}"
            )
            continue
        for handler in dispatcher.handlers(name):
            by_queue = handler.takes_queue and QUEUE in signal.delivery
            by_broadcast = BROADCAST in signal.delivery and handler.takes_broadcast(signal.delivery)
            if not by_queue and not by_broadcast:
                warnings.append(
                    f"nothing will arrive for {handler.name}: it takes {name!r} by "
                    f"{handler.options.delivery}, and RELAY_SIGNALS sends it by "
                    f"{' and '.join(signal.delivery)}"
                )
    return warnings


def reach_broker(
    config: RelayConfig,
    *,
    pause: Callable[[float], None],
    client_name: str,
    level: int = logging.WARNING,
) -> Callable[[], Broker]:
    """Wait until the broker answers, look at it, and return what makes further connections to it.

    Args:
        config: holds its URL.
        pause: waits some seconds; may raise to give up.
        client_name: shown by ``CLIENT LIST``.
        level: at which is logged what endangers it.

    Raises:
        ConfigError: its URL names a file that is not there.
        BrokerUnavailable: it did not answer for ``REACH_S``.
        BrokerError: it refuses us, or is set up so that it would lose what it was given.
    """

    def make() -> Broker:
        return connect(
            config.url,
            namespace=config.namespace,
            timeout_s=CALL_TIMEOUT_S,
            client_name=client_name,
        )

    def say(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if throttle.admit(monotonic()) is not None:
            logger.warning("waiting for the broker: %s", error)

    throttle = Throttle()
    check_files(config.url)
    broker = make()

    def look() -> Inspection:
        broker.ping()
        return broker.inspect(persistence=not config.url.startswith("embedded:"))

    try:
        found: Inspection = Retrying(
            retry=retry_if_exception_type(BrokerUnavailable),
            stop=stop_after_delay(REACH_S),
            wait=wait_random_exponential(multiplier=0.5, max=1.5, min=0.3),
            before_sleep=say,
            sleep=pause,
            reraise=True,
        )(look)
    finally:
        broker.close()
    if found.problems:
        raise BrokerError("\n".join(found.problems))
    for warning in found.warnings:
        logger.log(level, "%s", warning)
    return make


def client_name(group: str) -> str:
    """Return the name of this worker's connections; Redis takes no blanks in it."""
    plain = "".join(character if "!" <= character <= "~" else "_" for character in group)
    return f"lback-signal-worker:{plain}:{os.getpid()}"
