"""Where secrets are looked for beside the broker: the files, the outputs and the titles of ours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sqlalchemy import create_engine
from support.waiting import wait_until

from lback_relay import outbox_table
from lback_relay.spool import Spool

Sent = Mapping[str, Sequence[bytes]]
"""Signal to the bytes of its envelopes."""


def run(folder: Path, environment: Mapping[str, str], *arguments: str) -> bytes:
    """Return all that a command of ours prints."""
    done = subprocess.run(
        [sys.executable, "-m", "lback_relay.cli", *arguments],
        cwd=folder, env=environment, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def contents(folder: Path) -> bytes:
    """Return what is in all files of a folder, one after the other."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def in_spool(folder: Path, path: Path, sent: Sent) -> bytes:
    """Spool envelopes, and return what the folder's files hold then, logs and all."""
    spool = Spool(path)
    for signal, envelopes in sent.items():
        spool.append(signal, "producer", 1, ("queue",), envelopes)
    found = contents(folder)
    spool.close()
    return found + contents(folder)


def in_outbox(folder: Path, environment: Mapping[str, str], sent: Sent) -> dict[str, bytes]:
    """Write envelopes into an outbox on SQLite; return its file, and what the command prints."""
    url = f"sqlite:///{folder / 'shop.sqlite3'}"
    engine = create_engine(url)
    outbox_table.create_table(engine)
    with engine.begin() as connection:
        for signal, envelopes in sent.items():
            for number, encoded in enumerate(envelopes):
                row = outbox_table.Row(f"{signal[:30]}-{number}", signal, encoded)
                outbox_table.insert(connection, row, claimed_by="nobody", lease_s=0)
    engine.dispose()
    signals = "".join(f"[signals.{signal}]\n" for signal in sent)
    (folder / "relay.toml").write_text(signals)
    outbox = ("outbox", "--config", "relay.toml", "--database", url)
    return {
        "outbox": contents(folder),
        "outbox listed": run(folder, environment, *outbox, "--dry-run"),
        "outbox swept": run(folder, environment, *outbox),
    }


def of_a_supervisor(folder: Path, environment: Mapping[str, str]) -> dict[str, bytes]:
    """Return what workers without a broker print, and the titles of their processes."""
    log = folder / "supervisor.log"
    with log.open("wb") as output:
        started = subprocess.Popen(
            [sys.executable, "-m", "lback_signal_worker", "handlers", "--processes", "2"],
            cwd=folder, env=dict(environment), stdout=output, stderr=output,
        )  # fmt: skip
        titles: dict[int, str] = {}

        def seen() -> bool:
            with suppress(OSError):  # one has just ended
                children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text()
                for pid in (started.pid, *map(int, children.split())):
                    titles[pid] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
            return len(titles) >= 2 and b"does not answer" in log.read_bytes()

        try:
            wait_until(seen, what="a child that finds no broker")
        finally:
            started.terminate()
            started.wait(60)
    return {
        "titles of processes": "\n".join(titles.values()).encode(),
        "log of workers without a broker": log.read_bytes(),
    }
