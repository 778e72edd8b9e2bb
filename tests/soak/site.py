"""Where a soak takes place: Redis (AOF always), proxies, workers and senders; and the faults there.

Two workers run under a supervisor, one (the veteran) is never killed, and one comes and goes. Two
senders and the veteran are to live from the first second to the last, a third sender is killed
again and again. Durations are seconds.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final

import redis
from faults.support.account import key_of
from faults.support.names import NAMESPACE, SIGNAL, WITNESS
from faults.support.processes import Process
from faults.support.proxy import Matches, Proxy, named, publishing_calls, script
from faults.support.rows import Figures
from faults.support.scene import Scene
from soak import plan
from soak.plan import Fault
from soak.tally import Tally
from support.waiting import wait_until

from lback_relay.broker.scripts import SETTLE, in_full

HANDLERS: Final = {
    "mail": {"max_attempts": 5, "backoff_base_s": 0.2, "backoff_max_s": 1.0},
    "index": {"max_attempts": 5, "backoff_base_s": 0.2, "backoff_max_s": 1.0, "async": True},
}
AOF: Final = ("--appendonly", "yes", "--appendfsync", "always")
PROCESSES: Final = 2


def settling_calls() -> Matches:
    """Return what matches the calls that settle."""
    command = SETTLE.command()
    return script(command[1].encode(), in_full(command)[1].encode())


class Site:
    """See the module.

    Args:
        folder: for all files.
        binary: the Redis server's executable.
        seed: of everything.
        rate: envelopes a second, of all senders.
    """

    def __init__(self, folder: Path, binary: str, seed: int, rate: float) -> None:
        random = Random(f"{seed}:site")
        self.scene = Scene(folder, binary, random, Figures(row=0, name="soak"))
        self.scene.handlers = HANDLERS
        self.tally = Tally(tuple(HANDLERS))
        self.in_hand = 0
        self._unacknowledged: set[bytes] = set()
        self._rate, self._seed = rate, seed
        self._mortal_senders = 0
        self._carry_out: dict[str, Callable[[Fault], None]] = {
            plan.KILL_WORKER: self._kill_worker,
            plan.STOP_WORKER: self._stop_worker,
            plan.DRAIN_WORKER: self._drain_worker,
            plan.RECYCLE: self._recycle,
            plan.KILL_SENDER: self._kill_sender,
            plan.KILL_REDIS: self._kill_redis,
            plan.PAUSE_REDIS: self._pause_redis,
            plan.CUT: self._cut,
            plan.BLACK_HOLE: self._black_hole,
            plan.SLOW: self._slow_down,
            plan.LOSE_REPLIES: self._lose_replies,
        }
        try:
            self.scene.serve(*AOF, witness=True)
            self.fleet_line, self.worker_line, self.sender_line = (
                self.scene.proxy() for _ in range(3)
            )
            self.fleet = self.scene.worker(
                "--processes", str(PROCESSES), url=self.fleet_line.url, name="fleet"
            )
            self.veteran = self.scene.worker(url=self.worker_line.url, name="veteran")
            self.mortal = self._another()
            wait_until(lambda: len(self.fleet.children()) == PROCESSES, 60, "the children")
            self.senders = [self._sender(way, way) for way in ("sync", "background")]
            self.mortal_sender = self._another_sender()
        except BaseException:
            self.scene.close()
            raise

    def _another(self) -> Process:
        return self.scene.worker(url=self.worker_line.url, name="mortal")

    def _sender(self, name: str, way: str) -> Process:
        return self.scene.python(
            "soak.publishing",
            *(self.sender_line.url, name, str(self._rate / 3), str(self._seed), way),
            name=f"sender-{name}",
            SOAK_HANDLERS=",".join(HANDLERS),
        )

    def _another_sender(self) -> Process:
        self._mortal_senders += 1
        return self._sender(f"safe{self._mortal_senders}", "safe")

    # looking ---------------------------------------------------------------------------------

    @property
    def lines(self) -> tuple[Proxy, ...]:
        """The ways to Redis: of the supervisor's workers, the other workers, and the senders."""
        return (self.fleet_line, self.worker_line, self.sender_line)

    def lasting(self) -> dict[str, Process]:
        """Return the processes that nothing may end."""
        return {
            "supervisor": self.fleet,
            "veteran": self.veteran,
            **{process.log.stem: process for process in self.senders},
        }

    def worker_pids(self) -> list[int]:
        """Return the workers that run now."""
        return [self.veteran.pid, self.mortal.pid, *self.fleet.children()]

    def look(self) -> None:
        """Bring the tally up to date; what is in the stream is read as long as Redis answers."""
        self.tally.read(self.scene.ledger.fresh())
        with contextlib.suppress(redis.RedisError):
            self.read_stream(">")

    def read_stream(self, after: str) -> None:
        """Read the stream as the witness; ``0`` reads what it was sent and has not acknowledged."""
        client: Any = self.scene.server.client
        events = self.scene.keys.events(SIGNAL)
        while reply := client.xreadgroup(WITNESS, "soak", {events: after}, count=1000):
            # RESP3 answers with a mapping, RESP2 with a list.
            entries = next(iter(reply.values()))[0] if isinstance(reply, dict) else reply[0][1]
            if not entries:
                return
            for entry_id, fields in entries:
                if entry_id not in self._unacknowledged:
                    key = key_of(fields[b"e"])
                    assert key is not None, "an envelope of the soak can't be read"
                    self.tally.streamed.add(key)
                    self._unacknowledged.add(entry_id)
            client.xack(events, WITNESS, *(entry_id for entry_id, _ in entries))
            self._unacknowledged.clear()

    # the faults ------------------------------------------------------------------------------

    def suffer(self, fault: Fault) -> None:
        """Carry out a fault, and undo what can be undone."""
        self._carry_out[fault.kind](fault)

    def _count(self, *pids: int) -> None:
        """Count what is in hand now: so much more may be doubled."""
        if pids:
            self.in_hand += sum(self.scene.shelf.in_hand(f":{pid}:") for pid in pids)
        else:
            self.in_hand += self.scene.shelf.in_hand()

    def _kill_worker(self, fault: Fault) -> None:
        pid = fault.one_of([self.mortal.pid, *self.fleet.children()])
        if pid == self.mortal.pid:
            self.mortal.kill()
            self._count(pid)
            self.mortal = self._another()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
            self._count(pid)

    def _stop_worker(self, fault: Fault) -> None:
        pid = fault.one_of(self.worker_pids())
        try:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(0.1)
            self._count(pid)
            time.sleep(fault.for_s)
        except ProcessLookupError:  # a child that was being replaced
            return
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _drain_worker(self, fault: Fault) -> None:
        self.mortal.send(signal.SIGTERM)
        code = self.mortal.wait()
        assert code == 0, f"a drained worker has ended with {code}: {self.mortal.tail()}"
        self.mortal = self._another()

    def _recycle(self, fault: Fault) -> None:
        self.fleet.send(signal.SIGHUP)

    def _kill_sender(self, fault: Fault) -> None:
        self.mortal_sender.kill()
        self.mortal_sender = self._another_sender()

    def drain_spool(self) -> None:
        """Send what killed senders have left, as one does on a host that sends no more."""
        drain = self.scene.python(
            "lback_relay.cli",
            *("spool", "drain", "--url", self.sender_line.url),
            name="drain",
            LBACK_RELAY_NAMESPACE=NAMESPACE,
        )
        assert drain.wait() == 0, f"the spool could not be drained: {drain.tail()}"

    def _kill_redis(self, fault: Fault) -> None:
        self._count()
        self.scene.server.kill()
        time.sleep(fault.for_s)
        self.scene.server.start()
        self._count()

    def _pause_redis(self, fault: Fault) -> None:
        self._count()
        self.scene.server.pause()
        try:
            time.sleep(fault.for_s)
        finally:
            self.scene.server.resume()
        self._count()

    def _cut(self, fault: Fault) -> None:
        self._count()
        fault.one_of(self.lines).cut_all()
        self._count()

    def _black_hole(self, fault: Fault) -> None:
        line = fault.one_of(self.lines)
        line.black_hole()
        try:
            time.sleep(0.1)
            self._count()
            time.sleep(fault.for_s)
        finally:
            self._count()
            line.heal()

    def _slow_down(self, fault: Fault) -> None:
        line = fault.one_of(self.lines)
        self._count()
        line.slow_down(delay_s=0.05, jitter_s=0.05)
        time.sleep(fault.for_s)
        line.slow_down()
        self._count()

    def _lose_replies(self, fault: Fault) -> None:
        line = fault.one_of(self.lines)
        reads = named(b"XREADGROUP")
        replies = publishing_calls() if line is self.sender_line else settling_calls()
        if line is not self.sender_line and fault.for_s > 2:
            replies = reads
        self._count()
        line.lose_replies(replies, every=4)
        time.sleep(fault.for_s)
        line.lose_none()
        self._count()

    def close(self) -> None:
        """End all processes."""
        self.scene.close()
