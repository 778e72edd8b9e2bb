"""RelayConfig and SignalConfig: what is accepted, and how every mistake is told."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lback_relay.config import EMAIL_REVEAL, EMAIL_SIGNAL, RelayConfig, SignalConfig
from lback_relay.errors import ConfigError

NO_ENVIRONMENT: Mapping[str, str] = {}


def problems_of(data: Mapping[str, Any], environ: Mapping[str, str] = NO_ENVIRONMENT) -> list[str]:
    """Return the problems of a mapping."""
    with pytest.raises(ConfigError) as caught:
        RelayConfig.from_mapping(data, environ=environ)
    return list(caught.value.problems)


def test_a_signal_is_queued_after_the_commit_unless_told_otherwise() -> None:
    """The defaults are the safe choice."""
    signal = SignalConfig(name="user_registered")
    assert (signal.delivery, signal.publish) == (("queue",), "on_commit")
    assert (signal.reveal, signal.max_backlog) == ((), None)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("queue", ("queue",)),
        ("broadcast", ("broadcast",)),
        (["broadcast", "queue"], ("queue", "broadcast")),
        (("queue", "queue"), ("queue",)),
    ],
)
def test_delivery_is_one_word_or_a_list(given: Any, kept: tuple[str, ...]) -> None:
    """It becomes a tuple in a fixed order, without doubles."""
    assert SignalConfig(name="a", delivery=given).delivery == kept


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"delivery": "brodcast"}, "did you mean 'broadcast'?"),
        ({"delivery": []}, "would send the signal nowhere"),
        ({"delivery": ["queue", 1]}, "not a list with int"),
        ({"delivery": 3}, "not int"),
        ({"publish": "outbx"}, "did you mean 'outbox'?"),
        ({"publish": "on_comit"}, "did you mean 'on_commit'?"),
        ({"publish": None}, "not None"),
        ({"reveal": "user.email"}, "put 'user.email' into brackets"),
        ({"reveal": 1}, "not int"),
        ({"reveal": [1]}, "not of int"),
        ({"reveal": ["user.*"]}, "no pattern"),
        ({"reveal": ["user..email"]}, "is no path"),
        ({"reveal": [""]}, "is no path"),
        ({"max_backlog": 0}, "from 1 to 1000000000, not 0"),
        ({"max_backlog": True}, "not true or false"),
        ({"max_backlog": "10"}, "not text"),
        ({"delivry": "queue"}, "did you mean 'delivery'?"),
        ({"name": "x"}, "is no option of a signal"),
    ],
)
def test_a_wrong_option_names_its_key_and_the_remedy(options: dict[str, Any], said: str) -> None:
    """The key is given with its dotted path."""
    (problem,) = problems_of({"signals": {"user_registered": options}})
    assert problem.startswith(f"signals.user_registered.{next(iter(options))}: ")
    assert said in problem


@pytest.mark.parametrize(
    ("signals", "said"),
    [
        ("user_registered", "not text"),
        (None, "not None"),
        ({"a": "broadcast"}, 'write {"delivery": "broadcast"}'),
        ({"a": ["queue"]}, "signals.a: must be a mapping of options, not list"),
        ({1: None}, "name must be text, not int"),
        ({"": None}, "must not be empty"),
        ({"\ud800": None}, "valid Unicode"),
        ([1], "name must be text, not int"),
        (["a", "a"], "names 'a' twice"),
        ({"a": SignalConfig(name="b")}, "signals.a: holds the config of 'b'"),
    ],
)
def test_wrong_signals_are_told(signals: Any, said: str) -> None:
    """Names, and the shape of the whole."""
    assert said in " ".join(problems_of({"signals": signals}))


@pytest.mark.parametrize(
    "signals",
    [
        {"a": None, "b": {}},
        ["a", "b"],
        ("a", "b"),
        {"a", "b"},
        {"a": SignalConfig(name="a"), "b": None},
    ],
)
def test_signals_are_a_mapping_or_names(signals: Any) -> None:
    """The short forms mean the defaults."""
    config = RelayConfig.from_mapping({"signals": signals}, environ={})
    assert dict(config.signals) == {"a": SignalConfig(name="a"), "b": SignalConfig(name="b")}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"url": 3}, "url: must be text"),
        ({"url": "rdis://h"}, "did you mean 'redis://'?"),
        ({"namespace": ""}, "namespace: must be 1 to 100"),
        ({"namespace": "a{b}"}, "namespace: must be 1 to 100"),
        ({"namespace": 1}, "namespace: must be text, not int"),
        ({"publishing": "sinc"}, "publishing: must be 'background' or 'sync', not 'sinc'"),
        ({"publish_timeout_s": "1"}, "publish_timeout_s: must be a number of s from"),
        ({"publish_timeout_s": 0}, "not 0"),
        ({"publish_timeout_s": float("nan")}, "not nan"),
        ({"max_queued": 1.5}, "max_queued: must be a whole number of envelopes"),
        ({"flush_timeout_s": -1}, "flush_timeout_s: must be"),
        ({"max_payload_bytes": 1 << 30}, "from 256 to 16777216"),
        ({"max_string_length": None}, "not None"),
        ({"email": "False"}, "email: must be true or false, not text"),
        ({"email": 1}, "email: must be true or false, not int"),
        ({"namespce": "x"}, "namespce: is no key of the relay's config; did you mean 'namespace'?"),
        ({"RELAY_EMAIL": True}, "here it is called 'email'"),
        ({"warnings": ()}, "warnings: is no key"),
        (
            {"publish_timeout_s": 9, "flush_timeout_s": 5},
            "flush_timeout_s: is 5.0, shorter than publish_timeout_s (9.0)",
        ),
    ],
)
def test_a_wrong_value_names_its_key_and_what_is_expected(data: dict[str, Any], said: str) -> None:
    """Types are strict, and said by name."""
    (problem,) = problems_of({"signals": ["a"], **data})
    assert said in problem


def test_all_problems_are_listed_at_once() -> None:
    """Whoever mends config wants one round."""
    data = {
        "signals": {"a": {"delivry": 1, "publish": "x"}, "b": {"reveal": 2}},
        "namespace": "",
        "url": "x",
        "colour": "red",
    }
    with pytest.raises(ConfigError) as caught:
        RelayConfig.from_mapping(data, environ={"LBACK_RELAY_EMAIL": "perhaps"}, source="here")
    keys = {problem.partition(":")[0] for problem in caught.value.problems}
    assert keys == {
        "signals.a.delivry",
        "signals.a.publish",
        "signals.b.reveal",
        "namespace",
        "url",
        "colour",
        "LBACK_RELAY_EMAIL",
    }
    assert str(caught.value).startswith("here: 7 problems\n  - ")


def test_the_constructors_check_too() -> None:
    """Config can't be wrong, however it was made."""
    with pytest.raises(ConfigError, match="publishing"):
        RelayConfig(signals={}, publishing="x")
    with pytest.raises(ConfigError, match="signals: a signal's name must be text"):
        SignalConfig(name=1)  # type: ignore[arg-type]


