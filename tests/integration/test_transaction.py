"""After-commit actions on real SQLAlchemy sessions with SQLite files."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, create_engine, event, select, text
from sqlalchemy.exc import IntegrityError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

from lback_relay.transaction import after_commit


class Base(DeclarativeBase):
    """Base of this module's tables."""


class Account(Base):
    """A row that can clash with another one, at once or at COMMIT."""

    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    parent_id: Mapped[int | None] = mapped_column(
        ForeignKey("account.id", deferrable=True, initially="DEFERRED")
    )


class Actions:
    """What has run, in order."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def wait(self, session: Any, name: str) -> None:
        """Register an action that notes its name; it must have found a transaction."""
        assert after_commit(session, lambda: self.ran.append(name))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A database file with foreign keys on and real savepoints."""
    engine = create_engine(f"sqlite:///{tmp_path}/test.db")

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # pysqlite would begin too late for a savepoint
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """One session, as a request of Lback has it."""
    with Session(engine) as session:
        yield session


@pytest.fixture
def actions() -> Actions:
    """A fresh record of what ran."""
    return Actions()


def test_an_action_runs_once_after_the_commit(session: Session, actions: Actions) -> None:
    """Not before, not twice, and with the connection back in the pool."""
    session.add(Account(name="a"))
    session.flush()
    actions.wait(session, "first")
    after_commit(session, lambda: actions.ran.append(session.get_bind().pool.status()))  # type: ignore[union-attr]
    assert actions.ran == []
    session.commit()
    session.execute(select(Account))
    session.commit()
    assert actions.ran[0] == "first"
    assert "Current Checked out connections: 0" in actions.ran[1]
    assert len(actions.ran) == 2


def test_without_a_transaction_the_caller_acts_itself(session: Session, actions: Actions) -> None:
    """Nothing will ever commit, so nothing is registered."""
    assert after_commit(session, lambda: None) is False
    assert session.info == {}


@pytest.mark.parametrize("value", [None, 5, "session", object()])
def test_what_is_no_session_has_no_transaction(value: object) -> None:
    """The caller acts now."""
    assert after_commit(value, lambda: None) is False


@pytest.mark.parametrize("end", ["rollback", "close", "reset", "invalidate", "expunge_and_close"])
def test_any_other_end_forgets(session: Session, actions: Actions, end: str) -> None:
    """Also a close without commit, which fires after_transaction_end alone."""
    session.add(Account(name="a"))
    session.flush()
    actions.wait(session, "never")
    if end == "expunge_and_close":
        session.expunge_all()
        session.close()
    else:
        getattr(session, end)()
    session.add(Account(name="b"))
    session.commit()
    assert actions.ran == []
    assert session.info == {}


def test_a_transaction_that_only_read_waits_as_well(session: Session, actions: Actions) -> None:
    """A SELECT begins it; the commit at the end of the request ends it."""
    session.execute(select(Account))
    actions.wait(session, "read")
    session.commit()
    assert actions.ran == ["read"]


def test_a_pending_object_begins_a_transaction(session: Session, actions: Actions) -> None:
    """What was added and not yet flushed is part of what will be committed."""
    session.add(Account(name="a"))
    actions.wait(session, "added")
    session.commit()
    assert actions.ran == ["added"]


def test_releasing_a_savepoint_does_not_publish(session: Session, actions: Actions) -> None:
    """SQLAlchemy calls after_commit for it; only the outermost commit counts. Order is kept."""
    session.add(Account(name="a"))
    actions.wait(session, "before")
    with session.begin_nested():
        actions.wait(session, "inside")
        with session.begin_nested():
            session.add(Account(name="b"))
            actions.wait(session, "innermost")
        actions.wait(session, "inside, later")
    actions.wait(session, "after")
    assert actions.ran == []
    session.commit()
    assert actions.ran == ["before", "inside", "innermost", "inside, later", "after"]


def test_a_rolled_back_savepoint_forgets_what_was_inside(
    session: Session, actions: Actions
) -> None:
    """With what its released inner savepoints left; the rest stays."""
    session.add(Account(name="a"))
    actions.wait(session, "before")
    outer = session.begin_nested()
    actions.wait(session, "inside")
    with session.begin_nested():
        actions.wait(session, "released inside")
    outer.rollback()
    actions.wait(session, "after")
    session.commit()
    assert actions.ran == ["before", "after"]


def test_the_outermost_rollback_forgets_released_savepoints(
    session: Session, actions: Actions
) -> None:
    """A released savepoint has committed nothing."""
    with session.begin_nested():
        session.add(Account(name="a"))
        actions.wait(session, "inside")
    session.rollback()
    assert actions.ran == []


