"""What each step of sending and handling takes: ``python -m benchmarks.costs``, in µs per envelope.

The same code as in use, called in a loop in one thread, without a broker; the best of many rounds,
so that a busy machine hardly shows. Steps that hold others are marked by how far they stand to the
right. What threads cost each other by taking turns is not in here.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from random import random
from typing import Any, Final

import hiredis
import msgpack
from benchmarks.ours import SENDER, attached
from benchmarks.peers.marks import PAYLOAD
from benchmarks.signals import SIGNAL
from lback.core.signals import SignalDispatcher

from lback_relay.broker.base import EVENTS
from lback_relay.broker.reading import _deliveries
from lback_relay.codec import decode
from lback_relay.envelope import QUEUE, new_envelope_id
from lback_relay.keyring import KeyRing, new_key
from lback_relay.remote import RemoteDispatcher
from lback_relay.signing import Signer, Verifier
from lback_relay.transaction import session_at_hand
from lback_signal_worker.in_hand import InHand
from lback_signal_worker.prefetch import Prefetch
from lback_signal_worker.processor import Processor, Run
from lback_signal_worker.slots import PlainSlots, Slot
from lback_signal_worker.verification import Verification

COUNT: Final = 1000
ROUNDS: Final = 50
RING: Final = KeyRing([new_key()])

Cost = tuple[str, float]


def best_us(run: Callable[[], object]) -> float:
    """Return the least time of a run that does something ``COUNT`` times, for each of them."""
    least_s = float("inf")
    for _ in range(ROUNDS):
        began_at = time.perf_counter()
        run()
        least_s = min(least_s, time.perf_counter() - began_at)
    return 1e6 * least_s / COUNT


def _each(call: Callable[[], object]) -> Callable[[], object]:
    def run() -> None:
        for _ in range(COUNT):
            call()

    return run


def sending() -> Iterator[Cost]:
    """Yield what ``dispatcher.send`` costs, up to where the envelope is handed over."""
    relay, dispatcher = attached()
    made: list[bytes] = []
    keep: Callable[..., None] = lambda _signal, encoded: made.append(encoded)  # noqa: E731
    relay.publisher.publish = keep  # type: ignore[method-assign]
    alone = SignalDispatcher()
    yield (
        "dispatcher.send without the relay",
        best_us(_each(lambda: alone.send(SIGNAL, SENDER, **PAYLOAD))),
    )
    yield (
        "dispatcher.send with it",
        best_us(_each(lambda: dispatcher.send(SIGNAL, SENDER, **PAYLOAD))),
    )
    sender = relay._senders[SIGNAL]
    projection = sender._projection
    fields = sender._fields(SENDER, PAYLOAD)
    both = lambda: sender._encoded(sender._fields(SENDER, PAYLOAD))  # noqa: E731
    yield "  the envelope made and encoded", best_us(_each(both))
    yield "    the payload projected", best_us(_each(lambda: projection.payload(PAYLOAD)))
    yield "    the sender projected", best_us(_each(lambda: projection.sender(SENDER)))
    yield "    a new id", best_us(_each(new_envelope_id))
    yield "    encoded", best_us(_each(lambda: sender._encoded(fields)))
    yield "      msgpack itself, the payload alone", best_us(_each(lambda: msgpack.packb(PAYLOAD)))
    signer = Signer(RING, SIGNAL, (QUEUE,))
    yield "    signed, with keys", best_us(_each(lambda: signer.signed(made[0], fields[0][0])))
    yield "  a session looked for", best_us(_each(lambda: session_at_hand(PAYLOAD)))


def handling() -> Iterator[Cost]:
    """Yield what an envelope costs in a worker, from the reply's bytes to the acknowledgement."""
    encoded = _sent()
    processor, hand = _worker_parts()
    ids = [b"1700000000000-%d" % number for number in range(COUNT)]
    reply = [[b"s", [[entry_id, [b"e", encoded]] for entry_id in ids]]]
    yield "a reply parsed by hiredis", best_us(lambda: _parsed(ids, encoded))
    yield "deliveries made", best_us(lambda: _deliveries(reply, {b"s": (SIGNAL, EVENTS)}))
    deliveries = _deliveries(reply, {b"s": (SIGNAL, EVENTS)})
    yield "runs begun", best_us(lambda: [processor.begin(delivery, 1.0) for delivery in deliveries])
    runs = [processor.begin(delivery, 1.0) for delivery in deliveries]
    slots = PlainSlots(
        processor, 8, hand=hand, lease_s=float("inf"), report=lambda _runs: None,
        pass_on=lambda _run: None, finish_coroutine=lambda _coroutine: None,
    )  # fmt: skip

    envelopes = [decode(encoded) for _ in runs]

    def work_off(*, opened: bool) -> None:
        for run, envelope in zip(runs, envelopes, strict=True):
            run.position = 0
            run.envelope = envelope if opened else None
        slots._work_off(Slot(1), deque(runs))

    yield "worked off by a slot", best_us(lambda: work_off(opened=False))
    signed = Signer(RING, SIGNAL, (QUEUE,)).signed(encoded, "")
    verifier = Verifier(RING, max_age_s=None)
    verified: Callable[[], object] = lambda: verifier.body(signed, SIGNAL, QUEUE)  # noqa: E731
    yield "  verified, with keys", best_us(_each(verified))
    yield "  decoded", best_us(_each(lambda: decode(encoded)))
    packed = msgpack.packb(PAYLOAD)
    yield "    msgpack itself, the payload alone", best_us(_each(lambda: msgpack.unpackb(packed)))
    yield "  the rest of it", best_us(lambda: work_off(opened=True))
    yield "taken in hand, and out of it", best_us(lambda: _in_and_out(hand, runs))
    yield "settlements made", best_us(lambda: [run.settlement() for run in runs])
    command: Any = ("XACK", "s", "g", *(delivery.entry_id for delivery in deliveries))
    yield "an acknowledgement packed", best_us(lambda: hiredis.pack_command(command))


