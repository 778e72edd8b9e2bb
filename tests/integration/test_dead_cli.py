"""``lback-relay dead`` on a real broker: what it finds, changes, asks and says."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.brokers import raw_client
from support.deliveries import publish, read
from support.runs import an_envelope
from support.waiting import wait_until
from support.workers import StartWorker, remote, settled, start_worker

from lback_relay import HandlerContext
from lback_relay.broker import Broker, DeadLetter, Settlement
from lback_relay.broker.dead import DeadLetters
from lback_relay.broker.keys import Keys
from lback_relay.cli import main
from lback_relay.cli.dead_selection import PAGE
from lback_relay.codec import encode
from lback_relay.errors import BrokerUnavailable
from lback_relay.remote import RemoteDispatcher

__all__ = ["remote", "start_worker"]

ROOT = Path(__file__).parents[2]
SIGNAL, GROUP = "user_registered", "mailers"


@pytest.fixture
def variables(redis_url: str, namespace: str) -> dict[str, str]:
    """The environment that names the test's broker."""
    return {"LBACK_RELAY_URL": redis_url, "LBACK_RELAY_NAMESPACE": namespace}


@dataclass(frozen=True)
class Done:
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
def run(
    variables: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run the command in this process, outside of a project and without a terminal."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("LBACK_RELAY_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str, **more: str) -> Done:
        with monkeypatch.context() as patch:
            for name, value in {**variables, **more}.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main(["dead", *arguments], prog_name="lback-relay")
        return Done(int(ended.value.code or 0), *capsys.readouterr())

    return run


def die(
    broker: Broker,
    *payloads: dict[str, Any] | bytes,
    signal: str = SIGNAL,
    group: str = GROUP,
    handler: str = "welcome",
    reason: str = "attempts",
    error: str = "SMTPError: refused",
) -> list[str]:
    """Make dead letters, and return the ids of all of the signal and group."""
    broker.ensure_groups([signal], group)
    encoded = [
        payload if isinstance(payload, bytes) else encode(an_envelope(signal, payload))
        for payload in payloads
    ]
    publish(broker, *encoded, signal=signal, producer_id=os.urandom(8).hex())
    letter = DeadLetter(handler=handler, reason=reason, error=error, attempts=3)
    for taken in read(broker, signals=[signal], group=group, count=10_000):
        broker.settle([Settlement(delivery=taken, dead_letters=[letter])], group, "a")
    return ids(broker, signal, group)


def ids(broker: Broker, signal: str = SIGNAL, group: str = GROUP) -> list[str]:
    """Return the ids of the letters."""
    letters = broker.dead_letters(signal, group, count=10_000)
    return [letter.entry_id for letter in letters]


def redone(broker: Broker, signal: str = SIGNAL, group: str = GROUP) -> list[list[str]]:
    """Return the handlers of each retry that waits."""
    taken = read(broker, signals=[signal], group=group, count=10_000)
    assert all(set(delivery.attempts.values()) <= {0} for delivery in taken)
    return [list(delivery.attempts) for delivery in taken]


# list and show ---------------------------------------------------------------------------------


def test_letters_are_counted_and_listed(run: Run, broker: Broker) -> None:
    """By signal, group, handler and reason; the newest first."""
    first, second = die(broker, {}, {})
    (other,) = die(broker, {}, signal="order_paid", group="books", reason="rejected")
    done = run("list")
    assert done.exit_code == 0
    lines = [line.split() for line in done.output.splitlines()]
    assert lines[0] == ["3", "dead", "letters"]
    assert lines[3][:5] == ["order_paid", "books", "welcome", "rejected", "1"]
    assert lines[4][:5] == ["user_registered", "mailers", "welcome", "attempts", "2"]
    listed = [(line[0], line[3]) for line in lines[7:]]
    assert sorted(listed) == sorted(
        [(first, SIGNAL), (second, SIGNAL), (other, "order_paid")]  # some may be of the same ms
    )
    assert listed.index((second, SIGNAL)) < listed.index((first, SIGNAL))
    assert "SMTPError: refused" in done.output
    shown = json.loads(run("list", "--json", "--signal", SIGNAL).output)
    assert shown["letters"] == 2
    assert [row["id"] for row in shown["newest"]] == [second, first]


def test_a_long_list_is_cut(run: Run, broker: Broker) -> None:
    """But counted whole; without a limit's letters there are counts alone."""
    die(broker, *[{}] * (PAGE + 5))
    done = run("list", "--limit", "3")
    assert f"the newest 3 of {PAGE + 5} are listed" in done.output
    assert len(done.output.splitlines()) == 10
    assert len(run("list", "--limit", "0").output.splitlines()) == 4


