"""``lback-relay keys``, and what ``lback-relay check`` says of keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from lback_relay.cli import main
from lback_relay.keyring import KeyRing, new_key


class Done(NamedTuple):
    """What a command has printed, and its exit code."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """All that it printed."""
        return self.stdout + self.stderr


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process, with no other keys than those given."""

    def run(*arguments: str, keys: str | None = None) -> Done:
        with monkeypatch.context() as patch:
            patch.delenv("LBACK_RELAY_KEYS", raising=False)
            if keys is not None:
                patch.setenv("LBACK_RELAY_KEYS", keys)
            with pytest.raises(SystemExit) as ended:
                main(list(arguments), prog_name="lback-relay")
        return Done(int(ended.value.code or 0), *capsys.readouterr())

    return run


def test_a_new_key_is_printed_alone_and_once(run: Run) -> None:
    """So that a shell can take it; what is said of it has the id only."""
    done = run("keys", "new")
    assert done.exit_code == 0
    (text,) = done.stdout.splitlines()
    (key,) = KeyRing.parse(text)
    assert key.id in done.stderr
    assert text[9:] not in done.stderr
    assert run("keys", "new").stdout != done.stdout


def test_the_rotation_is_told_with_the_ids_of_the_ring(run: Run) -> None:
    """And with none of its secrets."""
    assert 'LBACK_RELAY_KEYS="OLD,NEW"' in run("keys", "rotate-help").stdout
    ring = KeyRing([new_key(), new_key()])
    text = ",".join(key.text() for key in ring)
    done = run("keys", "rotate-help", keys=text)
    assert done.exit_code == 0
    first, second = ring.ids
    assert f'LBACK_RELAY_KEYS="NEW,{first}:…,{second}:…"' in done.stdout
    assert f"now: {first} signs; {first}, {second} verify" in done.stdout
    assert not any(key.text()[9:] in done.output for key in ring)


def test_a_ring_that_is_none_is_refused(run: Run) -> None:
    """With the code of wrong config."""
    done = run("keys", "rotate-help", keys="secret")
    assert done.exit_code == 2
    assert "LBACK_RELAY_KEYS: key 1 is no key" in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize("command", [(), ("new",), ("rotate-help",)])
def test_the_help_has_examples(run: Run, command: tuple[str, ...]) -> None:
    """As that of every command."""
    assert "Examples:" in run("keys", *command, "--help").stdout


def test_check_tells_whether_envelopes_are_signed(run: Run, tmp_path: Path) -> None:
    """By ids alone."""
    file = tmp_path / "relay.toml"
    check = ("check", "--no-ping", "--config", str(file))
    ring = KeyRing([new_key(), new_key()])
    one, both = ring.signing.text(), ",".join(key.text() for key in ring)
    file.write_text("[signals.user_registered]\nencrypt = true\n[signals.user_updated]\n")
    done = run(*check, keys=one)
    assert f"signing     by the key {ring.ids[0]}\n" in done.stdout
    assert "queue, encrypted" in done.stdout
    done = run(*check, keys=both)
    assert f"by the key {ring.ids[0]}; verifies {ring.ids[1]}, too\n" in done.stdout
    assert not any(key.text()[9:] in done.output for key in ring)
    refused = run(*check)
    assert refused.exit_code == 2
    assert "signals.user_registered.encrypt: needs keys" in refused.stderr
    file.write_text("[signals.user_updated]\n")
    done = run(*check)
    assert "signing     off: LBACK_RELAY_KEYS is not set\n" in done.stdout
    assert done.exit_code == 0