def test_config_is_read_only() -> None:
    """The same object is shared by threads."""
    config = RelayConfig(signals={"a": SignalConfig(name="a")})
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.namespace = "x"  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.signals["b"] = SignalConfig(name="b")  # type: ignore[index]


def test_later_changes_of_what_was_given_change_nothing() -> None:
    """The mapping is copied."""
    given = {"a": SignalConfig(name="a")}
    config = RelayConfig(signals=given)
    given.clear()
    assert list(config.signals) == ["a"]


def test_config_can_be_pickled_copied_and_replaced() -> None:
    """Processes that are spawned get it so."""
    config = RelayConfig.from_mapping({"signals": ["a"], "email": True}, environ={})
    assert pickle.loads(pickle.dumps(config)) == config
    assert copy.deepcopy(config) == config
    assert dataclasses.replace(config, namespace="x").signals == config.signals


def test_a_whole_number_serves_as_seconds() -> None:
    """It is kept as a float."""
    config = RelayConfig.from_mapping({"signals": ["a"], "flush_timeout_s": 7}, environ={})
    assert isinstance(config.flush_timeout_s, float)
    assert config.flush_timeout_s == 7


def test_the_password_of_the_url_is_in_no_text_of_the_config() -> None:
    """repr and str show the masked URL."""
    config = RelayConfig(signals={}, url="redis://:hunter2@h/0")
    assert "hunter2" not in repr(config) + str(config) + config.masked_url
    assert "redis://:***@h/0" in repr(config)


