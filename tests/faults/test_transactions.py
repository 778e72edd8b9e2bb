"""Faults around a commit, on SQLite and PostgreSQL: rollbacks, kills, and two sweepers."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from faults.support.ledger import PUBLISHED
from faults.support.names import NAMESPACE, SIGNAL
from faults.support.processes import Process
from faults.support.proxy import publishing_calls
from faults.support.scene import Scene
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool
from support.databases import database_url, postgres_base
from support.waiting import wait_until

__all__ = ["database_url", "postgres_base"]

pytestmark = [pytest.mark.broker, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(300)]

KILLS = 6


@pytest.mark.faults_quick
@pytest.mark.row(24, "rollback; crash before or after commit")
def test_only_what_was_committed_is_sent(scene: Scene, database_url: str) -> None:
    """Rolled back or never committed: not sent, and a kill at any moment changes nothing of that.

    What was committed an instant before a kill may be missing: that takes an outbox.
    """
    scene.serve(witness=True)
    whole = committing(scene, database_url, "whole", 300, "on_commit", ledger=scene.ledger.path)
    assert whole.wait() == 0, whole.tail()
    for number in range(KILLS):
        commit_until_killed(scene, database_url, f"killed{number}", "on_commit")
    committed = set(select(database_url, "SELECT key FROM items"))
    sent = scene.shelf.stream_keys()
    assert {key for key in committed if key.startswith("whole")} <= set(sent)
    assert set(sent) <= committed
    assert any(str(key).startswith("killed") for key in sent)
    scene.worker()
    scene.wait_settled()
    assert {key for key, _ in scene.ledger.finished()} == set(sent)
    scene.take_account(duplicates=0, stream=True)


OUTBOX_KILLS = 50


@pytest.mark.row(24, "rollback; crash before or after commit")
def test_what_was_committed_is_sent_whenever_the_sender_is_killed(
    scene: Scene, database_url: str
) -> None:
    """With an outbox the handled set is the committed set, kill -9 at any moment or not."""
    scene.serve(witness=True)
    whole = committing(scene, database_url, "whole", 300, "outbox", ledger=scene.ledger.path)
    assert whole.wait() == 0, whole.tail()
    for number in range(OUTBOX_KILLS):
        commit_until_killed(scene, database_url, f"killed{number}", "outbox")
    killed_at = time.monotonic()
    sweeper = outbox_sweeper(scene, database_url, "sweeper")
    wait_until(lambda: not select(database_url, LEFT), 60, "the outbox's end")
    swept_at = time.monotonic()
    committed = note_committed(scene, database_url)
    assert not sweeper.ended
    scene.worker()
    scene.wait_settled()
    assert sorted(map(str, scene.shelf.stream_keys())) == sorted(committed)
    assert {key for key, _ in scene.ledger.finished()} == set(committed)
    scene.take_account(duplicates=0, stream=True)
    # A dead process's rows are its own for ten seconds, and are looked for every five.
    scene.recovered(killed_at, swept_at, within_s=10 + 5 + 5)


@pytest.mark.row(25, "two outbox drainers, one killed")
def test_two_outbox_drainers_lose_and_double_nothing(scene: Scene, database_url: str) -> None:
    """They share what is left while the broker comes and goes; one is killed in the middle."""
    scene.serve(witness=True)
    proxy = scene.proxy()
    proxy.black_hole()
    for number in range(3):
        commit_until_killed(
            scene, database_url, f"left{number}", "outbox", url=proxy.url, for_s=1.5
        )
    assert len(select(database_url, LEFT)) > 100
    drainers = [
        outbox_sweeper(scene, database_url, f"drainer{number}", url=proxy.url)
        for number in range(2)
    ]
    # A reply lost now and then: a row is published, and nobody is told.
    proxy.lose_replies(publishing_calls(), every=2)
    proxy.heal()
    wait_until(scene.shelf.stream_keys, 60, "the first published row")
    drainers[scene.random.randrange(2)].kill()
    killed_at = time.monotonic()
    drainers.append(outbox_sweeper(scene, database_url, "another", url=proxy.url))
    wait_until(lambda: proxy.cuts, 60, "a lost reply")
    proxy.lose_none()
    wait_until(lambda: not select(database_url, LEFT), 90, "the outbox's end")
    swept_at = time.monotonic()
    committed = note_committed(scene, database_url)
    scene.worker()
    scene.wait_settled()
    assert sorted(map(str, scene.shelf.stream_keys())) == sorted(committed)
    scene.take_account(duplicates=0, stream=True)
    scene.figures.recovery_s = round(swept_at - killed_at, 2)


LEFT = "SELECT envelope_id FROM lback_relay_outbox"


def committing(
    scene: Scene,
    database: str,
    name: str,
    count: int,
    publish: str,
    *,
    ledger: Path,
    url: str | None = None,
) -> Process:
    """Start a sender with a database."""
    arguments = (database, name, str(count), str(scene.random.random()))
    return scene.python(
        "faults.support.committing",
        *(url or scene.server.url, *arguments),
        name=name,
        FAULTS_LEDGER=str(ledger),
        FAULTS_PUBLISH=publish,
    )


def commit_until_killed(
    scene: Scene,
    database: str,
    name: str,
    publish: str,
    *,
    url: str | None = None,
    for_s: float = 0.3,
) -> None:
    """Let a sender commit, and kill it at a random moment, after ``for_s`` at the latest."""
    ledger = scene.folder / f"{name}.jsonl"
    sender = committing(scene, database, name, 100_000, publish, ledger=ledger, url=url)

    def has_committed() -> bool:
        assert not sender.ended, sender.tail()
        return ledger.exists() and ledger.stat().st_size > 0

    wait_until(has_committed, what=f"the first commit of {name}")
    time.sleep(scene.random.uniform(for_s / 2 if for_s > 1 else 0.0, for_s))
    assert not sender.ended, sender.tail()
    sender.kill()


def outbox_sweeper(scene: Scene, database: str, name: str, *, url: str | None = None) -> Process:
    """Start ``lback-relay outbox --watch``."""
    config = scene.folder / f"{name}.toml"
    config.write_text(f'namespace = "{NAMESPACE}"\n[signals.{SIGNAL}]\npublish = "outbox"\n')
    return scene.python(
        "lback_relay.cli",
        *("outbox", "--watch", "--config", str(config)),
        name=name,
        OUTBOX_DATABASE_URL=database,
        LBACK_RELAY_URL=url or scene.server.url,
    )


def note_committed(scene: Scene, database: str) -> list[str]:
    """Write into the ledger what was committed and is not there yet. Returns all of it."""
    committed = select(database, "SELECT key FROM items")
    for key in set(committed) - set(scene.ledger.published()):
        scene.ledger.note(PUBLISHED, key)
    return committed


def select(database: str, query: str) -> list[str]:
    """Return a column of the senders' database."""
    # SQLite may be locked by them for a while.
    options = {"timeout": 30} if database.startswith("sqlite") else {}
    engine = create_engine(database, poolclass=NullPool, connect_args=options)
    with engine.connect() as connection:
        return list(connection.scalars(text(query)))