def _sent() -> bytes:
    """Return the bytes of one envelope, really sent."""
    relay, dispatcher = attached()
    made: list[bytes] = []
    keep: Callable[..., None] = lambda _signal, encoded: made.append(encoded)  # noqa: E731
    relay.publisher.publish = keep  # type: ignore[method-assign]
    dispatcher.send(SIGNAL, SENDER, **PAYLOAD)
    return made[0]


def _worker_parts() -> tuple[Processor, InHand]:
    def handler(sender: Any, **payload: Any) -> None:
        pass

    remote = RemoteDispatcher()
    remote.connect(SIGNAL, handler)
    handlers = {SIGNAL: remote.handlers(SIGNAL)}
    processor = Processor(
        group="workers", handlers=handlers, decode=Verification(None).decode, random=random
    )
    return processor, InHand(Prefetch(slots=8), {SIGNAL: False})


def _parsed(ids: list[bytes], encoded: bytes) -> Any:
    body = b"".join(
        b"*2\r\n$%d\r\n%s\r\n*2\r\n$1\r\ne\r\n$%d\r\n%s\r\n"
        % (len(each), each, len(encoded), encoded)
        for each in ids
    )
    reader = hiredis.Reader()
    reader.feed(b"*1\r\n*2\r\n$1\r\ns\r\n*%d\r\n" % len(ids) + body)
    return reader.gets()


def _in_and_out(hand: InHand, runs: list[Run]) -> None:
    hand.add(SIGNAL, runs)
    hand.finish(runs)
    hand.release(runs)


def main() -> None:
    """Print all of it."""
    for title, costs in (("sending", sending()), ("handling", handling())):
        sys.stdout.write(f"{title}, µs per envelope\n")
        for step, microseconds in costs:
            sys.stdout.write(f"  {microseconds:7.2f}  {step}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
