"""Drive a real Lback project, project every signal that it sends, and write down what came of it.

Run in the project's folder: ``python lback_drive.py RESULTS.json``. The framework's own calls come
first (registration, login, 404, 405, 500, templates, cache, JWT, rows); then every signal is
projected from real instances (:mod:`lback_objects`), so that none is left out.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lback.admin.registry import AdminRegistry
from lback.auth.jwt_auth import JWTAuth
from lback.auth.password_hashing import PasswordHasher
from lback.auth.session_auth import SessionAuth
from lback.core import server
from lback.core.cache import Cache
from lback.core.middleware_manager import MiddlewareManager
from lback.core.signals import dispatcher
from lback.middlewares.timer import TimerMiddleware
from lback.models.adminuser import AdminUser, Permission
from lback.models.product import Product
from lback.models.user import Group, User
from lback.repositories.role_repository import RoleRepository
from sqlalchemy import Engine, event
from support import lback_objects
from support.lback_objects import PLANTED
from werkzeug.test import Client

from lback_relay.codec import decode, encode
from lback_relay.envelope import Envelope, new_envelope_id
from lback_relay.lback.catalogue import SIGNALS
from lback_relay.projection import Projection
from lback_relay.snapshot import same

PASSWORD = "Planted-Passw0rd!"  # as Lback wants one
_SECRET_COLUMNS = ("password", "email_verification_token", "auth_token")

outcomes: list[dict[str, Any]] = []
secrets: set[str] = {PLANTED, PASSWORD}
statements: list[str] = []
projection = Projection()


def record(signal: str, sender: Any, kwargs: dict[str, Any], *, driven: bool) -> None:
    """Project, encode and decode one signal, and note what a test wants to know."""
    for value in (sender, *kwargs.values()):
        stored = getattr(value, "__dict__", {})
        secrets.update(filter(None, (stored.get(name) for name in _SECRET_COLUMNS)))
    secrets.update(value for name, value in kwargs.items() if name in ("token", "csrf_token"))
    before = len(statements)
    outcome: dict[str, Any] = {"signal": signal, "driven": driven, "error": None}
    outcomes.append(outcome)
    try:
        payload, projected = projection.payload(kwargs), projection.sender(sender)
        outcome["statements"] = statements[before:]
        outcome["keys"] = [sorted(kwargs), sorted(payload)]
        envelope = Envelope(
            id=new_envelope_id(),
            signal=signal,
            sender=projected,
            payload=payload,
            sent_at=datetime.now(timezone.utc),
        )
        encoded = encode(envelope)
        decoded = decode(encoded)
        outcome["encoded"] = base64.b64encode(encoded).decode()
        outcome["equal"] = same(dict(decoded.payload), payload) and same(decoded.sender, projected)
        outcome["sender"] = [type(sender).__name__, type(decoded.sender).__name__]
        outcome["unreadable"] = "reading it raised" in repr(payload)
    except Exception as error:
        outcome["error"] = f"{type(error).__name__}: {error}"


def receiver(signal: str) -> Callable[..., None]:
    """Return a receiver that records one signal."""

    def receive(sender: Any = None, **kwargs: Any) -> None:
        record(signal, sender, kwargs, driven=True)

    return receive


def drive_http() -> None:
    """Let the web application answer."""
    client = Client(server.wsgi_application)
    options: Any = {
        "environ_base": {"REMOTE_ADDR": "127.0.0.1"},
        "headers": {"Cookie": f"theme={PLANTED}", "Authorization": f"Bearer {PLANTED}"},
    }
    bob = {"username": "bob", "email": "bob@example.org", "password": PASSWORD}
    answers = [
        client.post("/api/auth/register/", json=bob, **options).status_code,
        client.post("/api/auth/register/", json=bob, **options).status_code,
        client.get(f"/nowhere/?token={PLANTED}", **options).status_code,
        client.get("/api/auth/register/", **options).status_code,
        client.get("/own/crash/", **options).status_code,
        client.get("/login/", **options).status_code,
    ]
    assert answers[0] == 201, answers
    assert answers[2] == 404, answers
    assert answers[4] == 500, answers


def attempt(call: Callable[..., Any], *given: Any) -> Any:
    """Call what may fail: its signals tell, and that is what is wanted."""
    with contextlib.suppress(Exception):
        return call(*given)
    return None


def drive_objects() -> None:
    """Call what sends signals without a request."""
    session = server.db_manager.create_session()
    manager = server.user_manager
    user = session.query(User).filter_by(username="bob").one()
    attempt(manager.authenticate_user, session, "bob", "wrong")
    attempt(manager.authenticate_user, session, "bob", PASSWORD)
    attempt(manager.verify_user_email, session, "no-such-token")
    attempt(manager.verify_user_email, session, user.email_verification_token)
    attempt(manager.authenticate_user, session, "bob", PASSWORD)
    attempt(manager.update_user, session, user.id, {"password": PASSWORD, "email": "b@example.org"})
    attempt(manager.reset_password_request, session, "b@example.org")
    attempt(manager.reset_password, session, user.auth_token, PASSWORD)
    user.validate()
    session.commit()
    manager.delete_user(session, user.id)
    session.commit()

    role = RoleRepository(session).create(name="editor")
    RoleRepository(session).update(role, name="writer")
    permission = Permission(name="write")
    session.add(permission)
    session.flush()
    attempt(role.add_permission, permission)
    attempt(role.add_permission, permission)
    attempt(role.remove_permission, permission)
    admins = server.admin_user_manager
    attempt(admins.register_admin, session, "root", "root@example.org", PASSWORD)
    hashed = PasswordHasher.hash_password(PASSWORD)
    admin = AdminUser(username="root", email="r@example.org", password=hashed, role=role)
    session.add(admin)
    session.flush()
    attempt(admins.authenticate_admin, session, "root", PASSWORD)
    attempt(admins.authenticate_admin, session, "root", "wrong")
    attempt(admin.has_permission, "write")
    session.commit()

    product = Product(name="book", price=10.0, sku="b1", quantity=1)
    session.add(product)
    session.flush()
    product.update_quantity(2)
    product.apply_discount(10)
    attempt(product.update_quantity, -100)
    attempt(product.apply_discount, 101)

    web_session = server.session_manager.create_session(session)
    secrets.add(web_session)
    csrf = server.session_manager.generate_csrf_token(session, web_session)
    secrets.add(csrf)
    server.session_manager.validate_csrf_token(session, web_session, csrf)
    server.session_manager.validate_csrf_token(session, web_session, "wrong")
    server.session_manager.cleanup_sessions(session)
    session.commit()
    SessionAuth(server.session_manager)

    cache = Cache()
    cache.set(("a", 1), object(), ttl=10)
    cache.get(("a", 1))
    cache.get("nothing")
    cache.delete(("a", 1))
    cache.clear()

    tokens = JWTAuth("only-for-these-tests")
    tokens.decode_token("")
    AdminRegistry().register(Product)
    middlewares = MiddlewareManager()
    timer = TimerMiddleware()
    middlewares.add_middleware(timer)
    middlewares.remove_middleware(timer)
    lback_objects.UserSerializer(instance=product)
    attempt(server.template_renderer.render_to_string, "missing.html")
    server.template_renderer.render_to_string("own.html", title="Own", csrf_token=PLANTED)


def main(results: Path) -> None:
    """Drive everything and write the outcomes."""
    Path("templates").mkdir()  # where the renderer looks, if it is there from the beginning
    Path("templates/own.html").write_text("<p>{{ title }}</p>")
    for signal in SIGNALS:
        dispatcher.connect(signal, receiver(signal))
    event.listen(Engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    server.initialize_core_components()
    server.db_manager.create_all_tables()
    session = server.db_manager.create_session()
    session.add(Group(name="basic_user", description="Everybody"))
    session.commit()
    session.close()
    drive_http()
    drive_objects()
    session = server.db_manager.create_session()
    for signal, sender, kwargs in lback_objects.every_signal(server, session):
        record(signal, sender, kwargs, driven=False)
    session.rollback()
    server.db_manager.dispose_engine()
    texts = sorted(secret for secret in secrets if isinstance(secret, str) and len(secret) > 7)
    results.write_text(json.dumps({"outcomes": outcomes, "secrets": texts}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    sys.stdout.flush()
    # The framework's file watchers are threads that nothing stops.
    __import__("os")._exit(0)
