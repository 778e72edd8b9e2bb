"""Run an action after the outermost commit of a SQLAlchemy session, and find that session.

SQLAlchemy is looked for among the loaded modules, never imported: without it nobody can hold a
session. A given session is only listened to: no query, no flush, no lazy load. What an action does
is not known here.

What happens to an action, from its registration on::

    waiting for the innermost transaction that is open (a savepoint or the outermost)
      savepoint released  -> waits for the transaction around it, in the order of registration
      anything else ends the savepoint (rolled back, closed) -> forgotten
      outermost committed -> runs, once its connection is back in the pool
      anything else ends the outermost (rolled back, closed, session garbage collected) -> forgotten

What can go wrong in between: a flush or the COMMIT itself fails (no after_commit: forgotten at the
rollback that must follow); an after_commit listener of the application raises (the actions run when
the session is closed); the process ends between COMMIT and action (lost: this is not an outbox); an
action raises (logged; the others run). An action that meets its session finds no open transaction,
so that a signal sent by an action leaves at once.

A transaction begun by a mere SELECT is open, too, and closing it without a commit forgets: nobody
can tell whether raw SQL has written anything. A session that joins a transaction of its Connection
(``Session(bind=connection)``) commits when *it* commits, although the Connection may still roll
back: SQLAlchemy reports nothing else. ``docs/decisions/0002-transaction-boundaries.md`` says why.
"""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Event
from typing import Any

Action = Callable[[], None]

_log = logging.getLogger(__name__)

_SESSION_NAMES = ("session", "db_session")
_LEDGER = "lback_relay.transaction"  # the key in session.info; gone when no transaction is open
_PLAIN_TYPES = frozenset({type(None), bool, int, float, str, bytes, dict, set, frozenset})

_listening = Event()
# The sessions that began a transaction in this flow of control, last one last. A context variable
# is per thread, and also keeps asyncio's coroutines apart, which share one thread.
_begun: ContextVar[tuple[weakref.ref[Any], ...]] = ContextVar("lback_relay_begun", default=())


@dataclass(slots=True)
class _Waiting:
    """What waits for the end of one SessionTransaction."""

    actions: list[Action] = field(default_factory=list)
    committed: bool = False


def session_at_hand(values: Mapping[str, Any]) -> Any | None:
    """Return the SQLAlchemy Session that a signal's values name, without touching the database.

    Looked for in this order: values named ``session`` or ``db_session``, any other value that is a
    Session (also an AsyncSession, or a scoped_session that has one in this thread), the ``request``
    value's context, an entity's own session (also of the first entity of a list or tuple).

    Args:
        values: a signal's kwargs.

    Returns:
        A ``sqlalchemy.orm.Session``, or None.
    """
    orm = sys.modules.get("sqlalchemy.orm")
    if orm is None or not _listen(orm):
        return None
    kinds = _session_kinds(orm)
    for name in _SESSION_NAMES:
        session = _as_session(values.get(name), kinds)
        if session is not None:
            return session
    unknown = [value for value in values.values() if type(value) not in _PLAIN_TYPES]
    for value in unknown:
        session = _as_session(value, kinds)
        if session is not None:
            return session
    session = _as_session(_from_request(values.get("request")), kinds)
    if session is not None:
        return session
    for value in unknown:
        session = _session_of_entity(value)
        if session is not None:
            return session
    return None


def after_commit(session: Any, action: Action) -> bool:
    """Run ``action`` after the outermost commit of the session's open transaction.

    It is forgotten when that transaction, or the savepoint that is open now, ends in any other way.

    Args:
        session: a Session, scoped_session or AsyncSession.
        action: called without arguments, in the thread that commits; must not use the session.

    Returns:
        Whether it was registered. False when no transaction is open: the caller then acts now.
    """
    orm = sys.modules.get("sqlalchemy.orm")
    if orm is None or not _listen(orm):
        return False
    session = _as_session(session, _session_kinds(orm))
    if session is None or not session.in_transaction():
        return False
    transaction = session.get_nested_transaction() or session.get_transaction()
    ledger = session.info.setdefault(_LEDGER, {})
    ledger.setdefault(transaction, _Waiting()).actions.append(action)
    return True


def last_session() -> Any | None:
    """Return the session that began a transaction last, in this thread, and is still in it.

    For senders that are given no session. Needs :func:`watch_sessions` before.
    """
    for reference in reversed(_begun.get()):
        session = reference()
        if session is not None and session.in_transaction():
            return session
    return None


