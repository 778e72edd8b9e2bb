"""Which dead letters are chosen, met on the way, and refused; no broker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
from support.letters import DIED_MS, NOW_MS, a_letter

from lback_relay.broker import Broker
from lback_relay.broker.base import REDO, DeadLetterRecord, DeadLetterStream
from lback_relay.cli.dead_change import MAX_BATCH_BYTES, Outcome, Retrying, batches, sort_out
from lback_relay.cli.dead_selection import PAGE, Selection, Walk, is_entry_id, parse_age

# choosing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("2h", 7200), ("3d", 259_200), ("1w", 604_800), (" 1.5 h ", 5400)],
)
def test_an_age_is_read(text: str, seconds: float) -> None:
    """A number and a unit."""
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "s", "-1s", "1y", "1h30m", "1e3s", "nan s", "9" * 99])
def test_what_is_no_age_is_refused(text: str) -> None:
    """With examples; a number alone would be a guess."""
    with pytest.raises(ValueError, match="write 90s, 15m"):
        parse_age(text)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("1764039172123-0", True),
        (f"{2**64 - 1}-{2**64 - 1}", True),
        (f"{2**64}-0", False),
        ("1764039172123", False),
        ("-", False),
        ("1-1-1", False),
        ("१-१", False),
        ("01a210ad-c04c-77a9-a11b-04ec3d124fe8", False),
    ],
)
def test_an_id_is_told_by_its_form(text: str, right: bool) -> None:
    """The broker would refuse anything else."""
    assert is_entry_id(text) is right


@pytest.mark.parametrize(
    ("handler", "chosen", "taken"),
    [("", "-", True), ("welcome", "-", False), ("", "", False), ("", "welcome", False)],
)
def test_no_handler_is_chosen_as_it_is_listed(handler: str, chosen: str, taken: bool) -> None:
    """An empty name is nobody's."""
    assert Selection(handler=chosen).takes(a_letter(handler=handler), NOW_MS) is taken


@pytest.mark.parametrize(
    ("chosen", "taken"),
    [
        ({}, True),
        ({"ids": (f"{DIED_MS}-0", "1-1")}, True),
        ({"ids": ("1-1",)}, False),
        ({"handler": "welcome"}, True),
        ({"handler": "welcom"}, False),
        ({"reason": "attempts"}, True),
        ({"reason": "crashed"}, False),
        ({"error": "refused"}, True),
        ({"error": "timeout"}, False),
        ({"older_than_s": 90.0}, True),
        ({"older_than_s": 90.001}, False),
        ({"newer_than_s": 90.001}, True),
        ({"newer_than_s": 90.0}, False),
        ({"older_than_s": 60.0, "newer_than_s": 120.0, "reason": "attempts"}, True),
        ({"older_than_s": 60.0, "reason": "crashed"}, False),
    ],
)
def test_a_selection_takes_what_fits_all_of_it(chosen: dict[str, Any], taken: bool) -> None:
    """An age is taken by one of older and newer, never by both or none."""
    selection = Selection(**chosen)
    assert selection.takes(a_letter(), NOW_MS) is taken
    assert selection.narrow is bool(chosen)


class FakeBroker:
    """Holds letters of one stream; counts how many one call returned at most."""

    def __init__(self, letters: Sequence[DeadLetterRecord]) -> None:
        self.letters = list(letters)
        self.largest = 0

    def now_ms(self) -> int:
        return NOW_MS

    def dead_letter_streams(self, signal: str | None, group: str | None) -> list[DeadLetterStream]:
        last = self.letters[-1].entry_id
        return [DeadLetterStream("user_registered", "mailers", len(self.letters), last)]

    def dead_letters(
        self, signal: str, group: str, *, count: int, after: str, until: str
    ) -> list[DeadLetterRecord]:
        def number(entry_id: str, last: int = 0) -> tuple[int, int]:
            ms, _, sequence = entry_id.partition("-")
            return int(ms), int(sequence or last)

        fitting = [
            letter
            for letter in self.letters
            if (not after or number(letter.entry_id) > number(after))
            and number(letter.entry_id) <= number(until, 2**64)
        ][:count]
        self.largest = max(self.largest, len(fitting))
        return fitting


