"""One dose of each kind of measuring: set up, run for a few seconds, return the figures.

Every handled/s is counted from the tenth part of the entries on, so that starting and getting into
its stride are nobody's loss, and every dose is bounded in time. Durations are seconds.
"""

from __future__ import annotations

import statistics
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from benchmarks.delay_line import DelayLine
from benchmarks.peers.marks import WORK_S
from benchmarks.peers_table import Peer
from benchmarks.processes import PEERS, BenchmarkFailed, Child, Stage, stage
from benchmarks.signals import signal_names

from lback_relay.broker.keys import Keys
from lback_relay.keyring import VARIABLE

TIMEOUT_S: Final = 90.0
GROUP: Final = "workers"

Figures = dict[str, float]


def marking(mode: str, count: int) -> dict[str, str]:
    """Return the environment of a worker whose handlers leave marks."""
    return {"BENCH_MODE": mode, "BENCH_FIRST": str(max(1, count // 10)), "BENCH_LAST": str(count)}


def our_worker(on: Stage, *options: object, url: str | None = None, **environment: str) -> Child:
    """Start the real worker, as a user would."""
    arguments = ("benchmarks.handlers", "--url", url or on.url, "--log-level", "warning", *options)
    return on.own("lback_signal_worker", *arguments, **environment)


def peer_worker(on: Stage, peer: Peer, **environment: str) -> Child:
    """Start a peer's worker."""
    command = [part.replace("{url}", on.url) for part in peer.command(*peer.worker)]
    return on.start(command, peer.environment | environment, folder=PEERS)


def handled_per_s(marks: Sequence[float], count: int) -> float:
    """Return how many were handled a second between the two marks."""
    return (count - max(1, count // 10)) / (marks[1] - marks[0])


def see_settled(on: Stage, signals: int = 1, timeout_s: float = 10.0) -> None:
    """See that what was handled is acknowledged, too."""
    until = time.monotonic() + timeout_s
    streams = [Keys("lback").events(name) for name in signal_names(signals)]
    while any(on.client.xpending(stream, GROUP)["pending"] for stream in streams):
        if time.monotonic() > until:
            raise BenchmarkFailed("what was handled is not acknowledged")
        time.sleep(0.01)


def ours_sent(
    count: int, *, threads: int = 0, signals: int = 1, times: int = 1, keys: str = ""
) -> Figures:
    """Send with ours; 0 threads: in the background; signed if there are keys."""
    options = ("--threads", threads, "--signals", signals, "--times", times)
    with stage() as on:
        before, cpu = on.commands(), on.server_cpu_s()
        sender = on.own("benchmarks.ours", "sends", count, *options, **_signing(keys))
        found = sender.result(TIMEOUT_S)
        return {
            "per_s": found["sent"] / found["took_s"],
            "commands_per_1000": 1000 * (on.commands() - before) / found["sent"],
            "server_us": 1e6 * (on.server_cpu_s() - cpu) / found["sent"],
            "sender_us": 1e6 * found["cpu_s"] / found["sent"],
        }


def ours_sent_onto(backlog: int, count: int) -> Figures:
    """Send with ours in the background where so many wait already."""
    with stage() as on:
        on.own("benchmarks.ours", "fill", backlog).result(TIMEOUT_S)
        found = on.own("benchmarks.ours", "sends", count).result(TIMEOUT_S)
        return {"per_s": found["sent"] / found["took_s"]}


def ours_handled(
    count: int,
    *,
    is_async: bool = False,
    signals: int = 1,
    handlers: int = 1,
    times: int = 1,
    idle_s: float = 0.0,
    delay_s: float | None = None,
    keys: str = "",
) -> Figures:
    """Handle with ours what the streams were filled with.

    Args:
        count: of envelopes.
        is_async: whether the handlers are.
        signals: among which they are spread.
        handlers: of each signal.
        times: the payload's size.
        idle_s: measure for so long afterwards what it uses with nothing to do.
        delay_s: over a way that is longer by this in each direction; None: directly.
        keys: sign and verify; "": neither.
    """
    sized = ("--signals", signals, "--times", times)
    environment = {"BENCH_SIGNALS": str(signals), "BENCH_HANDLERS": str(handlers)}
    environment |= marking("count", count // signals * signals * handlers)
    signing = _signing(keys)
    if is_async:
        environment["BENCH_ASYNC"] = "yes"
    with stage() as on, ExitStack() as stack:
        filled = on.own("benchmarks.ours", "fill", count, *sized, **signing).result(TIMEOUT_S)
        before, cpu = on.commands(), on.server_cpu_s()
        url = on.url if delay_s is None else stack.enter_context(far_away(on.url, delay_s))
        worker = our_worker(on, url=url, **environment, **signing)
        marks = on.wait_for_marks(worker, TIMEOUT_S)
        see_settled(on, signals)
        figures = {
            "per_s": handled_per_s(marks, count // signals * signals * handlers) / handlers,
            "rss_mib": worker.peak_mib(),
            "commands_per_1000": 1000 * (on.commands() - before) / count,
            "server_us": 1e6 * (on.server_cpu_s() - cpu) / count,
            "worker_us": 1e6 * worker.cpu_s() / count,
            "envelope_bytes": filled["envelope_bytes"],
            "file_bytes": on.file_bytes() / count,
        }
        if idle_s:
            figures |= idle(on, worker, idle_s)
        worker.end()  # before its way there
        return figures


def _signing(keys: str) -> dict[str, str]:
    return {VARIABLE: keys} if keys else {}


@contextmanager
def far_away(url: str, delay_s: float) -> Iterator[str]:
    """Yield the URL of a way to the server that is longer by ``delay_s`` in each direction."""
    port = int(url.rpartition(":")[2].partition("/")[0])
    with DelayLine(port, delay_s) as line:
        yield f"redis://127.0.0.1:{line.port}/0"


def peer_handled(peer: Peer, count: int, *, idle_s: float = 0.0) -> Figures:
    """Send with a peer, then handle with it."""
    with stage() as on:
        sender = peer.command("python", "send.py", f"{peer.name}_app", str(count))
        sent = on.start(sender, {}, folder=PEERS).result(TIMEOUT_S)
        worker = peer_worker(on, peer, **marking("count", count))
        marks = on.wait_for_marks(worker, TIMEOUT_S)
        figures = {
            "sent_per_s": sent["sent"] / sent["took_s"],
            "per_s": handled_per_s(marks, count),
            "rss_mib": worker.peak_mib(),
        }
        if idle_s:
            figures |= idle(on, worker, idle_s)
        return figures


def idle(on: Stage, worker: Child, seconds: float) -> Figures:
    """Measure what a worker uses that has nothing to do."""
    time.sleep(2.0)  # until it has finished what it does after work
    commands, cpu, began_at = on.commands(), worker.cpu_s(), time.monotonic()
    time.sleep(seconds)
    took_s = time.monotonic() - began_at
    return {
        "idle_cpu_percent": 100 * (worker.cpu_s() - cpu) / took_s,
        "idle_commands_per_s": (on.commands() - commands) / took_s,
        "idle_rss_mib": worker.rss_mib(),
    }


def ours_idle(seconds: float) -> Figures:
    """Measure our worker before it has ever had anything to do."""
    with stage() as on:
        return idle(on, our_worker(on), seconds)


def floor(kind: str, count: int) -> Figures:
    """Run a floor."""
    with stage() as on:
        found = on.own("benchmarks.floor", kind, count).result(TIMEOUT_S)
        return {"per_s": found["count"] / found["took_s"]}


def latency(peer: Peer | None, count: int, rate: float) -> Figures:
    """Measure from just before the sending to the handler's start; None stands for ours."""
    with stage() as on:
        if peer is None:
            worker = our_worker(on, **marking("latency", count))
        else:
            worker = peer_worker(on, peer, **marking("latency", count))
        _wait_until_it_polls(on, worker)
        if peer is None:
            sender = on.own("benchmarks.ours", "rate", count, "--rate", rate)
        else:
            name = f"{peer.name}_app"
            command = peer.command("python", "send.py", name, str(count), str(rate))
            sender = on.start(command, {}, folder=PEERS)
        sender.result(TIMEOUT_S)
        took = sorted(on.wait_for_marks(worker, 30.0)[count // 10 :])
        return {
            "median_ms": 1000 * statistics.median(took),
            "p99_ms": 1000 * took[int(0.99 * len(took))],
        }


def _wait_until_it_polls(on: Stage, worker: Child) -> None:
    """Wait until a worker asks for entries, or waits in a blocking read for them."""
    until = time.monotonic() + 30
    asks = {"xreadgroup", "brpop", "blpop", "bzpopmin", "blmove", "brpoplpush", "evalsha"}
    asks |= {"zrangebyscore", "eval", "lmove"}
    while True:
        doing = {str(client["cmd"]) for client in on.client.client_list()}
        if asks & doing:
            break
        if worker.ended or time.monotonic() > until:
            raise BenchmarkFailed(f"the worker does not begin: {worker.tail()}")
        time.sleep(0.05)
    time.sleep(0.5)


def added(kind: str, count: int, pause_s: float) -> Figures:
    """Measure what ours adds to ``dispatcher.send``."""
    with stage() as on:
        found = on.own("benchmarks.ours", kind, count, "--pause-s", pause_s).result(TIMEOUT_S)
        return {key: float(value) for key, value in found.items()}


def ours_spread(workers: int, slots: int, count: int) -> Figures:
    """Handle what takes 10 ms with several workers; return their part of what could be."""
    with stage() as on:
        on.own("benchmarks.ours", "fill", count).result(TIMEOUT_S)
        options = ("--processes", workers, "--concurrency", slots)
        worker = our_worker(on, *options, **marking("sleep", count))
        until = time.monotonic() + TIMEOUT_S
        while (on.marks.stat().st_size if on.marks.exists() else 0) < 8 * count:
            if worker.ended or time.monotonic() > until:
                raise BenchmarkFailed(f"not handled in time: {worker.tail()}")
            time.sleep(0.05)
        ends = sorted(item[0] for item in struct.iter_unpack("d", on.marks.read_bytes()))
        # All work from a quarter of it on; at the very end some have nothing left.
        first, last = count // 4, count * 9 // 10
        per_s = (last - first) / (ends[last] - ends[first])
        return {"per_s": per_s, "efficiency": per_s / (workers * slots / WORK_S)}