def test_a_commit_releases_the_savepoints_still_open(session: Session, actions: Actions) -> None:
    """Session.commit() commits all levels."""
    session.begin_nested()
    session.begin_nested()
    actions.wait(session, "inside")
    session.commit()
    assert actions.ran == ["inside"]


def test_close_forgets_in_open_savepoints(session: Session, actions: Actions) -> None:
    """All levels end without a commit."""
    session.add(Account(name="a"))
    actions.wait(session, "before")
    session.begin_nested()
    actions.wait(session, "inside")
    session.close()
    assert actions.ran == []
    assert session.info == {}


def test_a_failed_flush_forgets(session: Session, actions: Actions) -> None:
    """Also what is sent between the failure and the rollback: it can't be committed any more."""
    session.add(Account(name="a"))
    session.flush()
    actions.wait(session, "before the failure")
    session.add(Account(name="a"))
    with pytest.raises(IntegrityError):
        session.flush()
    actions.wait(session, "after the failure")
    with pytest.raises(PendingRollbackError):
        session.commit()
    session.rollback()
    session.add(Account(name="b"))
    session.commit()
    assert actions.ran == []


def test_a_flush_that_fails_in_a_savepoint_forgets_only_that(
    session: Session, actions: Actions
) -> None:
    """The application catches the clash and goes on."""
    session.add(Account(name="a"))
    actions.wait(session, "before")
    savepoint = session.begin_nested()
    actions.wait(session, "inside")
    session.add(Account(name="a"))
    with pytest.raises(IntegrityError):
        session.flush()
    actions.wait(session, "inside, after the failure")
    savepoint.rollback()
    actions.wait(session, "after")
    session.commit()
    assert actions.ran == ["before", "after"]


def test_a_failed_commit_forgets(session: Session, actions: Actions) -> None:
    """A deferred foreign key fails at COMMIT itself."""
    session.add(Account(name="orphan", parent_id=999))
    session.flush()
    actions.wait(session, "never")
    with pytest.raises(IntegrityError):
        session.commit()
    session.rollback()
    session.add(Account(name="b"))
    session.commit()
    assert actions.ran == []


def test_begin_as_a_context_commits_or_rolls_back(session: Session, actions: Actions) -> None:
    """The same outcome as with commit() and rollback()."""
    with session.begin():
        actions.wait(session, "committed")
    with pytest.raises(ZeroDivisionError), session.begin():  # noqa: PT012 - its end is tested
        actions.wait(session, "rolled back")
        _ = 1 / 0
    assert actions.ran == ["committed"]


def test_two_phase_publishes_after_the_second(engine: Engine, actions: Actions) -> None:
    """Prepared is not committed. SQLite has no two phases, so its dialect is told to pretend."""
    dialect: Any = engine.dialect
    dialect.do_begin_twophase = lambda *_args: None
    dialect.do_prepare_twophase = lambda *_args: None
    dialect.do_commit_twophase = lambda *_args: None
    dialect.do_rollback_twophase = lambda *_args: None
    with Session(engine, twophase=True) as session:
        session.execute(select(Account))
        actions.wait(session, "both")
        session.prepare()
        actions.wait(session, "prepared")
        assert actions.ran == []
        session.commit()
        session.execute(select(Account))
        session.prepare()
        actions.wait(session, "never")
        session.rollback()
    assert actions.ran == ["both", "prepared"]


def test_an_action_finds_no_open_transaction(session: Session, actions: Actions) -> None:
    """What it sends itself leaves at once and waits for no further commit."""
    answers: list[bool] = []
    session.add(Account(name="a"))
    after_commit(session, lambda: answers.append(after_commit(session, lambda: None)))
    session.commit()
    assert answers == [False]