def test_the_password_of_a_wrong_url_is_in_no_error() -> None:
    """Also when it can't be read."""
    for url in ("redis://:hunter2/x@h", "redis://:hunter2@h:x/0?hunter2=hunter2"):
        assert "hunter2" not in " ".join(problems_of({"signals": ["a"], "url": url}))


@pytest.mark.parametrize(
    "data",
    [
        {"publishing": "redis://:hunter2@h"},
        {"namespace": "redis://:hunter2@h"},
        {"max_queued": "hunter2"},
        {"signals": {"a": {"delivery": "redis://:hunter2@h"}}},
        {"signals": {"a": {"reveal": "redis://:hunter2@h"}}},
        {"signals": {"a": {"reveal": ["x hunter2"]}}},
        {"signals": {"a": "redis://:hunter2@h"}},
        {"email": "hunter2"},
    ],
)
def test_a_secret_under_a_wrong_key_is_in_no_error(data: dict[str, Any]) -> None:
    """Variables get mixed up."""
    assert "hunter2" not in " ".join(problems_of({"signals": ["a"], **data}))


def test_the_relayed_email_is_a_queued_and_revealed_signal() -> None:
    """RELAY_EMAIL needs no entry in RELAY_SIGNALS."""
    config = RelayConfig(signals={}, email=True)
    signal = config.signals[EMAIL_SIGNAL]
    assert signal.delivery == ("queue",)
    assert signal.reveal == EMAIL_REVEAL == ("to_email", "subject", "body")
    assert config.warnings == ()


def test_the_relayed_email_keeps_what_the_user_set_for_it() -> None:
    """Options given for its signal are joined with what the mail needs."""
    data = {
        "signals": {EMAIL_SIGNAL: {"max_backlog": 9, "reveal": ["x", "body"]}},
        "email": True,
    }
    signal = RelayConfig.from_mapping(data, environ={}).signals[EMAIL_SIGNAL]
    assert signal.max_backlog == 9
    assert signal.reveal == (*EMAIL_REVEAL, "x")


def test_the_relayed_email_can_not_be_broadcast_alone() -> None:
    """Every worker would send it."""
    data = {"signals": {EMAIL_SIGNAL: {"delivery": "broadcast"}}, "email": True}
    (problem,) = problems_of(data)
    assert problem.startswith(f"signals.{EMAIL_SIGNAL}.delivery: must hold 'queue'")


# environment ---------------------------------------------------------------------------------


def test_the_environment_wins() -> None:
    """Every scalar field has its variable."""
    environ = {
        "LBACK_RELAY_URL": "redis://:x@other:1/2",
        "LBACK_RELAY_NAMESPACE": "shop",
        "LBACK_RELAY_PUBLISHING": "sync",
        "LBACK_RELAY_PUBLISH_TIMEOUT_S": "0.5",
        "LBACK_RELAY_MAX_QUEUED": "7",
        "LBACK_RELAY_FLUSH_TIMEOUT_S": "9",
        "LBACK_RELAY_MAX_PAYLOAD_BYTES": "2000",
        "LBACK_RELAY_MAX_STRING_LENGTH": "100",
        "LBACK_RELAY_EMAIL": "True",
    }
    data = {"signals": ["a"], "namespace": "lback", "email": False}
    config = RelayConfig.from_mapping(data, environ=environ)
    assert config == RelayConfig(
        signals={"a": SignalConfig(name="a")},
        url="redis://:x@other:1/2",
        namespace="shop",
        publishing="sync",
        publish_timeout_s=0.5,
        max_queued=7,
        flush_timeout_s=9,
        max_payload_bytes=2000,
        max_string_length=100,
        email=True,
    )


