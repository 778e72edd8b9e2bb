"""What a user may set: :class:`RelayConfig`, and one :class:`SignalConfig` per relayed signal.

Config comes from Lback's settings (``RELAY_*``), a TOML file or a dict; the environment
(``LBACK_RELAY_*``) wins over each, but the constructor does not read it. All problems are found;
one :class:`~lback_relay.errors.ConfigError` names them all, each with its key and the remedy.
What may be a mistake but need not be is a warning (:attr:`RelayConfig.warnings`).

Nothing is opened here. Durations are seconds (``_s``); ``docs/configuration.md`` describes every
key, and a test holds it to these fields.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from lback_relay.config_checks import (
    Check,
    check_delivery,
    check_name,
    check_publish,
    check_reveal,
    closest,
    folder,
    integer,
    kind,
    number,
    one_of,
    true_or_false,
    word,
)
from lback_relay.config_sources import (
    KEYS_IN_THE_OPEN,
    closest_field,
    read_environment,
    read_settings,
    read_toml,
    setting_of,
    variable_of,
)
from lback_relay.config_warnings import find_warnings
from lback_relay.envelope import DELIVERY_MODES, QUEUE
from lback_relay.errors import ConfigError
from lback_relay.keyring import KeyRing, check_keys
from lback_relay.url import check_url, mask_url

EMAIL_SIGNAL: Final = "email_requested"
"""The signal that ``email`` adds: one mail to be sent."""
EMAIL_REVEAL: Final = ("to_email", "subject", "body")

MAX_PAYLOAD_BYTES: Final = 16 * 1_048_576
"""What a worker still decodes; a larger limit would only make dead letters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalConfig:
    """How one signal is relayed.

    Attributes:
        name: the signal's name, any non-empty text.
        delivery: "queue" (once per group, at least once), "broadcast" (every connected worker, at
            most once), or both. Given as one of the words or a list of both.
        publish: "on_commit" waits for the outermost commit of the session at hand; "immediate"
            does not; "outbox" makes the envelope a row of the same transaction.
        reveal: dotted paths of values that are relayed although they look secret, such as
            "user.email_verification_token".
        max_backlog: entries that the stream may hold; beyond it publishing waits. None: no limit.
        encrypt: whether the envelopes are encrypted; needs :attr:`RelayConfig.keys`.

    Raises:
        ConfigError: with all problems, when constructed.
    """

    name: str
    delivery: tuple[str, ...] = field(default=(QUEUE,), metadata={"check": check_delivery})
    publish: str = field(default="on_commit", metadata={"check": check_publish})
    reveal: tuple[str, ...] = field(default=(), metadata={"check": check_reveal})
    max_backlog: int | None = field(
        default=None, metadata={"check": integer(1, 1_000_000_000, "entries", optional=True)}
    )
    encrypt: bool = field(default=False, metadata={"check": true_or_false})

    def __post_init__(self) -> None:
        prefix = f"signals.{self.name}" if isinstance(self.name, str) else "signals"
        problems = check_name(self.name) + _check_fields(self, prefix)
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayConfig:
    """The relay's whole config, read-only.

    Attributes:
        signals: signal name to its config; a read-only mapping. With ``email`` it also holds
            :data:`EMAIL_SIGNAL`.
        url: the broker's URL; never printed, see :attr:`masked_url`.
        namespace: first part of every key and channel in the broker.
        publishing: "background" returns from ``send`` at once; "sync" when the broker has answered.
        publish_timeout_s: longest time that one ``send`` waits for the broker.
        max_queued: envelopes kept in memory; further ones go to the spool, out of order.
        flush_timeout_s: longest time that a process waits at its exit to send what is queued.
        spool_dir: folder of the spool, which keeps what can't be sent; "auto" means "lback-relay"
            in the user's state folder, "off" keeps it in memory alone.
        spool_sync: "normal" forces what is spooled to the disk within seconds, "full" before it
            counts as spooled; a killed process it survives at once, a power failure from then on.
        max_spool_bytes: size that the spool's file may reach.
        max_payload_bytes: size of an encoded envelope; larger values are omitted.
        max_string_length: characters of one text; the rest is cut, and marked as cut.
        email: whether the registration e-mail is relayed as :data:`EMAIL_SIGNAL`.
        keys: what signs and verifies; from the environment alone. None: nothing is signed.
        max_age_s: a worker with keys runs no envelope that was signed longer ago.
        warnings: what may be a mistake, one sentence each. Computed.

    Raises:
        ConfigError: with all problems, when constructed.
    """

    signals: Mapping[str, SignalConfig]
    url: str = field(default="redis://127.0.0.1:6379/0", repr=False)
    namespace: str = field(default="lback", metadata={"check": word(100)})
    publishing: str = field(default="background", metadata={"check": one_of("background", "sync")})
    publish_timeout_s: float = field(default=0.25, metadata={"check": number(0.001, 60, "s")})
    max_queued: int = field(
        default=100_000, metadata={"check": integer(1, 100_000_000, "envelopes")}
    )
    flush_timeout_s: float = field(default=5.0, metadata={"check": number(0, 3600, "s")})
    spool_dir: str = field(default="auto", metadata={"check": folder})
    spool_sync: str = field(default="normal", metadata={"check": one_of("full", "normal")})
    max_spool_bytes: int = field(default=2**30, metadata={"check": integer(2**20, 2**40, "bytes")})
    max_payload_bytes: int = field(
        default=1_048_576, metadata={"check": integer(256, MAX_PAYLOAD_BYTES, "bytes")}
    )
    max_string_length: int = field(
        default=65_536, metadata={"check": integer(16, MAX_PAYLOAD_BYTES, "characters")}
    )
    email: bool = field(default=False, metadata={"check": true_or_false})
    keys: KeyRing | None = field(default=None, repr=False, metadata={"check": check_keys})
    max_age_s: float = field(default=604_800.0, metadata={"check": number(1, 315_360_000, "s")})
    warnings: tuple[str, ...] = field(default=(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        problems = _check_fields(self, "")
        problems += [f"url: {problem}" for problem in check_url(self.url)]
        signals, found = _checked_signals(self.signals, email=self.email is True)
        problems += found
        if not problems and self.flush_timeout_s < self.publish_timeout_s:
            problems.append(
                f"flush_timeout_s: is {self.flush_timeout_s}, shorter than publish_timeout_s "
                f"({self.publish_timeout_s}); make it at least as long"
            )
        if problems:
            raise ConfigError(problems)
        object.__setattr__(self, "signals", MappingProxyType(signals))
        object.__setattr__(self, "warnings", find_warnings(self))

    @property
    def masked_url(self) -> str:
        """The broker's URL as it may be printed."""
        return mask_url(self.url)

    def max_backlog_of(self, name: str) -> int | None:
        """Return how many entries a signal's stream may hold; None for no limit."""
        signal = self.signals.get(name)
        return None if signal is None else signal.max_backlog

    def __repr__(self) -> str:
        shown = [f"signals={sorted(self.signals)!r}", f"url={self.masked_url!r}"]
        shown += [
            f"{item.name}={getattr(self, item.name)!r}"
            for item in fields(self)
            if item.repr and item.name != "signals"
        ]
        return f"RelayConfig({', '.join(shown)})"

    def __reduce__(self) -> tuple[Any, ...]:
        # A read-only mapping can't be pickled, and multiprocessing's spawn must pickle a config.
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.init}
        return _construct, ({**values, "signals": dict(self.signals)},)

    @classmethod
    def from_mapping(
        cls,
        data: Mapping[str, Any],
        *,
        environ: Mapping[str, str] | None = None,
        source: str = "config",
    ) -> RelayConfig:
        """Read config from a mapping whose keys are the field names.

        Args:
            data: field name to value. ``signals`` is a mapping from name to a mapping of options
                (or None), or a list of names.
            environ: where ``LBACK_RELAY_*`` is looked up; None means ``os.environ``.
            source: what the error names as the place of the problems.

        Raises:
            ConfigError: with all problems.
        """
        return _read(dict(data), [], os.environ if environ is None else environ, source, str)

    @classmethod
    def from_toml(
        cls, path: str | os.PathLike[str], *, environ: Mapping[str, str] | None = None
    ) -> RelayConfig:
        """Read config from a TOML file: top-level keys, and tables ``[signals.NAME]``.

        Raises:
            ConfigError: with all problems, also for a file that can't be read.
        """
        return cls.from_mapping(read_toml(path), environ=environ, source=os.fspath(path))

    @classmethod
    def from_settings(
        cls,
        settings: object,
        *,
        environ: Mapping[str, str] | None = None,
        source: str = "settings.py",
    ) -> RelayConfig:
        """Read config from the ``RELAY_*`` names of Lback's settings.

        Args:
            settings: a settings module, Lback's ``config`` object, or a mapping.
            environ: where ``LBACK_RELAY_*`` is looked up; None means ``os.environ``.
            source: what the error names as the place of the problems.

        Raises:
            ConfigError: with all problems; also when the URL holds a password, because Lback
                writes its settings into a file that everybody may read.
        """
        data, problems = read_settings(settings, _field_names())
        given = os.environ if environ is None else environ
        return _read(data, problems, given, source, setting_of)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
    ) -> RelayConfig:
        """Read config from a ``.toml`` file, or else from a Lback project.

        Args:
            path: a ``.toml`` file, a settings file, or a project's folder; None means the project
                around the current folder.
            environ: where ``LBACK_RELAY_*`` is looked up; None means ``os.environ``.

        Raises:
            ConfigError: with all problems.
        """
        if path is not None and Path(path).suffix == ".toml":
            return cls.from_toml(path, environ=environ)
        from lback_relay.lback.settings import relay_config_from_project

        return relay_config_from_project(path, environ=environ)


