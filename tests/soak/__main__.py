"""The soak: ``python -m soak --minutes 10 --seed 7``, or ``make soak MINUTES=10 SEED=7``.

Real processes, load, and random faults from a printed seed; then the account. Exits with 0 when all
holds, 1 when something does not, 130 at Ctrl-C. Everything listens on 127.0.0.1 and ends with it.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random, SystemRandom
from typing import Final

import click
from faults.support.account import key_of, logs_with
from faults.support.names import LEASE_S, SECRET
from soak.plan import Fault, faults
from soak.site import HANDLERS, Site
from soak.watch import Watched, open_files
from support.brokers import binary_of
from support.waiting import wait_until

WARM_S: Final = 5.0
SHOWN_EVERY_S: Final = 5.0
SHOWN: Final = 5


def say(text: str) -> None:
    """Print a line at once."""
    click.echo(text)
    sys.stdout.flush()


class Soak:
    """One run.

    Args:
        site: where.
        seed: of the faults.
        minutes: for how long faults come.
    """

    def __init__(self, site: Site, seed: int, minutes: float) -> None:
        self.site = site
        self.problems: list[str] = []
        self.suffered: dict[str, int] = {}
        self.watched = [
            Watched(name=name, pid=process.pid) for name, process in site.lasting().items()
        ]
        self._seed = seed
        self._length_s = minutes * 60
        self._began_at = time.monotonic()
        self._stopped = threading.Event()

    def run(self) -> None:
        """Warm up, let faults come, let all get well, and take the account."""
        looking = threading.Thread(target=self._look, name="looking", daemon=True)
        looking.start()
        try:
            time.sleep(WARM_S)
            for each in self.watched:
                each.files_before = open_files(each.pid)
            self._hold(self._suffer)
            say(f"{self._now():5.0f} s  no more faults; all must get well")
            self._hold(self._everybody_works)
            for each in self.watched:
                each.files_after = open_files(each.pid)
            self._hold(self._end_senders)
            self._hold(lambda: self.site.scene.wait_settled(180))
        finally:
            self._stopped.set()
            looking.join()
        self._hold(self._account)
        self._hold(self._end_workers)

    def _now(self) -> float:
        return time.monotonic() - self._began_at

    def _hold(self, check: Callable[[], None]) -> None:
        """Call a check; what it asserts and does not hold is a problem, and the others go on."""
        try:
            check()
        except AssertionError as error:
            self.problems.append(str(error))
            say(f"PROBLEM: {error}")

    def _look(self) -> None:
        shown_at = 0.0
        while not self._stopped.wait(1.0):
            self.site.look()
            for each in self.watched:
                each.sample(self._now())
            if self._now() >= shown_at:
                shown_at = self._now() + SHOWN_EVERY_S
                tally = self.site.tally
                ended = " ".join(
                    f"{name} {counts.total}" for name, counts in tally.finished.items()
                )
                say(
                    f"{self._now():5.0f} s  published {tally.published.total}  finished {ended}  "
                    f"in the stream {tally.streamed.total}  faults {sum(self.suffered.values())}"
                )

    def _suffer(self) -> None:
        for fault in faults(Random(f"{self._seed}:faults")):
            if self._now() + fault.after_s >= self._length_s:
                return
            time.sleep(fault.after_s)
            say(f"{self._now():5.0f} s  {told(fault)}")
            self.site.suffer(fault)
            self.suffered[fault.kind] = self.suffered.get(fault.kind, 0) + 1
            dead = [name for name, process in self.site.lasting().items() if process.ended]
            assert not dead, f"{', '.join(dead)} ended after {fault.kind}"

    def _everybody_works(self) -> None:
        """Hold that each worker handles something again, without a restart."""
        since = time.monotonic()
        ended_at = self.site.tally.last_end_of

        def idle() -> list[int]:
            return [pid for pid in self.site.worker_pids() if ended_at.get(pid, 0) < since]

        with suppress(AssertionError):
            wait_until(lambda: not idle(), 90, "the work of every worker")
        assert not idle(), f"the workers {idle()} have not worked since the last fault"

    def _end_senders(self) -> None:
        senders = [*self.site.senders, self.site.mortal_sender]
        for sender in senders:
            sender.send(signal.SIGTERM)
        for sender in senders:
            code = sender.wait(120)
            say(f"{sender.log.stem}: {sender.tail().splitlines()[-1]}")
            assert code == 0, f"what {sender.log.stem} had queued did not reach the broker"
        self.site.drain_spool()

    def _end_workers(self) -> None:
        workers = [self.site.fleet, self.site.veteran, self.site.mortal]
        for worker in workers:
            worker.send(signal.SIGTERM)
        codes = [worker.wait() for worker in workers]
        assert codes == [0, 0, 0], f"idle workers were told to end, and ended with {codes}"

    def _account(self) -> None:
        site, tally = self.site, self.site.tally
        site.look()
        site.read_stream("0")
        letters = site.scene.shelf.dead_letters()
        dead = {(key_of(encoded) or "", letter.handler) for encoded, letter in letters}
        crashed = sum(letter.reason == "crashed" for _, letter in letters)
        lost = tally.open() - dead
        doubled, bound = tally.duplicates(), site.in_hand * len(HANDLERS)
        twice = tally.streamed.repeated()
        missing = tally.missing_in_stream()
        say(
            f"published {tally.published.total}, dead letters {len(dead)} ({crashed} crashed), "
            f"lost {len(lost)}, duplicates {doubled} (at most {bound}), "
            f"twice in the stream {len(twice)}"
        )
        for each in self.watched:
            say(each.told())
            self.problems += each.problems()
        for what, found in (
            ("lost", sorted(lost)),
            ("twice in the stream", twice),
            ("published and never in the stream", missing),
            ("the secret is in the logs", logs_with(site.scene.folder, SECRET)),
        ):
            if found:
                self.problems.append(f"{what}: {len(found)}, such as {found[:SHOWN]}")
        if doubled > bound:
            self.problems.append(f"{doubled} duplicates, and only {bound} were in hand at faults")
        if not tally.published.total:
            self.problems.append("nothing was published")


def told(fault: Fault) -> str:
    """Return one line about a fault."""
    return f"{fault.kind}, {fault.for_s:.1f} s, after {fault.after_s:.1f} s"


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0.2), default=1.0, help="For how long.")
@click.option("--seed", type=int, help="Of all that is random.  [default: another each time]")
@click.option("--rate", type=click.FloatRange(min=1), default=150.0, help="Envelopes a second.")
@click.option("--server", type=click.Choice(["redis", "redis-6.2", "valkey"]), default="redis")
def main(minutes: float, seed: int | None, rate: float, server: str) -> None:
    """Run load with random faults, and check what is promised."""
    seed = SystemRandom().randrange(10**6) if seed is None else seed
    say(f"soak of {minutes:g} minutes, seed {seed}, {server}, lease {LEASE_S:g} s")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="lback-relay-soak-"))
    problems = ["it did not come to its end"]
    try:
        site = Site(folder, binary_of(server), seed, rate)
        try:
            soak = Soak(site, seed, minutes)
            soak.run()
            problems = soak.problems
        finally:
            site.close()
    except KeyboardInterrupt:
        say("stopped")
        shutil.rmtree(folder, ignore_errors=True)
        sys.exit(130)
    if problems:
        say(f"FAILED, seed {seed}; ledger and logs are in {folder}")
        for problem in problems:
            say(f"  {problem}")
        sys.exit(1)
    shutil.rmtree(folder, ignore_errors=True)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(soak.suffered.items()))
    say(f"passed, seed {seed}: {sum(soak.suffered.values())} faults ({kinds})")


if __name__ == "__main__":
    main()
