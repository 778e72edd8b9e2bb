"""What signing costs: ``python -m benchmarks.signing``, with tests, worker and . on PYTHONPATH.

Prints, for envelopes of several sizes, what encoding, signing, verifying and decoding take; and, on
a real Redis of its own, how many signals a second one process sends in the background and one
worker handles, with keys and without, in turns; by the clock, and by the processor's time, which
other work on the machine disturbs less. Each figure is the median of its rounds, and so are the
ratios of what was measured side by side. Times are microseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Final, NamedTuple

from benchmarks.signals import SIGNAL, payload_of
from lback.core.signals import SignalDispatcher
from support.brokers import running_server
from support.runs import an_envelope

from lback_relay import Relay, RelayConfig, SignalConfig
from lback_relay.broker import connect
from lback_relay.codec import decode, encode
from lback_relay.keyring import KeyRing, new_key
from lback_relay.remote import RemoteDispatcher
from lback_relay.signing import Signer, Verifier
from lback_signal_worker.config import WorkerConfig
from lback_signal_worker.verification import Verification
from lback_signal_worker.worker import Worker

RING: Final = KeyRing([new_key(), new_key()])
MAX_AGE_S: Final = 604_800.0
TARGET: Final = 0.85
"""With keys at least so much of what is sent or handled without."""
BATCH: Final = 256
CALLS: Final = 200
GIVE_UP_S: Final = 120.0


class Rates(NamedTuple):
    """How many a second."""

    clock: float
    processor: float


class Stopwatch:
    """Measures from its making."""

    def __init__(self) -> None:
        self._clock, self._processor = time.perf_counter(), time.process_time()

    def rates(self, count: int) -> Rates:
        """Return the rates of so many since then."""
        return Rates(
            count / (time.perf_counter() - self._clock),
            count / (time.process_time() - self._processor),
        )


def per_envelope(times: int, rounds: int) -> str:
    """Return a line about the codec alone; ``times`` is the payload's size."""
    envelope = an_envelope(SIGNAL, payload_of(times))
    signer = Signer(RING, SIGNAL, ("queue",))
    verifier = Verifier(RING, max_age_s=MAX_AGE_S)
    encoded = encode(envelope)
    signed = signer.signed(encoded, envelope.id)
    steps: dict[str, Callable[[], Any]] = {
        "encode": lambda: encode(envelope),
        "decode": lambda: decode(encoded),
        "sign": lambda: signer.signed(encoded, envelope.id),
        "verify": lambda: verifier.verified(signed, SIGNAL, "queue"),
    }
    took: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds * 20):
        for name, step in steps.items():
            began_at = time.perf_counter()
            for _ in range(CALLS):
                step()
            took[name].append((time.perf_counter() - began_at) / CALLS * 1e6)
    figures = {name: statistics.median(some) for name, some in took.items()}
    codec = figures["encode"] + figures["decode"]
    ratio = (codec + figures["sign"] + figures["verify"]) / codec
    listed = ", ".join(f"{name} {figure:.2f}" for name, figure in figures.items())
    return (
        f"{len(encoded):>7,} bytes: {listed} us; encode + decode with keys / without: {ratio:.2f}"
    )


def sends_a_second(url: str, keys: KeyRing | None, count: int) -> Rates:
    """Send in the background through a dispatcher until the broker has it all."""
    config = RelayConfig(
        signals={SIGNAL: SignalConfig(name=SIGNAL)},
        url=url,
        namespace=uuid.uuid4().hex,
        spool_dir="off",
        keys=keys,
    )
    dispatcher = SignalDispatcher()
    relay = Relay(config)
    relay.attach(dispatcher)
    payload = payload_of(1)
    dispatcher.send(SIGNAL, None, **payload)
    relay.flush(GIVE_UP_S)
    watch = Stopwatch()
    for _ in range(count):
        dispatcher.send(SIGNAL, None, **payload)
    if not relay.flush(GIVE_UP_S):
        raise SystemExit("the broker did not take it all")
    rates = watch.rates(count)
    relay.close()
    return rates


