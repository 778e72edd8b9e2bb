"""What the demo counts, and when it is content."""

from __future__ import annotations

import json

import pytest

from lback_relay.demo.figures import Figures, count, plain_table

WORKERS = ("worker-1", "worker-2")


def figures(
    registered: list[str], delivered: list[tuple[str, str]], with_s: tuple[float, ...] = (0.25,)
) -> Figures:
    """Count these, with times that do not matter."""
    return count(
        without_s=(2.0, 2.5, 9.0),
        with_s=with_s,
        registered=registered,
        delivered=delivered,
        workers=WORKERS,
    )


def test_one_mail_per_user_is_what_is_promised() -> None:
    """Nothing lost, nothing doubled, and the shares of the workers add up."""
    found = figures(["a", "b", "c"], [("a", "worker-1"), ("b", "worker-2"), ("c", "worker-1")])
    assert found.problems(3) == []
    assert (found.registered, found.mails, found.duplicates, found.lost) == (3, 3, 0, 0)
    assert found.per_worker == {"worker-1": 2, "worker-2": 1}


def test_the_median_is_not_moved_by_one_slow_registration() -> None:
    """Medians, and their ratio."""
    found = figures(["a"], [("a", "worker-1")], with_s=(0.25, 0.2, 7.0))
    assert found.http_median_s_without == 2.5
    assert found.http_median_s_with == 0.25
    assert found.ratio == 10.0


def test_a_lost_mail_is_not_made_up_for_by_a_duplicate() -> None:
    """As many mails as users, and yet two problems."""
    found = figures(["a", "b"], [("a", "worker-1"), ("a", "worker-2")])
    assert (found.mails, found.duplicates, found.lost) == (2, 1, 1)
    assert len(found.problems(2)) == 2


def test_a_failed_registration_is_a_problem_even_when_every_mail_came() -> None:
    """The users that were asked for count, not those that worked."""
    found = figures(["a"], [("a", "worker-1")])
    assert found.problems(2) == ["1 of 2 users were registered"]


def test_a_mail_to_somebody_else_is_a_problem() -> None:
    """Neither lost nor double, but one too many."""
    found = figures(["a"], [("a", "worker-1"), ("z", "worker-1")])
    assert found.problems(1) == ["2 mails arrived instead of 1"]


def test_an_idle_worker_and_a_stranger_are_both_listed() -> None:
    """Zero is a figure; a mail sent by the web application is not hidden."""
    found = figures(["a"], [("a", "web-with-relay")])
    assert found.per_worker == {"worker-1": 0, "worker-2": 0, "web-with-relay": 1}


def test_a_mail_that_no_worker_sent_is_a_problem() -> None:
    """Lback skips a middleware that it can't import: the demo must not be content then."""
    (problem,) = figures(["a"], [("a", "web-with-relay")]).problems(1)
    assert problem == "1 mails were sent by web-with-relay, which is no worker"


def test_a_worker_that_did_nothing_is_a_problem_when_there_was_enough_to_do() -> None:
    """Of a few users one worker may take them all; of many, both have to work."""
    names = [f"user{number}" for number in range(10)]
    delivered = [(name, "worker-2") for name in names]
    assert figures(names, delivered).problems(10) == ["worker-1 delivered nothing"]
    assert figures(names[:9], delivered[:9]).problems(9) == []


def test_a_relay_that_saves_no_time_is_a_problem() -> None:
    """Everything arrived, and yet it is not what was promised."""
    found = figures(["a"], [("a", "worker-1")], with_s=(2.5,))
    assert found.problems(1) == ["a registration takes as long with the relay as without it"]


def test_the_json_object_has_exactly_the_promised_keys() -> None:
    """In their order, and it can be printed as one line."""
    found = figures(["a"], [("a", "worker-1")]).as_json()
    assert list(found) == [
        "http_median_s_without",
        "http_median_s_with",
        "registered",
        "mails",
        "duplicates",
        "lost",
        "per_worker",
    ]
    assert json.loads(json.dumps(found)) == found


def test_the_table_names_every_worker_and_lines_up() -> None:
    """Every line is as wide as the others."""
    lines = plain_table(figures(["a"], [("a", "worker-2")]).rows())
    assert len({len(line) for line in lines}) == 1
    assert any("worker-1" in line and line.endswith(" 0") for line in lines)
    assert any("worker-2" in line and line.endswith(" 1") for line in lines)


@pytest.mark.parametrize("which", ["without_s", "with_s"])
def test_figures_without_a_single_time_are_refused(which: str) -> None:
    """There is no median of nothing."""
    times: dict[str, tuple[float, ...]] = {"without_s": (1.0,), "with_s": (1.0,), which: ()}
    with pytest.raises(ValueError, match="median"):
        count(registered=[], delivered=[], workers=WORKERS, **times)
