"""Faults of sending processes: forks and storms of threads."""

from __future__ import annotations

import pytest
from faults.support.scene import Scene

pytestmark = [pytest.mark.broker, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

CHILDREN, THREADS, COUNT = 4, 16, 50


@pytest.mark.faults_quick
@pytest.mark.row(26, "fork after the client exists; thread storms")
@pytest.mark.parametrize("publishing", ["sync", "background"])
def test_forks_and_threads_share_no_socket(scene: Scene, publishing: str) -> None:
    """Each process has a connection of its own; each thread's envelopes arrive once, in order."""
    scene.serve(witness=True)
    sender = scene.python(
        "faults.support.forking",
        *(scene.server.url, str(CHILDREN), str(THREADS), str(COUNT)),
        name="forking",
        FAULTS_PUBLISHING=publishing,
        PYTHONWARNINGS="ignore::DeprecationWarning",  # Python's own, about any fork
    )
    assert sender.wait(120) == 0, sender.tail()
    assert not sender.said("(?i)error|protocol|traceback|warning")
    arrived: dict[str, list[str]] = {}
    for key in scene.shelf.stream_keys():
        assert key is not None
        arrived.setdefault(key.rpartition("-")[0], []).append(key)
    assert len(arrived) == 1 + (CHILDREN + 1) * THREADS
    for name, keys in arrived.items():
        assert keys == [f"{name}-{number}" for number in range(10 if "before" in name else COUNT)]
    scene.worker()
    scene.wait_settled()
    scene.take_account(duplicates=0, stream=True)