def walked(broker: FakeBroker, selection: Selection) -> list[str]:
    """Return the ids that a walk meets."""
    walk = Walk(cast(Broker, broker), selection)
    return [letter.entry_id for page in walk for letter in page.letters]


@pytest.mark.parametrize("count", [1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE])
def test_a_walk_meets_every_letter_once_in_small_pages(count: int) -> None:
    """Whatever the number of letters is."""
    broker = FakeBroker([a_letter(f"{DIED_MS}-{number}") for number in range(count)])
    assert walked(broker, Selection()) == [letter.entry_id for letter in broker.letters]
    assert broker.largest <= PAGE


def test_a_walk_does_not_meet_what_dies_meanwhile() -> None:
    """A letter that is retried and dies again would be met for ever."""
    broker = FakeBroker([a_letter(f"{DIED_MS}-{number}") for number in range(PAGE + 1)])
    walk = Walk(cast(Broker, broker), Selection())
    met = 0
    for page in walk:
        met += len(page.letters)
        broker.letters.append(a_letter(f"{NOW_MS + met}-0"))
    assert met == PAGE + 1


def test_ages_bound_the_walk() -> None:
    """Nothing beyond them is read; ages of more than a lifetime are no error."""
    broker = FakeBroker([a_letter(f"{NOW_MS - age_ms}-0") for age_ms in (9000, 5000, 1000)])
    assert walked(broker, Selection(older_than_s=5.0)) == [
        f"{NOW_MS - 9000}-0",
        f"{NOW_MS - 5000}-0",
    ]
    assert walked(broker, Selection(newer_than_s=5.0)) == [f"{NOW_MS - 1000}-0"]
    assert walked(broker, Selection(older_than_s=2.0, newer_than_s=7.0)) == [f"{NOW_MS - 5000}-0"]
    assert walked(broker, Selection(older_than_s=1e9)) == []
    assert len(walked(broker, Selection(newer_than_s=1e9))) == 3


# changing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("letter", "why"),
    [
        (a_letter(), None),
        (a_letter(source=REDO), None),
        (a_letter(reason="malformed", handler="", encoded=b"\xc1"), "can't be read"),
        (a_letter(encoded=b"LR\x02\x00x"), "version 2"),
        (a_letter(reason="malformed", handler=""), None),
        (a_letter(reason="malformed", handler="", source=REDO), "which handler"),
        (a_letter(reason="", handler=""), "which handler"),
    ],
)
def test_only_what_a_handler_can_get_is_retried(letter: DeadLetterRecord, why: str | None) -> None:
    """What was malformed can be once it decodes; by which handlers must be known."""
    refusal = Retrying().refusal(letter)
    assert refusal is None if why is None else why in (refusal or "")


def test_refused_letters_are_counted_and_the_first_are_named() -> None:
    """A million of them must not fill the memory."""
    outcome = Outcome()
    letters = [a_letter(f"1-{number}", encoded=b"") for number in range(30)]
    right = a_letter()
    assert sort_out(Retrying(), [*letters, right], outcome) == [right]
    assert outcome.refused == 30
    assert [entry_id for entry_id, _ in outcome.reasons] == [f"1-{n}" for n in range(10)]


def test_a_batch_is_no_larger_than_one_step_may_be() -> None:
    """But for a letter that is larger by itself."""
    small, large = b"s" * (MAX_BATCH_BYTES // 2), b"l" * (MAX_BATCH_BYTES + 1)
    letters = [a_letter(encoded=size) for size in (small, small, small, large, small)]
    sizes = [[len(letter.encoded) for letter in batch] for batch in batches(letters)]
    assert sizes == [[len(small)] * 2, [len(small)], [len(large)], [len(small)]]
    assert list(batches([])) == []