def test_without_a_given_environment_that_of_the_process_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """None means os.environ."""
    monkeypatch.setenv("LBACK_RELAY_NAMESPACE", "from_process")
    assert RelayConfig.from_mapping({"signals": ["a"]}).namespace == "from_process"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("LBACK_RELAY_MAX_QUEUED", "many", "must be a whole number of envelopes"),
        ("LBACK_RELAY_PUBLISH_TIMEOUT_S", "soon", "must be a number of s"),
        ("LBACK_RELAY_EMAIL", "yes please", "must be true or false"),
        ("LBACK_RELAY_URL", "", "is empty; give it a value or unset it"),
        ("LBACK_RELAY_SIGNALS", "a,b", "not read from the environment"),
        ("LBACK_RELAY_NAMESPCE", "x", "did you mean 'LBACK_RELAY_NAMESPACE'?"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, said: str) -> None:
    """By its own name, not by the field's."""
    (problem,) = problems_of({"signals": ["a"]}, environ={variable: value})
    assert problem.startswith(f"{variable}: ")
    assert said in problem


def test_variables_that_kubernetes_makes_are_warned_of_and_ignored() -> None:
    """A service named lback-relay gives every container such variables."""
    environ = {
        "LBACK_RELAY_PORT": "tcp://10.0.0.1:80",
        "LBACK_RELAY_TEST_URL": "redis://h",
        "OTHER": "y",
    }
    config = RelayConfig.from_mapping({"signals": ["a"]}, environ=environ)
    assert config.warnings == ("LBACK_RELAY_PORT: is no variable of the relay and is ignored",)


# settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [dict, SimpleNamespace])
def test_settings_are_read_from_a_mapping_or_an_object(form: Any) -> None:
    """Lback's own config object is one; its other names do not matter."""
    settings = form(
        RELAY_SIGNALS={"user_registered": {"reveal": ["user.email_verification_token"]}},
        RELAY_NAMESPACE="shop",
        RELAY_EMAIL=True,
        DEBUG=True,
        relay_colour="red",
    )
    config = RelayConfig.from_settings(settings, environ={})
    assert config.namespace == "shop"
    assert set(config.signals) == {"user_registered", EMAIL_SIGNAL}


def test_problems_of_settings_name_the_settings() -> None:
    """As they stand in the file."""
    settings = {
        "RELAY_SIGNALS": {"user_registered": {"publish": "outbx"}},
        "RELAY_MAX_QUEUED": "3",
        "RELAY_NAMSPACE": "x",
        "RELAY_ZEBRA": 1,
        "RELAY_email": True,
    }
    with pytest.raises(ConfigError) as caught:
        RelayConfig.from_settings(settings, environ={})
    text = str(caught.value)
    assert text.startswith("settings.py: 5 problems")
    assert (
        "RELAY_SIGNALS.user_registered.publish: must be 'on_commit' or 'immediate' or 'outbox'"
        in text
    )
    assert "RELAY_MAX_QUEUED: must be a whole number" in text
    assert "RELAY_NAMSPACE: is no setting of the relay; did you mean 'RELAY_NAMESPACE'?" in text
    assert "RELAY_ZEBRA: is no setting of the relay\n" in text
    assert "RELAY_email: is no setting of the relay; did you mean 'RELAY_EMAIL'?" in text


