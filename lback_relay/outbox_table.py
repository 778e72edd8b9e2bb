"""The outbox's table and every statement on it. SQLAlchemy is imported when first needed.

A row is one envelope of an application's transaction::

    (nothing) -INSERT, in the application's transaction-> there, not yet to be seen
      rolled back -> (nothing)
      committed   -> waiting, claimed by the process that wrote it
    waiting -claim-> claimed until an instant -published-> deleted
      the claim ran out (its process is gone, or slow) -> waiting, for whoever claims it next

``number`` gives the order, ``envelope_id`` says which row is meant: a database may give a number
again. Instants are Unix milliseconds of the database's own clock (``_ms``): several processes
compare them, and their clocks differ. Knows no broker and no thread.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from lback_relay.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Engine, MetaData, Table

TABLE_NAME: Final = "lback_relay_outbox"

_NOW_MS: Final = {
    "postgresql": "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
}


class Row(NamedTuple):
    """A claimed row: the envelope's id, its signal's name, and its bytes."""

    envelope_id: str
    signal: str
    encoded: bytes


class Waiting(NamedTuple):
    """Rows of one signal: how many, how many of them are claimed, age of the oldest in seconds."""

    signal: str
    rows: int
    claimed: int
    oldest_s: float


@cache
def metadata() -> MetaData:
    """Return the metadata that holds the outbox's table alone, for Alembic."""
    from sqlalchemy import (
        BigInteger,
        Column,
        Integer,
        LargeBinary,
        MetaData,
        String,
        Table,
        Text,
    )

    made = MetaData()
    Table(
        TABLE_NAME,
        made,
        # SQLite counts only what is called INTEGER.
        Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("envelope_id", String(36), nullable=False, unique=True),
        Column("signal", Text, nullable=False),
        Column("encoded", LargeBinary, nullable=False),
        Column("written_ms", BigInteger, nullable=False),
        Column("claimed_by", String(32), nullable=False),
        Column("claimed_until_ms", BigInteger, nullable=False),
    )
    return made


def create_table(bind: Engine | Connection) -> None:
    """Create the outbox's table if it is not there.

    Args:
        bind: an Engine; or a Connection, whose transaction the caller commits.
    """
    from sqlalchemy import Engine
    from sqlalchemy.schema import CreateTable

    statement = CreateTable(_table(), if_not_exists=True)
    if isinstance(bind, Engine):
        with bind.begin() as connection:
            connection.execute(statement)
    else:
        bind.execute(statement)


def insert(connection: Connection, row: Row, *, claimed_by: str, lease_s: float) -> None:
    """Write a row into the connection's transaction, claimed by its writer.

    A failure leaves the transaction as it was: PostgreSQL would refuse everything after a failed
    statement, hence the savepoint. SQLite undoes the statement alone; there a savepoint would do
    harm, for sqlite3 may not have begun the transaction yet, and to release a savepoint would then
    commit.

    Raises:
        ConfigError: the database is neither SQLite nor PostgreSQL.
        SQLAlchemyError: as the database says.
    """
    now = _now(connection)
    statement = (
        _table()
        .insert()
        .inline()
        .values(
            **row._asdict(),
            written_ms=now,
            claimed_by=claimed_by,
            claimed_until_ms=now + round(lease_s * 1000),
        )
    )
    if connection.dialect.name == "sqlite":
        connection.execute(statement)
        return
    with connection.begin_nested():
        connection.execute(statement)


def claim(
    connection: Connection,
    claimant: str,
    *,
    lease_s: float,
    count: int,
    without: Collection[str] = (),
) -> list[Row]:
    """Claim up to ``count`` rows, first written first: the claimant's own, and what nobody claims.

    The caller commits. Whoever claims at the same time gets other rows.

    Args:
        connection: in no transaction yet: the statement that writes must be its first, for SQLite
            lets no transaction write that has read what another one changed since.
        claimant: who claims.
        lease_s: for how long.
        count: of rows, at most.
        without: signals to leave out.
    """
    table = _table()
    from sqlalchemy import select

    now = _now(connection)
    wanted = _claimable(now, claimant)
    if without:
        wanted = wanted & table.c.signal.not_in(list(without))
    # Locked rows are another claimant's; SQLite has one writer at a time and needs no such words.
    free = (
        select(table.c.number)
        .where(wanted)
        .order_by(table.c.number)
        .limit(count)
        .with_for_update(skip_locked=True)
    )
    update = (
        table.update()
        .where(table.c.number.in_(free.scalar_subquery()), wanted)
        .values(claimed_by=claimant, claimed_until_ms=now + round(lease_s * 1000))
        .execution_options(synchronize_session=False)
    )
    if connection.execute(update).rowcount == 0:
        return []
    mine = (
        select(table.c.envelope_id, table.c.signal, table.c.encoded)
        .where(table.c.claimed_by == claimant)
        .order_by(table.c.number)
        .limit(count)
    )
    if without:
        mine = mine.where(table.c.signal.not_in(list(without)))
    return [Row(*found) for found in connection.execute(mine)]


def has_claimable(connection: Connection, claimant: str) -> bool:
    """Return whether there is something to claim; unlike a claim this only reads."""
    from sqlalchemy import select

    table = _table()
    wanted = _claimable(_now(connection), claimant)
    return connection.execute(select(table.c.number).where(wanted).limit(1)).first() is not None


def read(connection: Connection, envelope_ids: Sequence[str]) -> list[Row]:
    """Return the rows of these envelopes that are committed, in any order."""
    from sqlalchemy import select

    table = _table()
    statement = select(table.c.envelope_id, table.c.signal, table.c.encoded)
    found = connection.execute(statement.where(table.c.envelope_id.in_(envelope_ids)))
    return [Row(*row) for row in found]


def delete(connection: Connection, envelope_ids: Sequence[str]) -> None:
    """Delete the rows of these envelopes, whoever claims them: the broker has them."""
    table = _table()
    connection.execute(table.delete().where(table.c.envelope_id.in_(envelope_ids)))


def waiting(connection: Connection) -> list[Waiting]:
    """Return what is in the table, by signal."""
    from sqlalchemy import case, func, select

    table = _table()
    now = _now(connection)
    statement = (
        select(
            table.c.signal,
            func.count(),
            func.sum(case((table.c.claimed_until_ms > now, 1), else_=0)),
            now - func.min(table.c.written_ms),
        )
        .group_by(table.c.signal)
        .order_by(table.c.signal)
    )
    return [
        Waiting(signal, count, int(claimed), max(0, age_ms) / 1000)
        for signal, count, claimed, age_ms in connection.execute(statement)
    ]


def _table() -> Table:
    return metadata().tables[TABLE_NAME]


def _claimable(now: ColumnElement[int], claimant: str) -> ColumnElement[bool]:
    from sqlalchemy import or_

    table = _table()
    return or_(table.c.claimed_until_ms <= now, table.c.claimed_by == claimant)


def _now(connection: Connection) -> ColumnElement[int]:
    """Return the database's clock in its own words."""
    from sqlalchemy import BigInteger, literal_column

    name = connection.dialect.name
    if name not in _NOW_MS:
        raise ConfigError(
            [f"the outbox works with SQLite and PostgreSQL, not with {name}; write 'on_commit'"],
            source="the database",
        )
    return literal_column(_NOW_MS[name], BigInteger)