def test_where_there_is_nothing_it_says_so(run: Run, broker: Broker) -> None:
    """A misspelt name shows by what there is."""
    assert run("list").output == "there are no dead letters\n"
    die(broker, {})
    assert run("list", "--reason", "crashed").output == "no dead letter fits\n"
    assert run("drop", "--reason", "crashed", "--dry-run").output == "no dead letter fits\n"
    missing = run("drop", "1-1")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "there is no dead letter 1-1" in missing.stderr
    assert run("drop", "--signal", "user_registred").output == (
        "no dead letter fits\nthere are some of user_registered (group mailers)\n"
    )
    assert len(ids(broker)) == 1


def test_one_letter_is_shown_whole_and_without_values(run: Run, broker: Broker) -> None:
    """Users' data has to be asked for."""
    (entry_id,) = die(broker, {"email": "ada@example.org"})
    done = run("show", entry_id)
    assert done.exit_code == 0
    assert "  email  15 characters" in done.output
    assert "ada@" not in done.output
    assert "'ada@example.org'" in run("show", entry_id, "--values").output
    shown = json.loads(run("show", entry_id, "--json", "--values").output)
    assert shown["envelope"]["payload"] == {"email": "ada@example.org"}
    missing = run("show", entry_id, "--group", "others")
    assert (missing.exit_code, missing.stdout) == (1, "")


def test_the_same_id_of_two_groups_is_shown_twice_and_changed_never(
    run: Run, broker: Broker, namespace: str, redis_url: str
) -> None:
    """Which one is meant must be told."""
    with raw_client(redis_url) as client:
        for group in ("a b", "c"):
            client.xadd(Keys(namespace).dead(SIGNAL, group), {"e": "x"}, id="5-0")
    assert run("show", "5-0").output.count("dead letter 5-0") == 2
    refused = run("drop", "5-0")
    assert refused.exit_code == 2
    assert "--signal user_registered --group 'a b', or --signal user_registered" in refused.output
    assert run("drop", "5-0", "--group", "a b").output == "dropped 1 dead letter\n"
    assert [stream.group for stream in broker.dead_letter_streams()] == ["c"]


# retry and drop --------------------------------------------------------------------------------


def test_retried_letters_go_to_the_handler_that_failed(run: Run, broker: Broker) -> None:
    """Those that fit, and no others."""
    die(broker, {}, {})
    kept = die(broker, {}, handler="other")[2:]
    done = run("retry", "--handler", "welcome", "--newer-than", "1h")
    assert done.exit_code == 0
    assert done.output == (
        "retried 2 dead letters\n"
        "no worker of the group mailers runs; what was retried waits for one\n"
    )
    assert redone(broker) == [["welcome"], ["welcome"]]
    assert ids(broker) == kept


def test_a_worker_runs_the_handlers_that_a_letter_is_of(
    run: Run, broker: Broker, start_worker: StartWorker, remote: RemoteDispatcher
) -> None:
    """All when none was reached, and the envelope can be read now; one where it is known."""
    seen: list[tuple[str, int, int]] = []

    @remote.receiver(SIGNAL, name="first")
    def first(sender: object, number: int, context: HandlerContext, **kwargs: object) -> None:
        seen.append(("first", number, context.attempt))

    @remote.receiver(SIGNAL, name="second")
    def second(sender: object, number: int, context: HandlerContext, **kwargs: object) -> None:
        seen.append(("second", number, context.attempt))

    die(broker, {"number": 1}, handler="", reason="malformed")
    die(broker, {"number": 2}, handler="second", reason="crashed")
    start_worker(remote)
    assert "retried 2 dead letters" in run("retry", "--all").output
    wait_until(lambda: len(seen) >= 3 and settled(broker), 60, "the retried letters")
    assert sorted(seen) == [("first", 1, 1), ("second", 1, 1), ("second", 2, 1)]


def test_letters_are_chosen_by_id(run: Run, broker: Broker) -> None:
    """What is not there is named, and the others are done."""
    first, second, third = die(broker, {}, {}, {})
    broker.heartbeat("w", {"group": GROUP}, ttl_s=60)
    done = run("retry", third, "1-1", first, first)
    assert done.exit_code == 1
    assert done.stdout == "retried 2 dead letters\n"
    assert "there is no dead letter 1-1" in done.stderr
    assert ids(broker) == [second]
    assert len(redone(broker)) == 2