def _construct(values: dict[str, Any]) -> RelayConfig:
    return RelayConfig(**values)


def _field_names() -> list[str]:
    return [item.name for item in fields(RelayConfig) if item.init]


def _check_fields(config: object, prefix: str) -> list[str]:
    """Check each field that has a check, and put its normalized value in the value's place."""
    problems = []
    for item in fields(config):  # type: ignore[arg-type]
        check: Check | None = item.metadata.get("check")
        if check is None:
            continue
        value, found = check(getattr(config, item.name))
        key = f"{prefix}.{item.name}" if prefix else item.name
        problems += [f"{key}: {problem}" for problem in found]
        object.__setattr__(config, item.name, value)
    return problems


def _checked_signals(given: object, *, email: bool) -> tuple[dict[str, SignalConfig], list[str]]:
    """Turn what was given as ``signals`` into configs by name, with the problems."""
    problems: list[str] = []
    options: dict[Any, Any] = {}
    if isinstance(given, Mapping):
        options = dict(given)
    elif isinstance(given, list | tuple | set | frozenset):
        names = sorted(given, key=str) if isinstance(given, set | frozenset) else given
        for name in names:
            if isinstance(name, str) and name in options:
                problems.append(f"signals: names {name!r} twice")
            problems += check_name(name)
            if isinstance(name, str):
                options[name] = None
    else:
        problems.append(
            "signals: must be a mapping of signal names to options, or a list of names, "
            f"not {kind(given)}"
        )
    if problems:
        return {}, problems
    signals: dict[str, SignalConfig] = {}
    for name, value in options.items():
        signal, found = _signal(name, value)
        problems += found
        if signal is not None:
            signals[signal.name] = signal
    if email and not problems:
        problems += _add_email(signals)
    return signals, problems


