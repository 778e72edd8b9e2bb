"""A sender with a database: ``python -m faults.support.committing URL DATABASE NAME COUNT SEED``.

DATABASE is a URL. In each of COUNT transactions it adds a row and sends a signal with the row's
key; a part of them is rolled back, a part has a savepoint rolled back around the signal. In the
last one it ends without a commit, as if killed. What is committed is in the table; the ledger gets
it after the commit. ``FAULTS_PUBLISH`` is the signal's ``publish``.
"""

from __future__ import annotations

import os
import sys
from random import Random

from faults.support.ledger import PUBLISHED, Ledger
from faults.support.names import NAMESPACE, SIGNAL
from sqlalchemy import Column, MetaData, String, Table, create_engine, insert
from sqlalchemy.orm import Session

from lback_relay.config import RelayConfig, SignalConfig
from lback_relay.outbox import create_table
from lback_relay.relay import Relay

items = Table("items", MetaData(), Column("key", String, primary_key=True))


def main(url: str, database: str, name: str, count: int, seed: str) -> None:
    """Run the transactions."""
    random = Random(seed)
    ledger = Ledger(os.environ["FAULTS_LEDGER"])
    engine = create_engine(database)
    items.metadata.create_all(engine)
    publish = os.environ["FAULTS_PUBLISH"]
    if publish == "outbox":
        create_table(engine)
    signals = {SIGNAL: SignalConfig(name=SIGNAL, publish=publish)}
    relay = Relay(RelayConfig(signals=signals, url=url, namespace=NAMESPACE))

    def add(session: Session, key: str) -> None:
        session.execute(insert(items).values(key=key))
        assert relay.relay(SIGNAL, "sender", {"item": key, "session": session})

    for number in range(count):
        key = f"{name}-{number}"
        with Session(engine) as session:
            ending = random.choice(["commit", "rollback", "savepoint"])
            if ending == "savepoint":
                savepoint = session.begin_nested()
                add(session, f"{key}-undone")
                savepoint.rollback()
            add(session, key)
            if ending == "rollback":
                session.rollback()
            else:
                session.commit()
                ledger.note(PUBLISHED, key)
    assert relay.flush(30)
    session = Session(engine)
    add(session, f"{name}-crashed")
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
