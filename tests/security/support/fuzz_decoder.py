"""A program that throws inputs at the decoder: ``fuzz_decoder.py CORPUS RUNS [atheris|own]``.

With atheris the inputs follow the branches of the package that they reach; ``own`` only damages
those of the corpus, where atheris can't be installed. Anything but EnvelopeError ends it, and so
does an input of more than 50 ms of processor time in each of several attempts.
"""

from __future__ import annotations

import importlib
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from random import Random
from typing import Any, Final

_HEAD: Final = b"LR\x01\x00"
_MAX_S: Final = 0.05
_ATTEMPTS: Final = 10
_MAX_BYTES: Final = 16_384
_MAX_GUIDED_BYTES: Final = 512  # its inputs only grow, and a million long ones take an hour


def main() -> None:
    """Run as told by the arguments."""
    corpus, runs, kind = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    atheris: Any = importlib.import_module("atheris") if kind == "atheris" else None
    with atheris.instrument_imports(include=["lback_relay"]) if atheris else nullcontext():
        codec = importlib.import_module("lback_relay.codec")
        errors = importlib.import_module("lback_relay.errors")

    def attempt(encoded: bytes) -> float:
        started = time.thread_time()
        try:
            envelope = codec.decode(encoded)
        except errors.EnvelopeError:
            return time.thread_time() - started
        taken = time.thread_time() - started
        codec.decode(codec.encode(envelope, max_bytes=1 << 24))  # what was taken can be sent on
        return taken

    def try_one(data: bytes) -> None:
        encoded = data if data[:2] == _HEAD[:2] else _HEAD + data
        if attempt(encoded) > _MAX_S:
            best = min(attempt(encoded) for _ in range(_ATTEMPTS))
            assert best <= _MAX_S, f"{best:.3f} s for {len(encoded)} bytes"

    if atheris:
        options = [
            f"-runs={runs}",
            f"-max_len={_MAX_GUIDED_BYTES}",
            "-seed=1",
            "-rss_limit_mb=1024",
        ]
        atheris.Setup([sys.argv[0], *options, "-print_final_stats=1", str(corpus)], try_one)
        atheris.Fuzz()
    else:
        seeds = [path.read_bytes() for path in sorted(corpus.iterdir())]
        random = Random(1)
        for _ in range(runs):
            try_one(_damaged(random, seeds))
        sys.stderr.write(f"stat::number_of_executed_units: {runs}\n")


def _damaged(random: Random, seeds: list[bytes]) -> bytes:
    data = bytearray(random.choice(seeds))
    for _ in range(random.randint(1, 6)):
        at = random.randrange(len(data) + 1)
        change = random.randrange(5)
        if change == 0:
            data[at : at + 1] = bytes([random.randrange(256)])
        elif change == 1:
            del data[at : at + random.randint(1, 8)]
        elif change == 2:
            data[at:at] = random.randbytes(random.randint(1, 8))
        elif change == 3:  # a part of another one, or of itself, again and again
            other = random.choice([*seeds, bytes(data)])
            start = random.randrange(len(other) + 1)
            part = other[start : start + random.randint(1, 40)]
            data[at:at] = part * random.choice([1, 1, 1, 2, 50])
        else:
            data[at : at + 1] = random.choice(
                [b"\x90", b"\x80", b"\xc7", b"\xdd", b"\xdf", b"\xc9"]
            )
    return bytes(data[:_MAX_BYTES])


if __name__ == "__main__":
    main()