def test_a_dry_run_changes_nothing(run: Run, broker: Broker) -> None:
    """It counts, and names what would be refused."""
    right, wrong = die(broker, {}, b"\xc1")
    for command, code, count in (("retry", 1, 1), ("drop", 0, 2)):
        done = run(command, "--all", "--dry-run")
        assert done.exit_code == code
        assert done.stdout.splitlines()[0].startswith(f"would {command} {count} dead letter")
        assert (f"can't retry {wrong}, which stays" in done.stderr) is (command == "retry")
    assert ids(broker) == [right, wrong]
    assert redone(broker) == []


def test_letters_without_a_handler_are_chosen_as_they_are_listed(run: Run, broker: Broker) -> None:
    """By "-"; a variable of a script that is not set chooses nothing."""
    kept = die(broker, {})
    die(broker, b"\xc1", handler="", reason="malformed")
    assert run("list", "--handler", "-").output.startswith("1 dead letter\n")
    assert run("drop", "--handler", "").exit_code == 2
    assert len(ids(broker)) == 2
    assert run("drop", "--handler", "-").output == "dropped 1 dead letter\n"
    assert ids(broker) == kept


def test_what_can_not_be_decoded_stays(run: Run, broker: Broker) -> None:
    """With a sentence each, for the first ones; the others are retried."""
    wrong = die(broker, *[b"\xc1"] * 12)
    die(broker, {})
    done = run("retry", "--all")
    assert done.exit_code == 1
    assert done.stdout.startswith("retried 1 dead letter\n")
    assert f"can't retry {wrong[0]}, which stays: its envelope can't be read" in done.stderr
    assert "and 2 others that stay" in done.stderr
    assert ids(broker) == wrong
    assert run("drop", "--all").output == "dropped 12 dead letters\n"


