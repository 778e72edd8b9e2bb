"""A soak's account and its watch over processes: they find what they are there to find."""

from __future__ import annotations

from itertools import islice
from random import Random

from faults.support.ledger import FINISHED, PUBLISHED, Line
from soak.plan import WEIGHTS, faults
from soak.tally import Tally
from soak.watch import MAX_GROWTH_KIB, Watched


def line(what: str, key: str, handler: str = "") -> Line:
    """Return a line of the ledger."""
    return Line(what, key, handler, 1, 7, 0.0)


def test_what_a_handler_has_not_ended_is_open() -> None:
    """For each handler by itself, and only what was published."""
    tally = Tally(("mail", "index"))
    tally.read([line(PUBLISHED, "a-0"), line(PUBLISHED, "a-2000")])
    tally.read([line(FINISHED, "a-0", "mail"), line(FINISHED, "a-2000", "mail")])
    tally.read([line(FINISHED, "a-0", "index"), line(FINISHED, "a-1", "index")])
    assert tally.open() == {("a-2000", "index")}


def test_further_ends_are_duplicates() -> None:
    """An end beyond the first counts, whoever published."""
    tally = Tally(("mail", "index"))
    tally.read([line(FINISHED, key, "mail") for key in ("a-0", "b-0", "a-0", "a-0")])
    tally.read([line(FINISHED, "a-0", "index")])
    assert tally.duplicates() == 2


def test_the_stream_is_compared_with_what_was_published() -> None:
    """What is in it twice is found, and what never was."""
    tally = Tally(("mail",))
    tally.read([line(PUBLISHED, f"a-{number}") for number in range(3)])
    for key in ("a-0", "a-2", "a-2"):
        tally.streamed.add(key)
    assert tally.streamed.repeated() == ["a-2"]
    assert tally.missing_in_stream() == ["a-1"]


def watched(kib: list[int], files: tuple[int, int] = (9, 9)) -> Watched:
    """Return a process with these samples, a second apart."""
    samples = [(float(at), each) for at, each in enumerate(kib)]
    before, after = files
    return Watched(name="worker", pid=1, samples=samples, files_before=before, files_after=after)


def test_a_process_that_grows_is_told() -> None:
    """Not for its start, but for what it takes when it is warm."""
    flat = [50_000] * 80
    assert not watched([10_000] * 20 + flat).problems()
    growing = [50_000 + at * MAX_GROWTH_KIB // 50 for at in range(100)]
    assert watched(growing).problems()
    assert watched(growing).slope_kib_per_min() > MAX_GROWTH_KIB


def test_a_process_that_keeps_files_open_is_told() -> None:
    """Sockets are files too."""
    assert not watched([50_000] * 9, (9, 10)).problems()
    assert watched([50_000] * 9, (9, 40)).problems()


def test_a_seed_repeats_the_faults() -> None:
    """The same seed, the same faults; in time each kind comes."""
    one, same, other = (list(islice(faults(Random(seed)), 500)) for seed in (1, 1, 2))
    assert one == same != other
    assert {fault.kind for fault in one} == set(WEIGHTS)
    assert all(fault.one_of("abc") in "abc" for fault in one)
