"""Certificates and keys that a broker's URL names: looked for where they are needed, at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine

from lback_relay import Relay, RelayConfig
from lback_relay.cli import main
from lback_relay.errors import ConfigError
from lback_relay.outbox import create_table
from lback_relay.testing import RecordingPublisher
from lback_relay.url_files import check_files
from lback_signal_worker.startup import reach_broker

MISSING = "rediss://:hunter2@127.0.0.1:1/0?ssl_ca_certs=/nope.pem"
SAID = "ssl_ca_certs names /nope.pem, and there is no such file"


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config whose URL names a file that is not there."""
    monkeypatch.delenv("LBACK_RELAY_URL", raising=False)
    file = tmp_path / "relay.toml"
    file.write_text(f'url = "{MISSING}"\n[signals.order_paid]\n')
    return file


@pytest.mark.parametrize(
    "url",
    [
        "rediss://h?ssl_ca_certs={0}/a.pem&ssl_certfile={0}/a.pem&ssl_keyfile={0}/a.pem",
        "rediss://h?ssl_ca_path={0}&ssl_ca_certs=",
        "rediss://h?ssl_ca_certs=%2Fdev%2Fnull",
        "rediss://h?ssl_cert_reqs=none",
        "redis://h",
        "unix:///nowhere",
        "memory://",
    ],
)
def test_files_that_are_there_are_right(tmp_path: Path, url: str) -> None:
    """And nothing is looked for where nothing is named."""
    (tmp_path / "a.pem").touch()
    check_files(url.format(tmp_path))


@pytest.mark.parametrize(
    ("option", "kind"),
    [
        ("ssl_ca_certs=/nope.pem", "file"),
        ("ssl_certfile=/nope.pem", "file"),
        ("ssl_keyfile=/tmp", "file"),
        ("ssl_ca_path=/nope", "folder"),
        ("ssl_ca_path=/dev/null", "folder"),
    ],
)
def test_a_file_that_is_not_there_is_named_with_its_option(option: str, kind: str) -> None:
    """Without the URL's password."""
    key, _, name = option.partition("=")
    with pytest.raises(ConfigError) as refused:
        check_files(f"rediss://:hunter2@h:1?{option}")
    assert str(refused.value) == (
        f"broker URL: {key} names {name}, and there is no such {kind} on this machine"
    )


def test_every_file_that_is_not_there_is_named() -> None:
    """Not one after the other."""
    with pytest.raises(ConfigError) as refused:
        check_files("rediss://h?ssl_certfile=/a&ssl_keyfile=/b")
    assert len(refused.value.problems) == 2


def test_a_file_that_may_not_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests may run as root, who may read everything."""
    (tmp_path / "a.pem").touch()
    monkeypatch.setattr("lback_relay.url_files.os.access", lambda *_: False)
    with pytest.raises(ConfigError, match="which this user may not read"):
        check_files(f"rediss://h?ssl_keyfile={tmp_path}/a.pem")

    def denied(_path: Path) -> bool:
        raise PermissionError

    monkeypatch.setattr(Path, "exists", denied)
    with pytest.raises(ConfigError, match="which this user may not read"):
        check_files("rediss://h?ssl_keyfile=/closed/a.pem")


def test_a_config_may_be_read_where_the_files_are_not(toml: Path) -> None:
    """As where an image is built, or a project's tests run."""
    config = RelayConfig.from_toml(toml, environ={})
    Relay(config, publisher=RecordingPublisher()).close()
    done = CliRunner().invoke(main, ["check", "--no-ping", "--config", str(toml)])
    assert done.exit_code == 0, done.output


def test_a_relay_does_not_start_without_them(toml: Path) -> None:
    """The application is told, not its log in the first outage that is none."""
    with pytest.raises(ConfigError, match=SAID):
        Relay(RelayConfig.from_toml(toml, environ={}))


@pytest.mark.parametrize(
    "command",
    [
        ("check", "--config", "{toml}"),
        ("dead", "list", "--config", "{toml}"),
        ("outbox", "--config", "{toml}", "--database", "sqlite:///{folder}/a.db"),
    ],
)
def test_commands_tell_it_at_once(toml: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    """As any other config that can't be used."""
    engine = create_engine(f"sqlite:///{tmp_path}/a.db")
    create_table(engine)
    engine.dispose()
    arguments = [part.format(toml=toml, folder=tmp_path) for part in command]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert done.output == f"lback-relay: broker URL: {SAID} on this machine\n"


def test_a_worker_does_not_wait_for_them(toml: Path) -> None:
    """Nor say that its broker is away."""
    waits: list[float] = []
    with pytest.raises(ConfigError, match=SAID):
        reach_broker(
            RelayConfig.from_toml(toml, environ={}), pause=waits.append, client_name="test"
        )
    assert waits == []