def watch_sessions() -> None:
    """Begin to listen to all sessions, if SQLAlchemy is loaded. Idempotent.

    Otherwise the first call of another function here begins it. Call it early all the same:
    SQLAlchemy can't take a new listener while it calls those of the same event.
    """
    orm = sys.modules.get("sqlalchemy.orm")
    if orm is not None:
        _listen(orm)


def _listen(orm: Any) -> bool:
    """Register the listeners once per process, for every Session there is or will be.

    They are registered on the class, so that a session that serves many requests never collects
    any. Returns False while another thread is still importing SQLAlchemy.
    """
    if _listening.is_set():
        return True
    session_class = getattr(orm, "Session", None)
    event = sys.modules.get("sqlalchemy.event")
    if session_class is None or event is None:
        return False
    # First in line: an application's listener that raises stops those behind it.
    event.listen(session_class, "after_begin", _on_begin, insert=True)
    event.listen(session_class, "after_commit", _on_commit, insert=True)
    event.listen(session_class, "after_transaction_end", _on_transaction_end, insert=True)
    _listening.set()
    return True


def _on_begin(session: Any, _transaction: Any, _connection: Any) -> None:
    still_open = []
    for reference in _begun.get():
        other = reference()
        if other is not None and other is not session and other.in_transaction():
            still_open.append(reference)
    _begun.set((*still_open, weakref.ref(session)))


def _on_commit(session: Any) -> None:
    """Mark what commits. Called for the release of a savepoint, too."""
    transaction = session.get_nested_transaction() or session.get_transaction()
    # Also when nothing waits yet: a later after_commit listener may still register something.
    ledger = session.info.setdefault(_LEDGER, {})
    ledger.setdefault(transaction, _Waiting()).committed = True


def _on_transaction_end(session: Any, transaction: Any) -> None:
    ledger = session.info.get(_LEDGER)
    if ledger is None:
        return
    waiting = ledger.pop(transaction, None)
    if not ledger:
        del session.info[_LEDGER]
    if waiting is None or not waiting.actions:
        return
    if not waiting.committed:
        _log.info("Forgot %d signals: their transaction was not committed", len(waiting.actions))
    elif transaction.parent is None:
        _run(waiting.actions)
    else:
        around = _boundary(transaction.parent)
        ledger = session.info.setdefault(_LEDGER, {})
        ledger.setdefault(around, _Waiting()).actions.extend(waiting.actions)


def _boundary(transaction: Any) -> Any:
    """Return the savepoint or outermost transaction that a flush's inner one belongs to."""
    while transaction.parent is not None and not transaction.nested:
        transaction = transaction.parent
    return transaction


def _run(actions: list[Action]) -> None:
    """Run every action, whatever the others raise; a Ctrl-C is raised at the end."""
    interruptions = [error for error in map(_failure_of, actions) if error is not None]
    if interruptions:
        raise interruptions[0]


def _failure_of(action: Action) -> BaseException | None:
    try:
        action()
    except Exception:  # noqa: BLE001 - whatever an action raises is logged, not the application's
        _log.exception("An action after commit failed")
    except BaseException as interruption:  # noqa: BLE001 - raised when the others have run
        return interruption
    return None


def _session_kinds(orm: Any) -> tuple[type, ...]:
    """Return the classes whose instances are or stand for a session, those of asyncio if loaded."""
    extension = sys.modules.get("sqlalchemy.ext.asyncio")
    if extension is None:
        return orm.Session, orm.scoped_session
    found = (getattr(extension, name, None) for name in ("AsyncSession", "async_scoped_session"))
    return (orm.Session, orm.scoped_session, *(kind for kind in found if kind is not None))


def _as_session(value: Any, kinds: tuple[type, ...]) -> Any | None:
    """Return the Session that a value is or stands for; never make one."""
    if not issubclass(type(value), kinds):  # isinstance() would ask a mock for its __class__
        return None
    if issubclass(type(value), kinds[0]):
        return value
    registry = getattr(value, "registry", None)
    if registry is None:
        return value.sync_session
    return _as_session(registry(), kinds) if registry.has() else None


def _from_request(request: Any) -> Any | None:
    """Return what Lback's request holds as its database session; may be anything."""
    get_context = getattr(type(request), "get_context", None)
    if get_context is None:
        return None
    try:
        return get_context(request, "db_session")
    except Exception:  # noqa: BLE001 - somebody else's request
        return None


def _session_of_entity(value: Any) -> Any | None:
    if type(value) in {list, tuple} and value:
        value = value[0]
    try:
        state = value.__dict__.get("_sa_instance_state")
        session = None if state is None else state.session
    except Exception:  # noqa: BLE001 - no __dict__, or somebody else's object that raises
        return None
    return session