def handled_a_second(url: str, keys: KeyRing | None, count: int) -> Rates:
    """Run an empty handler in one worker, with all guarantees on."""
    namespace = uuid.uuid4().hex
    envelope = an_envelope(SIGNAL, payload_of(1))
    encoded = encode(envelope)
    if keys is not None:
        encoded = Signer(keys, SIGNAL, ("queue",)).signed(encoded, envelope.id)
    with closing(connect(url, namespace=namespace, timeout_s=10.0)) as broker:
        for first in range(1, count + 1, BATCH):
            broker.publish(
                SIGNAL, [encoded] * min(BATCH, count + 1 - first),
                producer_id="fill", first_sequence=first, queue=True, broadcast=False,
            )  # fmt: skip
    remote = RemoteDispatcher()
    remote.connect(SIGNAL, lambda sender, **_: None, name="empty")
    verifier = None if keys is None else Verifier(keys, max_age_s=MAX_AGE_S)
    worker = Worker(
        WorkerConfig(),
        remote,
        lambda: connect(url, namespace=namespace, timeout_s=10.0),
        verification=Verification(verifier),
    )
    watch = Stopwatch()
    worker.start()
    give_up_at = time.monotonic() + GIVE_UP_S
    while int(worker.figures()["handled"]) < count:
        time.sleep(0.002)
        if time.monotonic() > give_up_at:
            raise SystemExit(f"not handled in time: {worker.figures()}")
    rates = watch.rates(count)
    if worker.figures()["failed"] != "0" or not worker.drain():
        raise SystemExit(f"not all was handled: {worker.figures()}")
    return rates


Measure = Callable[[str, KeyRing | None, int], Rates]
MEASURES: Final[dict[str, Measure]] = {"sends": sends_a_second, "handled": handled_a_second}


def in_turns(measure: Measure, url: str, count: int, rounds: int) -> tuple[Rates, Rates]:
    """Measure without keys and with, each first in every other round.

    Returns: the medians without, and the median of how the two of a round compare.
    """
    plain: list[Rates] = []
    compared: list[Rates] = []
    for number in range(rounds):
        found = {
            signing: measure(url, RING if signing else None, count)
            for signing in (number % 2 == 1, number % 2 == 0)
        }
        plain.append(found[False])
        compared.append(
            Rates(*(found[True][by] / found[False][by] for by in range(len(Rates._fields))))
        )
    return _medians(plain), _medians(compared)


def _medians(rates: list[Rates]) -> Rates:
    return Rates(*(statistics.median(column) for column in zip(*rates, strict=True)))


@contextmanager
def _server() -> Iterator[str]:
    with running_server("--save", "", "--appendonly", "no") as server:
        yield server.url


def main() -> int:
    """Print all figures. Returns 1 when signing costs more than it may."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.signing")
    parser.add_argument("--count", type=int, default=20_000, help="signals of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--codec-only", action="store_true", help="without Redis")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON: the ratios")
    given = parser.parse_args()
    for times in (1, 4, 40):
        sys.stdout.write(per_envelope(times, given.rounds) + "\n")
    if given.codec_only:
        return 0
    ratios: dict[str, dict[str, float]] = {}
    with _server() as url:
        for name, measure in MEASURES.items():
            without, compared = in_turns(measure, url, given.count, given.rounds)
            for by, rate, ratio in zip(Rates._fields, without, compared, strict=True):
                sys.stdout.write(
                    f"{name:>7} a second by the {by:<9}  {rate:>10,.0f} without keys; "
                    f"with them {ratio:.2f} of it\n"
                )
            ratios[name] = compared._asdict()
    if given.json:
        sys.stdout.write(json.dumps(ratios) + "\n")
    return int(any(ratio["processor"] < TARGET for ratio in ratios.values()))


if __name__ == "__main__":
    sys.exit(main())