def test_an_action_that_raises_hurts_nobody(
    session: Session, actions: Actions, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged; the others run; the commit returns."""

    def fail() -> None:
        raise RuntimeError("boom")

    session.add(Account(name="a"))
    actions.wait(session, "before")
    after_commit(session, fail)
    actions.wait(session, "after")
    session.commit()
    assert actions.ran == ["before", "after"]
    assert "An action after commit failed" in caplog.text


def test_an_interruption_waits_for_the_other_actions(session: Session, actions: Actions) -> None:
    """Ctrl-C in one must not lose the signals behind it, and is not swallowed."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    session.add(Account(name="a"))
    after_commit(session, interrupt)
    actions.wait(session, "after")
    with pytest.raises(KeyboardInterrupt):
        session.commit()
    assert actions.ran == ["after"]


@pytest.mark.parametrize(
    "hook", ["before_commit", "before_flush", "after_flush", "after_flush_postexec", "after_commit"]
)
def test_hooks_of_the_application_may_register(
    session: Session, actions: Actions, hook: str
) -> None:
    """A signal sent inside SQLAlchemy's own events belongs to the transaction around it."""

    def listener(session: Session, *_rest: Any) -> None:
        actions.wait(session, hook)

    event.listen(session, hook, listener)
    session.add(Account(name="a"))
    session.commit()
    assert actions.ran == [hook]


def test_a_hook_in_a_savepoint_registers_with_the_savepoint(
    session: Session, actions: Actions
) -> None:
    """The flush's own inner transaction is no boundary."""
    event.listen(session, "after_flush", lambda session, *_rest: actions.wait(session, "flushed"))
    session.execute(select(Account))
    savepoint = session.begin_nested()
    session.add(Account(name="a"))
    session.flush()
    savepoint.rollback()
    session.commit()
    assert actions.ran == []


def test_a_savepoint_begun_in_a_flush_gives_to_the_transaction_around(
    session: Session, actions: Actions
) -> None:
    """Its parent is the flush's inner transaction, which commits nothing by itself."""

    def listener(session: Session, *_rest: Any) -> None:
        with session.begin_nested():
            actions.wait(session, "inside")

    event.listen(session, "after_flush", listener, once=True)
    session.add(Account(name="a"))
    session.commit()
    assert actions.ran == ["inside"]


def test_a_listener_that_raises_after_the_commit_loses_nothing(
    session: Session, actions: Actions
) -> None:
    """The row is committed, so the signal leaves, at the latest when the session is closed."""

    def listener(_session: Session) -> None:
        raise RuntimeError("the application's own")

    event.listen(session, "after_commit", listener)
    session.add(Account(name="a"))
    actions.wait(session, "committed")
    with pytest.raises(RuntimeError):
        session.commit()
    session.close()
    assert actions.ran == ["committed"]


def test_a_session_that_serves_many_requests_collects_nothing(
    engine: Engine, actions: Actions
) -> None:
    """Lback closes one session of a thread after each request and never removes it."""
    registry = scoped_session(sessionmaker(engine))
    for number in range(20):
        session = registry()
        session.add(Account(name=str(number)))
        session.flush()
        actions.wait(registry, str(number))
        if number % 2:
            session.commit()
        session.close()
    assert actions.ran == [str(number) for number in range(1, 20, 2)]
    assert session.info == {}
    assert len(list(session.dispatch.after_commit)) == 1
    registry.remove()


def test_sessions_of_subclasses_made_before_are_heard(engine: Engine, actions: Actions) -> None:
    """Every sessionmaker makes a class of its own; one session may hold its own info."""

    class Own(Session):
        """A project's session class."""

    for made in (Own(engine), sessionmaker(engine, class_=Own, info={"theirs": 1})()):
        with made:
            made.execute(select(Account))
            actions.wait(made, "heard")
            made.commit()
            assert set(made.info) <= {"theirs"}
    assert actions.ran == ["heard", "heard"]


def test_a_dropped_session_takes_its_actions_along(engine: Engine) -> None:
    """Nothing here keeps a session alive, though an action may refer to it."""
    session = Session(engine)
    connection = session.connection()
    after_commit(session, session.close)
    alive = weakref.ref(session)
    connection.close()
    del session, connection
    gc.collect()
    assert alive() is None


def test_threads_do_not_hear_each_other(engine: Engine, actions: Actions) -> None:
    """Each thread's commit runs what it registered, in its own thread."""
    ran: list[tuple[str, str]] = []
    together = threading.Barrier(4, timeout=30)

    def work(number: int) -> None:
        name = threading.current_thread().name
        with Session(engine) as session:
            session.execute(text("SELECT 1"))
            after_commit(session, lambda: ran.append((name, threading.current_thread().name)))
            together.wait()
            if number % 2:
                session.commit()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(ran) == sorted((thread.name, thread.name) for thread in threads[1::2])


@pytest.mark.parametrize("mode", ["conditional_savepoint", "rollback_only", "create_savepoint"])
def test_a_session_in_an_outer_transaction_commits_when_it_says_so(
    engine: Engine, actions: Actions, mode: Any
) -> None:
    """As in test suites that roll the connection back: the session's word is all there is."""
    with engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode=mode) as session:
            session.add(Account(name="a"))
            actions.wait(session, "committed")
            session.commit()
            session.add(Account(name="b"))
            actions.wait(session, "closed")
        outer.rollback()
    assert actions.ran == ["committed"]


def test_an_async_session_is_its_sync_session(engine: Engine, actions: Actions) -> None:
    """AsyncSession drives a plain Session, whose events are the ones to listen to."""
    session = AsyncSession()
    session.sync_session.bind = engine
    session.sync_session.execute(select(Account))
    actions.wait(session, "async")
    session.sync_session.commit()
    assert actions.ran == ["async"]
