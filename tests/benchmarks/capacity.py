"""What so many signals a day need: ``python -m benchmarks.capacity``; measures, then calculates.

Measured, in processor time, which a busy machine changes less than how long things take: what an
envelope costs the server (published; taken and acknowledged), a worker with an empty handler, and
whoever sends; what it takes in the server's memory and in its append-only file. Calculated from
them: cores, workers and bytes. The figures are for the usual payload, one group, no retries.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

COUNTS: Final = (20_000, 140_000)
"""Two, so that what a worker's start costs is known and left out."""
PEAK: Final = 5.0
"""The busiest seconds of a day have so many times the average."""
HEADROOM: Final = 0.7
"""A core is not planned to do more than this part of what it could."""
SLOTS: Final = 8
HANDLERS_S: Final = (0.001, 0.05)
RATES: Final = {
    "1 million a day": 1e6 / 86_400,
    "10 million a day": 1e7 / 86_400,
    "100 million a day": 1e8 / 86_400,
    "100,000 a second at the peak": 1e5 / PEAK,
}
"""Average signals a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """What one envelope costs; µs of a core, and bytes.

    Attributes:
        send_us: whoever sends.
        publish_us: the server, when it is published.
        handle_us: the server, when it is taken and acknowledged.
        worker_us: a worker with an empty handler.
        memory_bytes: of the server, while it waits.
        file_bytes: of the append-only file, from publishing to acknowledging.
    """

    send_us: float
    publish_us: float
    handle_us: float
    worker_us: float
    memory_bytes: float
    file_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a rate needs at its peak.

    Attributes:
        peak_per_s: signals a second.
        server_cores: of the server; one shard has one.
        sending_cores: of all processes that send.
        workers: with an empty handler, one core each.
        slots: for each of ``HANDLERS_S``, handlers that run at once.
        file_gib_per_day: written to the append-only file, before it is rewritten.
        backlog_gib: in memory, after an hour at the average without a worker.
    """

    peak_per_s: float
    server_cores: float
    sending_cores: float
    workers: int
    slots: tuple[int, ...]
    file_gib_per_day: float
    backlog_gib: float


def need(constants: Constants, average_per_s: float) -> Need:
    """Return what an average rate needs."""
    peak = average_per_s * PEAK
    gib = 1 << 30
    return Need(
        peak_per_s=peak,
        server_cores=peak * (constants.publish_us + constants.handle_us) / 1e6 / HEADROOM,
        sending_cores=peak * constants.send_us / 1e6 / HEADROOM,
        workers=math.ceil(peak * constants.worker_us / 1e6 / HEADROOM),
        slots=tuple(math.ceil(peak * took_s / HEADROOM) for took_s in HANDLERS_S),
        file_gib_per_day=average_per_s * 86_400 * constants.file_bytes / gib,
        backlog_gib=average_per_s * 3600 * constants.memory_bytes / gib,
    )


def measured() -> Constants:
    """Measure the constants."""
    from benchmarks import doses  # the calculation alone needs no server
    from benchmarks.processes import stage

    few, many = COUNTS
    sent = doses.ours_sent(few)
    with_few, handled = doses.ours_handled(few), doses.ours_handled(many)
    with stage() as on:
        on.own("benchmarks.ours", "fill", few).result(doses.TIMEOUT_S)
        memory = on.client.memory_usage("lback:{user_registered}:events", samples=0) or 0
    return Constants(
        send_us=sent["sender_us"],
        publish_us=sent["server_us"],
        handle_us=handled["server_us"],
        worker_us=(many * handled["worker_us"] - few * with_few["worker_us"]) / (many - few),
        memory_bytes=memory / few,
        file_bytes=handled["file_bytes"],
    )


def lines(constants: Constants) -> Iterator[str]:
    """Yield the constants and the needs, as the page has them."""
    for title, value in (
        ("sending process, background", f"{constants.send_us:.1f} µs"),
        ("server, to publish it", f"{constants.publish_us:.1f} µs"),
        ("server, to hand it out and take its acknowledgement", f"{constants.handle_us:.1f} µs"),
        ("worker, empty handler", f"{constants.worker_us:.1f} µs"),
        ("server's memory while it waits", f"{constants.memory_bytes:.0f} bytes"),
        ("append-only file", f"{constants.file_bytes:.0f} bytes"),
    ):
        yield f"| {title} | {value} |"
    yield ""
    short, long = (f"{took_s * 1000:g} ms" for took_s in HANDLERS_S)
    yield (
        "| signals | at the peak | server | senders | workers, empty handler "
        f"| slots, {short} | slots, {long} | file a day | backlog of an hour |"
    )
    yield "|---" * 9 + "|"
    for title, rate in RATES.items():
        found = need(constants, rate)
        yield (
            f"| {title} | {found.peak_per_s:,.0f}/s | {found.server_cores:.2f} cores "
            f"| {found.sending_cores:.2f} cores | {found.workers} "
            f"| {found.slots[0]:,} | {found.slots[1]:,} "
            f"| {found.file_gib_per_day:,.1f} GiB | {found.backlog_gib:,.2f} GiB |"
        )


def main() -> None:
    """Measure, calculate and print."""
    for line in lines(measured()):
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
