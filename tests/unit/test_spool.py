"""The spool's file: what is written, read, removed, and refused. Real files of SQLite."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lback_relay.config import RelayConfig
from lback_relay.errors import SpoolDamaged, SpoolError
from lback_relay.spool import Spool
from lback_relay.spool_place import open_spool, spool_folder, spool_path
from lback_relay.spool_rights import check_folder

QUEUE = ("queue",)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a spool may be, in a folder that is not there yet."""
    return tmp_path / "state" / "a.spool"


@pytest.fixture
def spool(path: Path) -> Iterator[Spool]:
    """A spool in an empty folder."""
    made = Spool(path)
    yield made
    made.close()


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were forced to the disk, but for what SQLite does."""
    names: list[str] = []
    monkeypatch.setattr(
        "lback_relay.spool.os.fsync",
        lambda file: names.append(Path(f"/proc/self/fd/{file}").readlink().name),
    )
    return names


def filled(spool: Spool, count: int, *, first: int = 1, producer: str = "p") -> list[bytes]:
    """Write so many envelopes of one signal, and return them."""
    encoded = [f"{producer} {number}".encode() for number in range(first, first + count)]
    spool.append("s", producer, first, QUEUE, encoded)
    return encoded


def read(
    spool: Spool, *, producer: str = "p", after: int = -1, max_count: int = 512
) -> list[bytes]:
    """Return the next batch's envelopes."""
    batch = spool.batch("s", producer, after=after, max_count=max_count, max_bytes=2**20)
    return [] if batch is None else batch.encoded


def test_nothing_is_there_before_the_first_write(spool: Spool, path: Path) -> None:
    """Looking makes no file: most processes never need one."""
    assert spool.next_lane() is None
    assert spool.waiting() == []
    assert not path.exists()


def test_what_is_written_is_read_in_order(spool: Spool) -> None:
    """By number, however many there are."""
    written = filled(spool, 700)
    assert read(spool, max_count=1000) == written
    assert read(spool, max_count=10) == written[:10]
    assert read(spool, after=690) == written[690:]


def test_another_process_reads_it(spool: Spool, path: Path) -> None:
    """The file is all that is shared."""
    written = filled(spool, 3)
    other = Spool(path)
    assert read(other) == written
    other.close()


def test_writing_twice_changes_nothing(spool: Spool) -> None:
    """A write that may have failed can be repeated."""
    written = filled(spool, 5)
    assert filled(spool, 5) == written
    assert read(spool) == written


def test_what_is_removed_is_gone_and_the_rest_stays(spool: Spool) -> None:
    """Up to a number, of one producer."""
    written = filled(spool, 5)
    others = filled(spool, 2, producer="q")
    spool.remove("s", "p", 3)
    assert read(spool) == written[3:]
    assert read(spool, producer="q") == others


def test_lanes_follow_each_other(spool: Spool) -> None:
    """Each signal and producer once, in order."""
    filled(spool, 2, producer="b")
    filled(spool, 2, producer="a")
    spool.append("other", "a", 1, QUEUE, [b"x"])
    found = []
    lane = spool.next_lane()
    while lane is not None:
        found.append(lane)
        lane = spool.next_lane(lane)
    assert found == [("other", "a"), ("s", "a"), ("s", "b")]


def test_a_batch_ends_at_a_gap_a_change_of_delivery_and_its_size(spool: Spool) -> None:
    """One call publishes consecutive numbers, delivered alike, and not too much at once."""
    filled(spool, 2)
    filled(spool, 2, first=7)
    spool.append("s", "p", 9, ("broadcast", "queue"), [b"y" * 600_000, b"z" * 600_000])
    batches = []
    after = -1
    while batch := spool.batch("s", "p", after=after, max_count=512, max_bytes=2**20):
        batches.append((batch.first_sequence, batch.delivery, len(batch.encoded), batch.whole))
        after = batch.last_sequence
    assert batches == [
        (1, QUEUE, 2, False),
        (7, QUEUE, 2, False),
        (9, ("broadcast", "queue"), 1, False),
        (10, ("broadcast", "queue"), 1, True),
    ]


def test_an_envelope_larger_than_a_batch_goes_alone(spool: Spool) -> None:
    """Or it would never go."""
    spool.append("s", "p", 1, QUEUE, [b"x" * 2_000_000])
    assert [len(each) for each in read(spool)] == [2_000_000]


def test_what_waits_is_counted_by_signal(spool: Spool) -> None:
    """With its size and the age of the oldest."""
    filled(spool, 3)
    spool.append("other", "p", 1, QUEUE, [b"12345"])
    found = spool.waiting()
    assert [(each.signal, each.envelopes, each.encoded_bytes) for each in found] == [
        ("other", 1, 5),
        ("s", 3, 9),
    ]
    assert all(0 <= each.oldest_s < 3600 for each in found)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other rights")
