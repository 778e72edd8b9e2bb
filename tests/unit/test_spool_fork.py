"""A process that forks while its spool is open. Each test runs in a process of its own.

SQLite's memory of its locks must not reach a child: lback_relay/held_connection.py says why.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from lback_relay.spool import Spool

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

_HEAD = """
import os, sys, threading
from pathlib import Path
from lback_relay import held_connection
from lback_relay.drain_lock import DrainLock
from lback_relay.spool import Spool

path = Path(sys.argv[1])

def append(spool, producer, first, count=1):
    spool.append("s", producer, first, ("queue",), [b"x"] * count)

def fork(child, parent=lambda: None):
    '''Run one function in a child, the other here before it; see that the child ends well.'''
    behind, ahead = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.read(behind, 1)
            child()
        except BaseException as error:
            print("in the child:", repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    parent()
    os.write(ahead, b"x")
    assert os.waitpid(pid, 0)[1] == 0
"""


def run(path: Path, code: str) -> None:
    """Run code in a new process, where no thread but its own can be in the way of a fork."""
    done = subprocess.run(
        [sys.executable, "-c", _HEAD + textwrap.dedent(code), str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def spooled(path: Path) -> int:
    """Return how many envelopes another process finds in the spool."""
    spool = Spool(path)
    waiting = spool.waiting()
    spool.close()
    return sum(each.envelopes for each in waiting)


def test_what_a_child_spools_outlives_its_parent(tmp_path: Path) -> None:
    """SQLite would believe that nobody else has it, and take the log with the child's rows away."""
    path = tmp_path / "a.spool"
    run(
        path,
        """
        spool = Spool(path)
        append(spool, "parent", 1, 3)
        own = Spool(path)

        behind, ahead = os.pipe()
        back, forth = os.pipe()
        pid = os.fork()
        if pid == 0:
            append(own, "child", 1)
            os.write(forth, b"x")
            os.read(behind, 1)
            append(own, "child", 2, 5)
            os._exit(0)
        os.read(back, 1)
        spool.close()
        os.write(ahead, b"x")
        assert os.waitpid(pid, 0)[1] == 0
        """,
    )
    assert spooled(path) == 3 + 1 + 5


def test_a_fork_in_the_middle_of_a_write_waits_for_its_end(tmp_path: Path) -> None:
    """The child would wait for ever for the lock of a write that it seems to be in itself."""
    path = tmp_path / "a.spool"
    run(
        path,
        """
        from lback_relay.spool import _transaction
        spool = Spool(path)
        append(spool, "parent", 1)
        inside = threading.Event()

        def write():
            with spool._open(write=True) as connection, _transaction(connection):
                connection.execute("DELETE FROM envelopes")
                inside.set()
                threading.Event().wait(0.3)

        writer = threading.Thread(target=write)
        writer.start()
        inside.wait()
        fork(lambda: append(Spool(path, timeout_s=0.1), "child", 1), writer.join)
        append(spool, "parent", 2)
        """,
    )
    assert spooled(path) == 2


def test_a_fork_does_not_wait_for_ever(tmp_path: Path) -> None:
    """Whoever never ends working on the spool does not keep the process from forking."""
    run(
        tmp_path / "a.spool",
        """
        held_connection.FORK_WAITS_S = 0.05
        spool = Spool(path)
        append(spool, "parent", 1)
        inside, end = threading.Event(), threading.Event()

        def hang():
            with spool._open():
                inside.set()
                end.wait()

        threading.Thread(target=hang).start()
        inside.wait()
        fork(lambda: None)
        end.set()
        append(spool, "parent", 2)
        """,
    )


def test_the_lock_of_the_drain_is_free_for_a_child_once_it_is_free(tmp_path: Path) -> None:
    """And whoever had it takes it again."""
    run(
        tmp_path / "a.spool",
        """
        lock = DrainLock(path)
        assert lock.take()

        def child():
            own = DrainLock(path)
            assert own.take()
            own.release()

        def again():
            assert lock.held
            assert lock.take()
            lock.release()
            assert not lock.held

        fork(child, again)
        assert lock.take()
        """,
    )


def test_children_of_children_have_it_as_well(tmp_path: Path) -> None:
    """Each forks with what it has opened itself."""
    path = tmp_path / "a.spool"
    run(
        path,
        """
        spool = Spool(path)
        append(spool, "parent", 1)

        def child():
            append(spool, "child", 1)
            fork(lambda: append(spool, "grandchild", 1), spool.close)
            append(spool, "child", 2)

        fork(child, spool.close)
        """,
    )
    assert spooled(path) == 4
