"""Entities in each of SQLAlchemy's states: loaded columns, identity, no secret, and no SQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Column,
    DateTime,
    Engine,
    ForeignKey,
    Integer,
    String,
    TypeDecorator,
    create_engine,
    event,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    Session,
    deferred,
    mapped_column,
    relationship,
    scoped_session,
    sessionmaker,
)
from sqlalchemy.pool import StaticPool

from lback_relay.markers import Omitted, Redacted
from lback_relay.projection import Projection
from lback_relay.snapshot import EntitySnapshot


class Base(DeclarativeBase):
    """Of all tables here."""


class EncryptedType(TypeDecorator[str]):
    """As SQLAlchemy-Utils has it."""

    impl = String
    cache_ok = True


class Shop(Base):
    """Has many users, and a key of two parts."""

    __tablename__ = "shops"
    country: Mapped[str] = mapped_column(String, primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)


class User(Base):
    """All that may be in a row."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String)
    password: Mapped[str] = mapped_column(String, nullable=True)
    hidden: Mapped[str] = mapped_column("auth_token", String, nullable=True)
    iban: Mapped[str] = mapped_column(EncryptedType, nullable=True)
    settings: Mapped[Any] = mapped_column(JSON, nullable=True)
    created_at: Mapped[datetime] = mapped_column(DateTime, nullable=True)
    boss_id: Mapped[int] = mapped_column(ForeignKey("users.id"), nullable=True)
    photo = deferred(Column(String))
    boss: Mapped[Any] = relationship("User", remote_side="User.id", backref="staff")
    notes: DynamicMapped[Any] = relationship("Note")

    def __repr__(self) -> str:
        raise AssertionError("repr of an entity reads the database")


class Note(Base):
    """What ``User.notes`` would query."""

    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))


class Ticket(Base):
    """A row whose key is a secret."""

    __tablename__ = "tickets"
    token: Mapped[str] = mapped_column(String, primary_key=True)


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Give a database in memory."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """Give a session with autoflush, as Lback's is."""
    with Session(engine) as session:
        yield session


@pytest.fixture
def statements(engine: Engine) -> list[str]:
    """Give the SQL that was run, which grows."""
    ran: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def _(_: Any, __: Any, statement: str, *___: Any) -> None:
        ran.append(statement)

    return ran


def project(entity: Any, *reveal: str) -> EntitySnapshot:
    """Project one entity as the kwarg ``user``."""
    projected = Projection(reveal=reveal).payload({"user": entity})["user"]
    assert isinstance(projected, EntitySnapshot)
    return projected


def new_user() -> User:
    """Return a transient one with secrets."""
    return User(name="bob", password="planted", hidden="planted", iban="planted", settings={"a": 1})


def test_a_transient_entity_has_no_identity(session: Session) -> None:
    """Only what was set is there."""
    snapshot = project(new_user())
    assert type(snapshot).__name__ == "User"
    assert snapshot.relay_type == f"{__name__}.User"
    assert snapshot.name == "bob"
    assert snapshot.settings == {"a": 1}
    assert snapshot.relay_identity is None
    assert "id" not in snapshot.relay_values
    pending = new_user()
    session.add(pending)
    assert project(pending).relay_identity is None


def test_secret_columns_are_redacted_under_each_of_their_names() -> None:
    """By attribute, by column, and by a type that hides the value in the database."""
    snapshot = project(new_user())
    for name in ("password", "hidden", "iban"):
        assert snapshot.relay_values[name] == Redacted(f"user.{name}")
    assert project(new_user(), "user.hidden").hidden == "planted"


def test_a_persistent_entity_is_read_without_sql(session: Session, statements: list[str]) -> None:
    """Dirty attributes as they are in memory, nothing flushed."""
    user = new_user()
    session.add(user)
    session.flush()
    session.refresh(user)
    user.name = "alice"
    statements.clear()
    snapshot = project(user)
    assert statements == []
    assert session.dirty
    assert snapshot.name == "alice"
    assert snapshot.id == 1
    assert snapshot.identity == (1,)
    assert {"boss", "notes", "photo", "staff"}.isdisjoint(snapshot.relay_values)


def test_a_loaded_relationship_is_not_relayed(session: Session) -> None:
    """It would drag half the database along."""
    user = new_user()
    user.boss = new_user()
    session.add(user)
    session.flush()
    assert "boss" not in project(user).relay_values
    assert project(user).boss_id == 1