def test_a_password_in_settings_is_refused_with_the_reason() -> None:
    """Lback writes settings into config.json; the environment is the place."""
    settings = {"RELAY_SIGNALS": ["a"], "RELAY_URL": "redis://:hunter2@h"}
    with pytest.raises(ConfigError) as caught:
        RelayConfig.from_settings(settings, environ={"LBACK_RELAY_URL": "redis://h"})
    (problem,) = caught.value.problems
    assert "config.json" in problem
    assert "LBACK_RELAY_URL" in problem
    assert "hunter2" not in problem


def test_a_url_without_a_password_may_stand_in_settings() -> None:
    """It holds no secret."""
    settings = {"RELAY_SIGNALS": ["a"], "RELAY_URL": "unix:///run/redis.sock"}
    assert RelayConfig.from_settings(settings, environ={}).url == "unix:///run/redis.sock"


# TOML ----------------------------------------------------------------------------------------


def test_a_toml_file_has_a_table_for_each_signal(tmp_path: Path) -> None:
    """Top-level keys are the field names."""
    file = tmp_path / "relay.toml"
    file.write_text(
        'namespace = "shop"\nflush_timeout_s = 3\n'
        '[signals.user_registered]\nreveal = ["user.email"]\n'
        '[signals.user_updated]\ndelivery = ["queue", "broadcast"]\n'
    )
    for config in (RelayConfig.from_toml(file, environ={}), RelayConfig.load(file, environ={})):
        assert config.namespace == "shop"
        assert config.signals["user_registered"].reveal == ("user.email",)
        assert config.signals["user_updated"].delivery == ("queue", "broadcast")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no such file"),
        (b"signals = [", "is no valid TOML"),
        (b'namespace = "\xff"', "is not UTF-8"),
        (b"[signals.a]\ndelivry = 1", "signals.a.delivry: is no option"),
    ],
)
def test_a_wrong_toml_file_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    """With what is wrong in it."""
    file = tmp_path / "relay.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        RelayConfig.from_toml(file, environ={})
    assert str(caught.value).startswith(f"{file}: ")
    assert said in str(caught.value)


def test_a_folder_is_no_toml_file(tmp_path: Path) -> None:
    """What the system says is passed on."""
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        RelayConfig.from_toml(tmp_path, environ={})


# warnings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signals", "said"),
    [
        ({"user_registred": None}, "did you mean 'user_registered'?"),
        (
            {"user_login_successful": None},
            "user_login_successful is never sent by lback-framework 1.0.3; user_logged_in is",
        ),
        ({"user_registered": {"reveal": ["usr.email"]}}, "did you mean 'user'?"),
        ({"exception_caught": None}, "sent before a rollback that makes it forgotten"),
        ({}, "nothing is relayed"),
    ],
)
def test_what_may_be_a_mistake_is_a_warning(signals: dict[str, Any], said: str) -> None:
    """A project may have signals of its own, so it is no error."""
    (warning,) = RelayConfig.from_mapping({"signals": signals}, environ={}).warnings
    assert said in warning


def test_a_warning_names_the_setting() -> None:
    """As it stands in the file."""
    (warning,) = RelayConfig.from_settings({"DEBUG": True}, environ={}).warnings
    assert warning.startswith("RELAY_SIGNALS: names no signal")


@pytest.mark.parametrize(
    "signals",
    [
        {"user_registered": {"reveal": ["user.email_verification_token", "sender.x"]}},
        {"order_paid": {"reveal": ["anything.at.all"]}},
        {"exception_caught": {"publish": "immediate"}},
    ],
)
def test_a_signal_of_the_framework_or_of_the_project_is_no_warning(signals: Any) -> None:
    """Only names that come near one of the framework's are suspect."""
    assert RelayConfig.from_mapping({"signals": signals}, environ={}).warnings == ()


def test_texts_longer_than_a_payload_are_warned_of() -> None:
    """They would be omitted, not cut."""
    config = RelayConfig(signals={}, email=True, max_payload_bytes=1000)
    (warning,) = config.warnings
    assert warning.startswith("max_string_length: is 65536, more than max_payload_bytes (1000)")