def test_a_retry_that_fails_again_at_once_is_not_retried_again(
    run: Run, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, it comes to an end."""
    count = 2 * PAGE
    die(broker, *[{}] * count)
    retry = DeadLetters.retry_dead_letters

    def dying_again(self: Any, signal: str, group: str, letters: Sequence[Any]) -> int:
        moved = retry(self, signal, group, letters)
        die(broker, *[{}] * len(letters), reason="timeout")
        return moved

    monkeypatch.setattr(DeadLetters, "retry_dead_letters", dying_again)
    assert f"retried {count} dead letters" in run("retry", "--all").output
    shown = json.loads(run("list", "--json").output)
    assert sum(each["letters"] for each in shown["counts"]) >= count


def test_what_somebody_else_has_taken_is_not_doubled(
    run: Run, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted as gone."""
    die(broker, {}, {})
    retry = DeadLetters.retry_dead_letters

    def late(self: Any, signal: str, group: str, letters: Sequence[Any]) -> int:
        retry(self, signal, group, letters[:1])
        return retry(self, signal, group, letters)

    monkeypatch.setattr(DeadLetters, "retry_dead_letters", late)
    assert "retried 1 dead letter\n1 were gone" in run("retry", "--all").output
    assert len(redone(broker)) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("retry",), "or give --all"),
        (("drop", "--all", "--signal", "a"), "either --all or a selection"),
        (("retry", "x"), "is no dead letter's id"),
        (("list", "--older-than", "3"), "is no age"),
        (("list", "--reason", "boredom"), "Invalid value"),
        (("drop", "--error", ""), "is empty"),
        (("drop", "--handler", ""), "is empty"),
        (("retry", "--signal", ""), "is empty"),
        (("list", "--group", ""), "is empty"),
        (("show", "1-0", "--group", ""), "is empty"),
        (("list", "--config", "a", "--settings", "b"), "not both"),
        (("list", "--url", "http://x"), "--url: "),
        (("list", "--url", "memory://x"), "it holds nothing of other processes"),
        (("list", "--url", "embedded://"), "it holds nothing of other processes"),
    ],
)
def test_wrong_usage_is_told(run: Run, arguments: tuple[str, ...], said: str) -> None:
    """Exit code 2; nothing is asked of the broker."""
    done = run(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr


def test_without_a_project_a_url_is_enough(
    run: Run, broker: Broker, variables: dict[str, str], tmp_path: Path
) -> None:
    """Without that, too, it says what to give. A project around the folder is read."""
    die(broker, {})
    url = variables.pop("LBACK_RELAY_URL")
    missing = run("list")
    assert missing.exit_code == 2
    assert "or --url URL" in missing.stderr
    assert run("list", "--url", url).output.startswith("1 dead letter\n")
    (tmp_path / "settings.py").write_text(f"RELAY_SIGNALS = ['a']\nRELAY_URL = {url!r}\n")
    assert run("list").output.startswith("1 dead letter\n")


def test_a_broker_that_does_not_answer_has_its_exit_code(run: Run) -> None:
    """Without a password in the sentence."""
    done = run("list", LBACK_RELAY_URL="redis://:hunter2@127.0.0.1:1/0")
    assert done.exit_code == 4
    assert "does not answer" in done.stderr
    assert "hunter2" not in done.output


# stopping half-way -----------------------------------------------------------------------------


def _after_first(
    monkeypatch: pytest.MonkeyPatch, then: Callable[[], None], *, before: bool = False
) -> None:
    """Have something happen with the first batch that is dropped."""
    drop = DeadLetters.drop_dead_letters

    def dropping(self: Any, signal: str, group: str, entry_ids: Sequence[str]) -> int:
        if before:
            then()
        dropped = drop(self, signal, group, entry_ids)
        then()
        return dropped

    monkeypatch.setattr(DeadLetters, "drop_dead_letters", dropping)


def test_ctrl_c_stops_between_two_batches(
    run: Run, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says how many were done; a second run does the rest."""
    die(broker, *[{}] * (PAGE + 10))
    with monkeypatch.context() as patch:
        _after_first(patch, lambda: os.kill(os.getpid(), signal.SIGINT))
        done = run("drop", "--all")
    assert done.exit_code == 130
    assert done.output == f"stopped; dropped {PAGE} dead letters\n"
    assert len(ids(broker)) == 10
    assert run("drop", "--all").output == "dropped 10 dead letters\n"


def test_a_second_ctrl_c_does_not_wait(
    run: Run, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a broker that takes its time."""
    die(broker, {})
    _after_first(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGINT), before=True)
    done = run("drop", "--all")
    assert done.exit_code == 130
    assert done.output == "stopped; dropped 0 dead letters\n"


def test_an_outage_half_way_says_how_far_it_came(
    run: Run, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 4."""
    die(broker, *[{}] * (2 * PAGE))
    calls: list[int] = []

    def failing() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise BrokerUnavailable("the broker is away")

    _after_first(monkeypatch, failing)
    done = run("drop", "--all")
    assert done.exit_code == 4
    assert done.stdout == f"stopped; dropped {PAGE} dead letters\n"
    assert done.stderr == "lback-relay: the broker is away\n"


def test_a_hint_that_fails_is_left_out(
    run: Run, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked for is done."""
    die(broker, {})

    def forbidden(self: Any) -> dict[str, dict[str, str]]:
        raise BrokerUnavailable("no")

    monkeypatch.setattr("lback_relay.broker.looking.Looking.workers", forbidden)
    done = run("retry", "--all")
    assert (done.exit_code, done.output) == (0, "retried 1 dead letter\n")


# at a terminal ---------------------------------------------------------------------------------


@pytest.fixture
def terminal(
    variables: dict[str, str], tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the real command with a terminal as its input, at which an answer is typed."""

    def run(answer: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        ours, theirs = pty.openpty()
        environ = {name: v for name, v in os.environ.items() if not name.startswith("LBACK_RELAY_")}
        try:
            os.write(ours, answer.encode())
            return subprocess.run(
                [sys.executable, "-m", "lback_relay.cli", "dead", *arguments],
                cwd=tmp_path,
                env={**environ, **variables, "PYTHONPATH": str(ROOT)},
                stdin=theirs,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        finally:
            os.close(ours)
            os.close(theirs)

    return run


@pytest.mark.parametrize(
    ("answer", "options", "code", "said"),
    [
        ("y\n", (), 0, "dropped 2 dead letters\n"),
        ("n\n", (), 0, "nothing was changed\n"),
        ("\x04", (), 130, "Drop these 2 dead letters? [y/N]: \n"),
        ("", ("--yes",), 0, "dropped 2 dead letters\n"),
    ],
)
def test_at_a_terminal_it_asks(
    broker: Broker,
    terminal: Callable[..., subprocess.CompletedProcess[str]],
    *,
    answer: str,
    options: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    """With counts, unless it was told not to."""
    die(broker, {}, {})
    done = terminal(answer, "drop", "--all", *options)
    assert done.returncode == code, done.stderr
    assert done.stdout.endswith(said)
    assert ("Drop these 2 dead letters? [y/N]:" in done.stdout) is not bool(options)
    assert len(ids(broker)) == (0 if "dropped" in said else 2)


def test_where_all_is_refused_nothing_is_asked(
    broker: Broker, terminal: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """The letters are named."""
    die(broker, b"\xc1")
    done = terminal("", "retry", "--all")
    assert (done.returncode, done.stdout) == (1, "")
    assert "which stays" in done.stderr


def test_an_embedded_folder_holds_letters_of_others(
    terminal: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Its server is shared, and keeps them."""
    done = terminal("", "list", "--url", f"embedded://{tmp_path}/data")
    assert (done.returncode, done.stdout) == (0, "there are no dead letters\n"), done.stderr