@pytest.mark.parametrize("state", ["expired", "committed", "detached", "deleted"])
def test_an_unloaded_entity_has_its_identity_only(
    session: Session, statements: list[str], state: str
) -> None:
    """An attribute would cost a query, or raise for a detached one."""
    user = new_user()
    session.add(user)
    session.commit()
    if state == "expired":
        session.refresh(user)
        session.expire(user)
    elif state == "detached":
        session.expunge(user)
    elif state == "deleted":
        session.delete(user)
        session.commit()
    statements.clear()
    snapshot = project([user][0])
    assert statements == []
    assert snapshot.relay_identity == (1,)
    if state != "deleted":
        assert snapshot.relay_values == {}
        with pytest.raises(AttributeError, match="load the row in the handler"):
            _ = snapshot.name


def test_partly_expired_entities_keep_what_is_loaded(
    session: Session, statements: list[str]
) -> None:
    """What was set after the commit is in memory."""
    user = new_user()
    session.add(user)
    session.commit()
    user.name = "new"
    statements.clear()
    assert project(user).relay_values == {"name": "new"}
    assert statements == []


def test_keys_of_several_columns(session: Session) -> None:
    """In the order of the primary key."""
    shop = Shop(country="de", number=7)
    session.add(shop)
    session.flush()
    assert project(shop).relay_identity == ("de", 7)


def test_a_secret_key_is_not_told(session: Session) -> None:
    """Unless it is revealed."""
    ticket = Ticket(token="planted")
    session.add(ticket)
    session.flush()
    assert project(ticket).relay_identity is None
    assert project(ticket, "user.token").relay_identity == ("planted",)


def test_an_expression_as_a_value_is_omitted(session: Session) -> None:
    """``user.boss_id = User.id + 1`` is SQL until the flush."""
    user = new_user()
    user.boss_id = User.id + 1
    projected = project(user).relay_values["boss_id"]
    assert isinstance(projected, Omitted)
    assert "sender's database connection" in projected.relay_explanation


def test_an_entity_without_state_is_empty() -> None:
    """As unpickling or __new__ may leave one."""
    assert project(User.__new__(User)).relay_values == {}


def test_entities_in_collections(session: Session, statements: list[str]) -> None:
    """In sets they come as a list, since snapshots hash badly."""
    users = [new_user(), new_user()]
    session.add_all(users)
    session.flush()
    statements.clear()
    payload = Projection().payload({"instance": users, "all": set(users), "some": frozenset(users)})
    assert [user.id for user in payload["instance"]] == [1, 2]
    assert sorted(user.id for user in payload["all"]) == [1, 2]
    assert type(payload["some"]) is tuple
    assert statements == []


def test_cycles_through_an_entity_end() -> None:
    """A JSON column may hold anything before the flush."""
    user = new_user()
    user.settings = {"me": user}
    marker = project(user).settings["me"]
    assert isinstance(marker, Omitted)
    assert marker.relay_path == "user.settings.me"


def test_sessions_and_queries_are_omitted(
    engine: Engine, session: Session, statements: list[str]
) -> None:
    """Each with what to do instead; nothing is asked of them."""
    user = new_user()
    session.add(user)
    session.flush()
    statements.clear()
    scoped = scoped_session(sessionmaker(bind=engine))
    live = {
        "session": session,
        "scoped": scoped,
        "engine": engine,
        "connection": session.connection(),
        "notes": user.notes,
        "query": session.query(User),
    }
    payload = Projection().payload(live)
    assert statements == []
    assert all(isinstance(value, Omitted) for value in payload.values())
    for name in ("session", "scoped"):
        assert "worker_session()" in payload[name].relay_explanation
    for name in ("engine", "connection", "notes", "query"):
        assert "sender's database connection" in payload[name].relay_explanation


def test_lbacks_web_sessions_hide_their_key(session: Session) -> None:
    """Their primary key is the cookie."""

    class WebSession(Base):
        __tablename__ = "sessions"
        id: Mapped[str] = mapped_column(String, primary_key=True)
        data: Mapped[str] = mapped_column(String)

    WebSession.__module__, WebSession.__qualname__ = "lback.models.session", "Session"
    row = WebSession(id="planted", data="planted")
    assert "planted" not in repr(project(row))
