"""What starts worker processes for the tests of the command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.worker_processes import Workers


@pytest.fixture
def workers(tmp_path: Path, redis_url: str, namespace: str) -> Iterator[Workers]:
    """Yield what starts workers in this test's folder; they end with the test."""
    with ExitStack() as stack:
        yield Workers(tmp_path, redis_url, namespace, stack)
