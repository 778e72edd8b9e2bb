"""Key rings: read from the environment, never shown."""

from __future__ import annotations

import pickle
import re

import pytest

from lback_relay.config import RelayConfig, SignalConfig
from lback_relay.errors import ConfigError
from lback_relay.keyring import MAX_KEYS, Key, KeyRing, check_keys, new_key

OLD, NEW = Key(bytes(range(32))), Key(bytes(range(32, 64)))


def test_a_new_key_is_read_back_from_its_text() -> None:
    """What the command prints is what the environment takes."""
    key = new_key()
    assert re.fullmatch(r"[a-z2-7]{8}:[A-Za-z0-9_-]{43}", key.text())
    assert tuple(KeyRing.parse(key.text())) == (key,)
    assert new_key() != key


@pytest.mark.parametrize("between", [",", " ", "\n", ", ", "\t\n "])
def test_several_keys_are_apart_by_commas_or_white_space(between: str) -> None:
    """As they stand in a shell, a compose file or a mounted secret; the first one signs."""
    ring = KeyRing.parse(f" {NEW.text()}{between}{OLD.text()}\n")
    assert ring.signing == NEW
    assert ring.ids == (NEW.id, OLD.id)
    assert ring == KeyRing([NEW, OLD])
    assert hash(ring) == hash(KeyRing([NEW, OLD]))
    assert ring != KeyRing([OLD, NEW])


def test_the_id_and_the_subkeys_are_functions_of_the_secret() -> None:
    """Of 32 bytes each, and none of them is another one: golden values, for other languages."""
    assert OLD.id == "hsxkm6oo"
    assert len({OLD.signing, OLD.encrypting, bytes(range(32))}) == 3
    assert len(OLD.signing) == len(OLD.encrypting) == 32


def _damaged() -> list[str]:
    text = OLD.text()
    return [
        "",
        "  ",
        "secret",
        text[:-1],
        f"{text}x",
        text.replace(OLD.id, NEW.id),
        text[9:],
        text.upper(),
        f"{text[:20]}{'b' if text[20] == 'a' else 'a'}{text[21:]}",
        f"{NEW.text()} {text[:-2]}",
    ]


@pytest.mark.parametrize("text", _damaged())
def test_what_is_no_key_is_refused_in_a_sentence_that_shows_nothing(text: str) -> None:
    """A key with one wrong character is found at start, not by what a worker refuses."""
    with pytest.raises(ConfigError) as caught:
        KeyRing.parse(text)
    (problem,) = caught.value.problems
    assert "'lback-relay keys new' makes one" in problem
    number = 2 if text.startswith(NEW.id) and " " in text else 1
    assert f"key {number} " in problem
    assert caught.value.source == "LBACK_RELAY_KEYS"
    said = repr(caught.value)
    assert not any(part in said for part in re.split(r"[\s:]+", text) if len(part) > 7)
    assert caught.value.__cause__ is None


def test_a_last_character_with_unused_bits_is_refused() -> None:
    """One key has one text: base64 has several for some bytes."""
    text = OLD.text()
    again = text[:-1] + chr(ord(text[-1]) + 1)
    with pytest.raises(ConfigError):
        KeyRing.parse(again)


def test_a_ring_has_keys_and_each_once() -> None:
    """Twice the same key is a rotation that was not done."""
    for keys, said in (
        ([], "holds no key"),
        ([OLD, NEW, OLD], "the same key twice"),
        ([new_key() for _ in range(MAX_KEYS + 1)], f"holds {MAX_KEYS + 1} keys"),
    ):
        with pytest.raises(ConfigError, match=said):
            KeyRing(keys)


def test_a_key_has_32_bytes() -> None:
    """No password is one."""
    with pytest.raises(ValueError, match="32 bytes"):
        Key(b"short")


def test_no_secret_is_in_any_repr() -> None:
    """Nor in a config's, which is logged."""
    ring = KeyRing([NEW, OLD])
    config = RelayConfig(signals={"a": SignalConfig(name="a", encrypt=True)}, keys=ring)
    shown = f"{ring!r} {ring} {NEW!r} {list(ring)} {config!r} {config}"
    for key in ring:
        assert key.text()[9:] not in shown
        assert key.text()[9:29] not in shown
        for secret in (key.signing, key.encrypting):
            assert repr(secret) not in shown
            assert secret.hex() not in shown
    assert repr(ring) == f"KeyRing({NEW.id}, {OLD.id})"


def test_keys_and_rings_equal_only_their_like() -> None:
    """Comparison with anything else is not an error."""
    assert KeyRing([OLD]) != "x"
    assert OLD != "x"
    assert len({OLD, Key(bytes(range(32)))}) == 1


def test_config_with_keys_can_be_pickled() -> None:
    """Multiprocessing's spawn does it."""
    config = RelayConfig(signals={"a": SignalConfig(name="a")}, keys=KeyRing([NEW, OLD]))
    again = pickle.loads(pickle.dumps(config))
    assert again == config
    assert again.keys is not None
    assert again.keys.signing == NEW


def test_config_takes_the_ring_from_the_environment_alone() -> None:
    """A mapping, a TOML file and settings end in backups and repositories."""
    environ = {"LBACK_RELAY_KEYS": f"{NEW.text()},{OLD.text()}", "LBACK_RELAY_MAX_AGE_S": "60"}
    config = RelayConfig.from_mapping({"signals": ["a"]}, environ=environ)
    assert config.keys == KeyRing([NEW, OLD])
    assert config.max_age_s == 60.0
    assert RelayConfig.from_mapping({"signals": ["a"]}, environ={}).keys is None


def test_keys_anywhere_else_are_refused() -> None:
    """Even beside the environment's, and without showing them."""
    settings = {"RELAY_SIGNALS": ["a"], "RELAY_KEYS": OLD.text()}
    environ = {"LBACK_RELAY_KEYS": NEW.text()}
    with pytest.raises(ConfigError, match=r"RELAY_KEYS: .* LBACK_RELAY_KEYS alone") as by_settings:
        RelayConfig.from_settings(settings, environ=environ)
    with pytest.raises(ConfigError, match=r"keys: .* LBACK_RELAY_KEYS alone") as by_mapping:
        RelayConfig.from_mapping({"signals": ["a"], "keys": OLD.text()}, environ={})
    for caught in (by_settings, by_mapping):
        assert len(caught.value.problems) == 1
        assert OLD.text()[9:] not in str(caught.value)


def test_a_wrong_ring_is_one_problem_of_the_config() -> None:
    """Beside all others, by the variable's name."""
    environ = {"LBACK_RELAY_KEYS": OLD.text()[:-3], "LBACK_RELAY_MAX_AGE_S": "0"}
    with pytest.raises(ConfigError) as caught:
        RelayConfig.from_mapping({"signals": ["a"]}, environ=environ)
    assert [problem.partition(": ")[0] for problem in caught.value.problems] == [
        "LBACK_RELAY_KEYS",
        "LBACK_RELAY_MAX_AGE_S",
    ]
    assert OLD.text()[9:30] not in str(caught.value)


def test_only_rings_and_texts_are_rings() -> None:
    """The check names the type it wants, not what it got."""
    assert check_keys(7) == (None, ["must be a KeyRing"])


def test_a_relayed_mail_can_be_encrypted() -> None:
    """What the user sets for the signal that ``email`` adds stays."""
    data = {"email": True, "signals": {"email_requested": {"encrypt": True}}}
    config = RelayConfig.from_mapping(data, environ={})
    assert config.signals["email_requested"].encrypt
