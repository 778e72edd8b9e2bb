"""Which session is at hand, on real SQLAlchemy with SQLite, and on Lback's own request."""

from __future__ import annotations

import contextvars
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from lback.core.types import Request
from sqlalchemy import Engine, create_engine, event, select
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

from lback_relay import transaction
from lback_relay.transaction import last_session, session_at_hand, watch_sessions

ROOT = Path(__file__).resolve().parents[2]


class Base(DeclarativeBase):
    """Base of this module's tables."""


class User(Base):
    """An entity."""

    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A database file with the tables."""
    engine = create_engine(f"sqlite:///{tmp_path}/test.db")
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """One open session."""
    with Session(engine) as session:
        yield session


@pytest.fixture
def request_with() -> Any:
    """Make a real request of Lback with something as its database session."""

    def make(db_session: object) -> Request:
        made = Request("/", "GET", b"", {}, {})
        made.add_context("db_session", db_session)
        return made

    return make


@pytest.mark.parametrize("name", ["session", "db_session", "anything"])
def test_a_session_among_the_values_is_found(session: Session, name: str) -> None:
    """Under the usual names and any other."""
    assert session_at_hand({"user": "u", name: session}) is session


def test_the_named_session_wins(session: Session, engine: Engine) -> None:
    """Before others, and before the request's."""
    with Session(engine) as other:
        assert session_at_hand({"other": other, "session": session}) is session


def test_a_web_session_is_none(session: Session) -> None:
    """Lback calls its web session "session", too; the search goes on."""
    assert session_at_hand({"session": object(), "db": session}) is session
    assert session_at_hand({"session": {"id": 1}, "request": None}) is None


def test_the_requests_session_is_found(session: Session, request_with: Any) -> None:
    """Lback's middleware puts it into the request's context."""
    assert session_at_hand({"request": request_with(session)}) is session


@pytest.mark.parametrize("value", [None, object(), "text"])
def test_a_request_without_a_session_gives_none(request_with: Any, value: object) -> None:
    """Lback keeps its DatabaseManager under that name until the middleware has run."""
    assert session_at_hand({"request": request_with(value)}) is None


def test_a_request_that_raises_gives_none() -> None:
    """Somebody else's request object must not hurt the sender."""

    class Strange:
        """Has a get_context of another meaning."""

        def get_context(self, *_args: object) -> None:
            raise LookupError

    assert session_at_hand({"request": Strange()}) is None


def test_an_entitys_own_session_is_found_without_a_query(session: Session, engine: Engine) -> None:
    """Persistent, pending or in a list; detached and transient ones have none. No flush."""
    user = User(name="a")
    session.add(user)
    session.commit()
    new = User(name="b")
    session.add(new)
    queries: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: queries.append(args[2]))
    assert session_at_hand({"user": user}) is session
    assert session_at_hand({"user": new}) is session
    assert session_at_hand({"users": [user, new]}) is session
    assert session_at_hand({"users": []}) is None
    assert session_at_hand({"user": User(name="transient")}) is None
    session.expunge(user)
    assert session_at_hand({"user": user}) is None
    assert queries == []
    assert new in session.new


def test_a_scoped_session_is_found_and_never_made(engine: Engine) -> None:
    """The one of this thread, if it has one."""
    registry = scoped_session(sessionmaker(engine))
    assert session_at_hand({"session": registry}) is None
    assert not registry.registry.has()
    session = registry()
    assert session_at_hand({"session": registry}) is session
    registry.remove()


def test_an_async_session_gives_its_sync_session() -> None:
    """Alone or scoped."""
    session = AsyncSession()
    registry: Any = async_scoped_session(lambda: session, scopefunc=lambda: 1)  # type: ignore[arg-type]
    assert session_at_hand({"session": session}) is session.sync_session
    assert session_at_hand({"session": registry}) is None
    registry()
    assert session_at_hand({"session": registry}) is session.sync_session


def test_odd_values_do_no_harm() -> None:
    """Mocks answer to everything, some objects raise at everything."""

    class Hostile:
        """Raises whatever is asked."""

        __slots__ = ()

        @property
        def __dict__(self) -> Any:  # type: ignore[override]
            raise RuntimeError

        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

    values = {"a": Mock(), "request": Mock(), "b": Hostile(), "c": Hostile, "d": [Hostile()]}
    assert session_at_hand(values) is None


def test_the_last_session_is_the_one_that_began_last(engine: Engine) -> None:
    """And is still in its transaction; then the one before."""
    watch_sessions()
    watch_sessions()
    first, second = Session(engine), Session(engine)
    with first, second:
        assert last_session() is None
        first.execute(select(User))
        assert last_session() is first
        second.execute(select(User))
        assert last_session() is second
        first.execute(select(User))
        assert last_session() is second
        second.commit()
        assert last_session() is first
        second.execute(select(User))
        first.rollback()
        assert last_session() is second
    assert last_session() is None


def test_the_last_session_of_a_dropped_one_is_none(engine: Engine) -> None:
    """Only weak references are kept, of those still open."""
    watch_sessions()
    for _ in range(3):
        with Session(engine) as session:
            session.execute(select(User))
    assert len(transaction._begun.get()) == 1
    del session
    assert last_session() is None


def test_each_thread_has_its_own_last_session(engine: Engine, session: Session) -> None:
    """A mail sent by one request must not wait for another one's commit."""
    watch_sessions()
    session.execute(select(User))
    seen: list[object] = []
    thread = threading.Thread(
        target=lambda: contextvars.Context().run(lambda: seen.append(last_session()))
    )
    thread.start()
    thread.join(timeout=30)
    assert seen == [None]
    assert last_session() is session


def test_without_sqlalchemy_nothing_is_imported() -> None:
    """Nobody can hold a session then; a half-imported SQLAlchemy counts as none."""
    code = (
        "import sys, types\n"
        "from lback_relay import transaction as t\n"
        "t.watch_sessions()\n"
        "assert t.session_at_hand({'session': object()}) is None\n"
        "assert t.after_commit(object(), print) is False\n"
        "assert t.last_session() is None\n"
        "assert not [name for name in sys.modules if name.startswith('sqlalchemy')]\n"
        "sys.modules['sqlalchemy.orm'] = types.ModuleType('sqlalchemy.orm')\n"
        "t.watch_sessions()\n"
        "assert t.session_at_hand({'session': object()}) is None\n"
        "assert t.after_commit(object(), print) is False\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