def test_only_the_user_may_read(spool: Spool, path: Path) -> None:
    """Payloads are other people's data; the log and the index of SQLite hold them, too."""
    before = os.umask(0)
    try:
        filled(spool, 1)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    files = list(path.parent.iterdir())
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other rights")
def test_a_folder_that_others_write_to_is_refused(spool: Spool, path: Path) -> None:
    """They could put their own envelopes there."""
    path.parent.mkdir()
    path.parent.chmod(0o770)
    with pytest.raises(SpoolError, match=r"others may write .* chmod 700"):
        filled(spool, 1)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other rights")
@pytest.mark.parametrize(("mode", "uid"), [(0o1777, None), (0o777, 4711)])
def test_a_folder_of_many_is_not_to_be_closed(
    path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, uid: int | None
) -> None:
    """As /tmp, which everybody needs, or another user's: the remedy is a folder of its own."""
    path.parent.mkdir()
    path.parent.chmod(mode)
    if uid is not None:
        monkeypatch.setattr("lback_relay.spool_rights.os.geteuid", lambda: uid)
    with pytest.raises(SpoolError, match="others may write ") as refused:
        check_folder(path.parent)
    assert "chmod" not in str(refused.value)
    assert f"such as {path.parent}/lback-relay" in str(refused.value)


def test_a_folder_is_checked_before_it_is_made(tmp_path: Path) -> None:
    """What will not do is said, and nothing is made."""
    check_folder(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(SpoolError, match=r"can't be made or used \(Not a directory\)"):
            check_folder(folder)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_place_without_the_right_to_write_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the folder is there or not. The tests may run as root, who may do everything."""
    monkeypatch.setattr("lback_relay.spool_rights.os.access", lambda *_: False)
    with pytest.raises(SpoolError, match=f"can't be made in {tmp_path}, .* set spool_dir"):
        check_folder(tmp_path / "a" / "b")
    with pytest.raises(SpoolError, match=f"folder {tmp_path} can't be written to; set spool_dir"):
        check_folder(tmp_path)


def test_a_folder_that_may_not_be_entered_is_an_error_of_the_spool(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads it is told as of any other file that can't be read."""

    def denied(_path: Path) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "exists", denied)
    with pytest.raises(SpoolError, match=r"can't be used .*Permission denied"):
        spool.waiting()


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    """With the setting that helps."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match=r"file/deeper can't be made .* set spool_dir"):
        filled(Spool(tmp_path / "file" / "deeper" / "a.spool"), 1)


def test_a_full_spool_refuses_and_keeps_what_it_has(path: Path) -> None:
    """All or nothing of a write; after room was made it writes again."""
    spool = Spool(path, max_bytes=200_000)
    written = 0

    def fill() -> None:
        nonlocal written
        for _ in range(1000):
            spool.append("s", "p", written + 1, QUEUE, [b"x" * 1000] * 10)
            written += 10

    with pytest.raises(SpoolError, match=r"is full, .* raise max_spool_bytes"):
        fill()
    assert written >= 20
    assert len(read(spool)) == written
    spool.remove("s", "p", written)
    spool.append("s", "p", written + 1, QUEUE, [b"x" * 1000] * 10)
    assert len(read(spool)) == 10
    spool.close()


def test_the_file_shrinks_when_it_is_empty(path: Path) -> None:
    """The disk is not ours."""
    spool = Spool(path)
    spool.append("s", "p", 1, QUEUE, [b"x" * 10_000] * 100)
    spool.remove("s", "p", 100)
    spool.shrink()
    assert path.stat().st_size < 100_000
    spool.close()


def test_what_is_no_spool_is_refused(path: Path) -> None:
    """By name, and nothing in it is touched."""
    path.parent.mkdir(mode=0o700)
    path.write_bytes(b"something else entirely" * 400)
    spool = Spool(path)
    with pytest.raises(SpoolDamaged, match=r"a\.spool is damaged"):
        filled(spool, 1)
    with pytest.raises(SpoolDamaged):
        spool.next_lane()
    assert path.read_bytes().startswith(b"something else")


def test_a_torn_end_of_the_log_costs_the_last_write_alone(path: Path, tmp_path: Path) -> None:
    """A power failure in the middle of a write; every earlier one is there."""
    spool = Spool(path)
    for number in range(1, 21):
        filled(spool, 1, first=number)
    copy = tmp_path / "copy"
    copy.mkdir(mode=0o700)
    (copy / "a.spool").write_bytes(path.read_bytes())
    log = path.with_name("a.spool-wal").read_bytes()
    (copy / "a.spool-wal").write_bytes(log[:-2000])
    spool.close()
    torn = Spool(copy / "a.spool")
    assert read(torn) == [f"p {number}".encode() for number in range(1, 20)]
    filled(torn, 1, first=20)
    assert len(read(torn)) == 20
    torn.close()


@pytest.mark.parametrize(("durable", "level"), [(True, 2), (False, 1)])
def test_only_a_durable_spool_waits_for_the_disk(path: Path, durable: bool, level: int) -> None:
    """SQLite's levels: 2 forces each transaction to the disk, 1 only before the log begins anew."""
    spool = Spool(path, durable=durable)
    filled(spool, 1)
    with spool._open() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
    spool.close()