def _signal(name: object, value: object) -> tuple[SignalConfig | None, list[str]]:
    """Return the config of one signal, or what is wrong with it."""
    if check_name(name) or not isinstance(name, str):
        return None, check_name(name)
    if isinstance(value, SignalConfig):
        same = value.name == name
        return value, [] if same else [f"signals.{name}: holds the config of {value.name!r}"]
    if value is None:
        return SignalConfig(name=name), []
    if not isinstance(value, Mapping):
        known_word = isinstance(value, str) and value in DELIVERY_MODES
        hint = f'; write {{"delivery": "{value}"}}' if known_word else ""
        return None, [f"signals.{name}: must be a mapping of options, not {kind(value)}{hint}"]
    known = [item.name for item in fields(SignalConfig) if item.name != "name"]
    problems = [
        f"signals.{name}.{key}: is no option of a signal{closest(str(key), known)}"
        for key in value
        if key not in known
    ]
    try:
        config = SignalConfig(name=name, **{key: value[key] for key in known if key in value})
    except ConfigError as error:
        return None, [*problems, *error.problems]
    return config, problems


def _add_email(signals: dict[str, SignalConfig]) -> list[str]:
    """Add the signal of a relayed e-mail; what the user set for it stays, as far as it can."""
    given = signals.get(EMAIL_SIGNAL, SignalConfig(name=EMAIL_SIGNAL))
    if QUEUE not in given.delivery:
        problem = (
            f"signals.{EMAIL_SIGNAL}.delivery: must hold 'queue': by broadcast alone every "
            "worker would send the mail, or none"
        )
        return [problem]
    reveal = tuple(dict.fromkeys((*EMAIL_REVEAL, *given.reveal)))
    signals[EMAIL_SIGNAL] = replace(given, reveal=reveal)
    return []


def _read(
    data: dict[str, Any],
    known_problems: list[str],
    environ: Mapping[str, str],
    source: str,
    name_of: Callable[[str], str],
) -> RelayConfig:
    """Make the config of a mapping and the environment; name keys as their source calls them."""
    names = _field_names()
    problems = [
        *known_problems,
        *(
            f"{name_of(str(key))}: is no key of the relay's config{closest_field(str(key), names)}"
            for key in data
            if key not in names
        ),
    ]
    if data.pop("keys", None) is not None:
        problems.append(KEYS_IN_THE_OPEN.format(name_of("keys")))
    values = {key: data[key] for key in names if key in data}
    overridden, found, warnings = read_environment(
        environ, {item.name: item.default for item in fields(RelayConfig) if item.init}
    )
    problems += found
    values.update(overridden)
    values.setdefault("signals", {})
    try:
        config = RelayConfig(**values)
    except ConfigError as error:
        for problem in error.problems:
            key, _, sentence = problem.partition(": ")
            named = variable_of(key) if key in overridden else name_of(key)
            problems.append(f"{named}: {sentence}")
        raise ConfigError(problems, source=source) from None
    if problems:
        raise ConfigError(problems, source=source)
    named_as_given = (
        f"{name_of(key)}: {sentence}"
        for key, _, sentence in (warning.partition(": ") for warning in config.warnings)
    )
    object.__setattr__(config, "warnings", (*named_as_given, *warnings))
    return config
