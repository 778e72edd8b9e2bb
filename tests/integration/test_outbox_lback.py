"""The outbox in a real Lback project, under a server that forks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from support.brokers import raw_client
from support.lback_project import lback_project, served
from support.outboxes import rows
from support.waiting import wait_until

from lback_relay import outbox_table
from lback_relay.broker.keys import Keys
from lback_relay.codec import decode
from lback_relay.demo.registration import register
from lback_relay.envelope import new_envelope_id
from lback_relay.outbox_table import Row

pytestmark = [pytest.mark.lback, pytest.mark.broker, pytest.mark.slow]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("server", ["gunicorn --preload", "waitress"])
def test_registrations_and_leftovers_are_published_once(
    server: str, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """The signal and the mail are rows of the registration's transaction."""
    with lback_project(tmp_path / "shop", redis_url=redis_url, namespace=namespace) as project:
        project.append(
            "settings.py",
            "\nRELAY_SIGNALS = {'user_registered': {'publish': 'outbox'},"
            " 'email_requested': {'publish': 'outbox'}}\nRELAY_EMAIL = True\n",
        )
        made = project.run("from lback_relay.cli import main; main(['outbox', '--create-table'])")
        assert "the outbox is empty" in made
        file = project.folder / "shop.sqlite3"
        engine = create_engine(f"sqlite:///{file}")
        with engine.begin() as connection:
            row = Row(new_envelope_id(), "left_by_others", b"bytes")
            outbox_table.insert(connection, row, claimed_by="gone", lease_s=0)
        with served(project, server) as web:
            done = [register(project.host, f"user{number}") for number in range(4)]
            assert [one.status for one in done] == [201] * 4, web.tail(60)
            wait_until(lambda: rows(engine) == 0, what="an empty outbox")
        with engine.connect() as connection:
            stored = set(connection.scalars(text("SELECT email FROM users")))
        engine.dispose()
    with raw_client(redis_url) as client:

        def stream(signal: str) -> list[bytes]:
            entries: Any = client.xrange(Keys(namespace).events(signal))
            return [fields[b"e"] for _, fields in entries]

        assert stream("left_by_others") == [b"bytes"]
        users = [decode(encoded).payload["user"].email for encoded in stream("user_registered")]
        mails = [decode(encoded).payload["to_email"] for encoded in stream("email_requested")]
        kept = client.keys(f"{namespace}:*:producer:*")
    assert sorted(users) == sorted(mails) == sorted(stored)
    assert len(kept) == 9  # each a producer of its own: none went past the outbox
