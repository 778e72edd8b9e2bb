"""Processes that are killed around their commit: the stream holds the committed set, once each."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine
from support.databases import database_url, postgres_base
from support.outboxes import committed, engine, expire_claims, in_stream, rows, sweep_of

__all__ = ["database_url", "engine", "postgres_base"]

ROOT = Path(__file__).parents[2]
SEED = int(os.environ.get("OUTBOX_SEED", "20"))
KILLS = int(os.environ.get("OUTBOX_KILLS", "10"))


@contextmanager
def child(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the application's process; kill it at the end, if nothing else has."""
    with subprocess.Popen(
        [sys.executable, "-m", "support.outbox_child", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
            process.wait(30)


def event_of(process: subprocess.Popen[str]) -> str:
    """Wait for what the process says next."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def sweep(engine: Engine, redis_url: str, namespace: str) -> int:
    """Sweep as another process would once all claims have run out."""
    expire_claims(engine)
    sweep = sweep_of(redis_url, namespace)
    published = sweep.sweep(engine).published
    sweep.close()
    return published


def test_killed_before_the_commit_nothing_is_published(
    engine: Engine, database_url: str, redis_url: str, namespace: str
) -> None:
    """The row was never there."""
    with child(database_url, redis_url, namespace, "before") as process:
        assert event_of(process) == "ready"
        process.kill()
        process.wait(30)
        assert sweep(engine, redis_url, namespace) == 0
    assert in_stream(redis_url, namespace) == committed(engine) == []


def test_killed_after_the_commit_it_is_published(
    engine: Engine, database_url: str, redis_url: str, namespace: str
) -> None:
    """The row is there, and whoever sweeps next publishes it."""
    with child(database_url, redis_url, namespace, "after") as process:
        assert event_of(process) == "ready"
        process.kill()
        process.wait(30)
    assert in_stream(redis_url, namespace) == []
    assert sweep(engine, redis_url, namespace) == 1
    assert in_stream(redis_url, namespace) == committed(engine)
    assert rows(engine) == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_at_random_moments_the_stream_is_the_committed_set(
    engine: Engine, database_url: str, redis_url: str, namespace: str
) -> None:
    """Again and again, while it publishes; OUTBOX_SEED and OUTBOX_KILLS repeat or prolong it."""
    moments = random.Random(SEED)
    left = []
    for _ in range(KILLS):
        with child(database_url, redis_url, namespace, "busy") as process:
            assert event_of(process) == "working"
            time.sleep(moments.uniform(0, 0.3))  # the moment of the kill, not a wait
            os.kill(process.pid, signal.SIGKILL)
            process.wait(30)
        left.append(rows(engine))
    swept = sweep(engine, redis_url, namespace)
    published, stored = in_stream(redis_url, namespace), committed(engine)
    print(f"seed {SEED}: {len(stored)} committed in {KILLS} lives, rows left {left}, {swept} swept")  # noqa: T201
    assert len(published) == len(set(published)), "doubled"
    assert set(published) == set(stored)
    assert len(stored) > KILLS
    assert rows(engine) == 0