def test_what_was_not_waited_for_is_forced_to_the_disk_once(path: Path, forced: list[str]) -> None:
    """When that is asked for, and when the file is closed."""
    spool = Spool(path, durable=False)
    filled(spool, 3)
    assert forced == []
    spool.force()
    assert forced == ["a.spool-wal"]
    spool.force()
    assert forced == ["a.spool-wal"]
    filled(spool, 3, first=4)
    spool.close()
    assert forced == ["a.spool-wal"] * 2


def test_a_durable_spool_has_nothing_to_force(path: Path, forced: list[str]) -> None:
    """SQLite has done it."""
    spool = Spool(path)
    filled(spool, 3)
    spool.force()
    spool.close()
    assert forced == []


def test_a_disk_that_refuses_is_asked_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And named; what was written stays readable."""
    spool = Spool(path, durable=False)
    filled(spool, 3)

    def broken(_file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("lback_relay.spool.os.fsync", broken)
        for _ in range(2):
            with pytest.raises(SpoolError, match=r"a\.spool can't be used .*Input/output error"):
                spool.force()
    spool.force()
    assert len(read(spool)) == 3
    spool.close()


def test_a_file_of_another_version_is_refused(path: Path) -> None:
    """It is drained by the version that wrote it."""
    spool = Spool(path)
    filled(spool, 1)
    spool.close()
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('PRAGMA user_version = 9')"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    with pytest.raises(SpoolError, match=r"another version .*format 9"):
        filled(spool, 1)


def test_many_processes_write_at_once(path: Path) -> None:
    """The first ones make the file together; nothing is lost or doubled."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from lback_relay.spool import Spool\n"
        "spool = Spool(Path(sys.argv[1]), durable=False, timeout_s=60)\n"
        "for number in range(50):\n"
        "    spool.append('s', sys.argv[2], number, ('queue',), [b'x'])\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(path), f"p{index}"]) for index in range(4)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0] * 4
    spool = Spool(path)
    (found,) = spool.waiting()
    spool.close()
    assert found.envelopes == 200


def config(**options: object) -> RelayConfig:
    """Return a config with these options."""
    return RelayConfig.from_mapping(options, environ={})


def test_each_broker_has_a_file_of_its_own(tmp_path: Path) -> None:
    """Signals of one project must not reach another one's broker; a login changes nothing."""
    urls = ["redis://h/0", "redis://h/1", "redis://h:7/0", "redis://[::1]", "redis://h/0?db=2"]
    urls += ["unix:///h", "unix:///h?db=1", "unix:///h?db=2"]
    paths = [spool_path(tmp_path, config(url=url)) for url in urls]
    assert len(set(paths)) == len(urls)
    for same in (
        "redis://:secret@h/0",
        "redis://other:se%40cret@h/0",
        "redis://h/0?health_check_interval=1",
        "redis://h",
        "redis://H:6379",
        "redis://h:6379/1?db=0",
    ):
        assert spool_path(tmp_path, config(url=same)) == paths[0]
    assert spool_path(tmp_path, config(url="unix://:secret@/h?db=0")) == paths[5]
    assert spool_path(tmp_path, config(url="redis://h/0", namespace="x")) != paths[0]


def test_the_folder_is_where_the_config_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default where the user's programs keep their state."""
    assert spool_folder(config(spool_dir=str(tmp_path))) == tmp_path
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert spool_folder(config()) == tmp_path / "state" / "lback-relay"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert spool_folder(config()) == Path("/home/somebody/.local/state/lback-relay")


def test_there_is_none_where_none_is_wanted() -> None:
    """Switched off, or with a broker that ends with the process."""
    assert open_spool(config(spool_dir="off")) is None
    assert open_spool(config(url="memory://")) is None
    assert open_spool(config(url="embedded://")) is None
    assert open_spool(config()) is not None


def test_a_relative_folder_is_refused() -> None:
    """Programs start in different folders."""
    with pytest.raises(ValueError, match="spool_dir: must be a folder's absolute path"):
        config(spool_dir="spool")
    with pytest.raises(ValueError, match="spool_dir: must be text"):
        config(spool_dir=3)
