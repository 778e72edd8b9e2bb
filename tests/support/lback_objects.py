"""Real instances of the framework's classes for every key of every signal, with secrets planted.

Imported in a process that runs a Lback project (the framework is global state), never in pytest's.
Whatever must not leave the process holds :data:`PLANTED`.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from lback.api.serializer import BaseModelSerializer
from lback.api.view import BaseView
from lback.auth.jwt_auth import JWTAuth
from lback.auth.oauth import OAuth2Auth
from lback.core.cache import Cache
from lback.core.response import HTMLResponse, JSONResponse, RedirectResponse
from lback.core.router import Route
from lback.core.types import HTTPMethod, Request, UploadedFile
from lback.middlewares.timer import TimerMiddleware
from lback.models.adminuser import AdminUser, Permission, Role
from lback.models.product import Product
from lback.models.user import Group, User
from lback.utils.app_session import AppSession
from markupsafe import Markup
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from lback_relay.lback.catalogue import SIGNALS

PLANTED = "planted8secret7of6nobody"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.planted8secret7of6nobody"
STATES = ("loaded", "dirty", "expired", "detached")


class UserSerializer(BaseModelSerializer):  # type: ignore[misc]
    """A project's serializer."""

    class Meta:
        model = User
        fields = ["id", "username", "email", "password"]  # noqa: RUF012 - as Lback has it


class UserView(BaseView):  # type: ignore[misc]
    """A project's view class."""


def show_user(request: Any) -> Any:
    """A project's view function."""
    return HTMLResponse(content="")


def make_request(user: Any, session: Any, app_session: Any) -> Request:
    """Return a request as middlewares leave it, full of secrets."""
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/users/7/",
        "QUERY_STRING": f"token={PLANTED}&page=2",
        "REMOTE_ADDR": "1.2.3.4",
        "HTTP_COOKIE": f"session_id={PLANTED}; theme=dark",
        "HTTP_AUTHORIZATION": f"Bearer {JWT}",
        "wsgi.input": io.BytesIO(b"{}"),
        "wsgi.errors": io.StringIO(),
        "wsgi.url_scheme": "http",
        "wsgi.version": (1, 0),
    }
    headers = {
        "Host": "shop.example.org",
        "Cookie": f"session_id={PLANTED}; theme=dark",
        "Authorization": f"Bearer {JWT}",
        "X-CSRF-Token": PLANTED,
        "Referer": f"http://shop.example.org/?reset_token={PLANTED}",
    }
    request = Request(
        f"/users/7/?token={PLANTED}&page=2",
        HTTPMethod.POST,
        f'{{"password": "{PLANTED}"}}'.encode(),
        headers,
        environ=environ,
    )
    request.parsed_body = {"password": PLANTED, "name": "bob", "csrf_token": PLANTED}
    file = UploadedFile("a.png", "image/png", io.BytesIO(PLANTED.encode()), "photo", 7)
    request.files = {"photo": file, "more": [file]}
    request.set_context(
        user=user,
        session=app_session,
        db_session=session,
        path_params={"id": 7},
        session_manager=object(),
        tenant="t",
    )
    return request


def raised(error: Exception) -> Exception:
    """Return the exception as ``except`` gives it."""
    try:
        raise error
    except Exception as caught:
        return caught


def rows(session: Session, state: str) -> dict[str, Any]:
    """Return one row of each table, in one of :data:`STATES`."""
    number = session.query(User).count() + 1
    user = User(username=f"user{number}", email=f"user{number}@example.org", password=PLANTED)
    user.email_verification_token = user.auth_token = PLANTED
    user.email_verification_token_expiry = datetime(2026, 1, 2)  # noqa: DTZ001 - Lback's are naive
    admin = AdminUser(username=f"a{number}", email=f"a{number}@example.org", password=PLANTED)
    admin.role = role = Role(name=f"role{number}")
    permission = Permission(name=f"permission{number}")
    product = Product(name=f"product{number}", price=2.5, sku=f"sku{number}", quantity=1)
    found = {
        "user": user,
        "admin_user": admin,
        "instance": user,
        "model_instance": product,
        "permission": permission,
        "product": product,
        "role": role,
    }
    session.add_all([user, admin, role, permission, product, Group(name=f"group{number}")])
    session.flush()
    for row in {id(row): row for row in found.values()}.values():
        if state in ("loaded", "dirty"):
            session.refresh(row)
    if state == "dirty":
        user.username = f"renamed{number}"
        product.price = 3.5
    if state in ("expired", "detached"):
        session.commit()
    if state == "detached":
        session.expunge_all()
    return found


def values(server: Any, session: Session, state: str) -> dict[str, Any]:
    """Return a value for every key that any signal has."""
    entities = rows(session, state)
    app_session = AppSession(
        PLANTED,
        {"user_id": 7, "csrf_token": PLANTED},
        server.session_manager,
        session,
        expires_at=datetime(2026, 1, 2),  # noqa: DTZ001
    )
    request = make_request(entities["user"], session, app_session)
    html = HTMLResponse(
        content=f'<input type="hidden" name="csrf_token" value="{PLANTED}">',
        headers={"Set-Cookie": f"session_id={PLANTED}"},
    )
    serializer = UserSerializer(
        instance=entities["user"],
        data={"username": "bob", "password": PLANTED},
        context={"request": request},
    )
    serializer._validated_data = {"username": "bob", "password": PLANTED}
    serializer._errors = {"email": ["This field is required."]}
    error = IntegrityError(
        "INSERT INTO users (password, auth_token) VALUES (?, ?)",
        (PLANTED, JWT),
        ValueError(f"DETAIL:  Key (auth_token)=({PLANTED}) already exists."),
    )
    tokens = {"access_token": PLANTED, "refresh_token": JWT, "expires_in": 3600}
    written = {"username": "bob", "password": PLANTED, "email_verification_token": PLANTED}
    context = {
        "request": request,
        "user": entities["user"],
        "csrf_token": PLANTED,
        "csrf_token_input": Markup(f'<input name="csrf_token" value="{PLANTED}">'),
        "title": "Users",
        "url": show_user,
        "form": object(),
    }
    return {
        **entities,
        "session": session,
        "db_session": session,
        "user_session": app_session,
        "request": request,
        "response": JSONResponse({"token": PLANTED}, status_code=404),
        "current_response": html,
        "final_response": html,
        "initial_response": RedirectResponse(f"/login/?next=/&token={PLANTED}"),
        "processed_response": html,
        "exception": raised(error),
        "manager": server.db_manager,
        "middleware_class": TimerMiddleware,
        "middleware_instance": TimerMiddleware(),
        "removed_instances": [TimerMiddleware()],
        "returned_type": dict,
        "model_class": User,
        "route": Route("/users/", show_user, ["GET"], "users"),
        "serializer": serializer,
        "serializer_class": UserSerializer,
        "view": show_user,
        "view_instance": UserView(),
        "method": HTTPMethod.POST,
        "timeout": timedelta(minutes=30),
        "args": argparse.Namespace(command="seed", password=PLANTED, func=show_user),
        "context": context,
        "content": "<h1>{{ title }}</h1>",
        "rendered_content": str(context["csrf_token_input"]),
        "spec": {"paths": {"/users/": {"get": {"operationId": "users"}}}},
        "serialized_data": [{"id": 1, "password": PLANTED}],
        "authorize_url": f"https://idp.example.org/?client_id=shop&state={PLANTED}",
        "code": PLANTED,
        "state": PLANTED,
        "scope": ["email"],
        "csrf_token": PLANTED,
        "data": written,
        "environ": dict(request.environ),
        "full_path": f"/verify/?token={PLANTED}",
        "headers": dict(request.headers),
        "new_token_data": tokens,
        "old_refresh_token": PLANTED,
        "payload": {"user_id": 7, "jti": PLANTED},
        "raw_data": written,
        "session_id": PLANTED,
        "token": JWT,
        "token_data": tokens,
        "token_prefix": f"{PLANTED[:10]}...",
        "update_data": written,
        "validated_data": written,
        "value": PLANTED,
        "key": ("users", 7),
        "error": {"error": "invalid_grant", "error_description": f"token={PLANTED}"},
        "error_message": f"can't connect to postgres://shop:{PLANTED}@db/shop",
        "stderr": f"postgres://shop:{PLANTED}@db/shop refused",
        "errors": {"email": ["This field is required."]},
        "path_variables": {"user_id": 7, "token": PLANTED},
        "required_permissions": ["users.view"],
        "allowed_methods": ["GET", "POST"],
        "full_command": ["alembic", "upgrade", "head"],
        "expires_at": 1_700_000_000.5,
        "ttl": None,
        "result": None,
    }


FLAGS = frozenset(["has_permission", "is_admin", "is_authenticated", "many", "partial", "success"])


def senders(server: Any, found: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (beginning of signals' names, who sends them); the first that fits counts."""
    yield "admin_", server.admin_user_manager
    yield "server_", "wsgi_application"
    yield "wsgi_", "wsgi_application"
    yield "command_", None
    yield "user_password", found["user"]
    yield "user_", server.user_manager
    yield "product_", found["product"]
    yield "role_", found["role"]
    yield "serializer_", found["serializer"]
    yield "view_", found["view_instance"]
    yield "jwt_", JWTAuth("secret-of-the-tests")
    yield "oauth2_", OAuth2Auth("shop", PLANTED, "https://a", "https://b", "https://c")
    yield "cache_", Cache()
    yield "db_", server.db_manager
    yield "session_", server.session_manager
    yield "csrf_", server.session_manager
    yield "middleware", server.middleware_manager
    yield "template", server.template_renderer
    yield "", server.app_controller


def every_signal(server: Any, session: Session) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Yield (signal, sender, kwargs) of every signal, with entities in each state."""
    now = datetime.now(timezone.utc)
    for state in STATES:
        found = values(server, session, state)
        candidates = tuple(senders(server, found))
        for signal, keys in SIGNALS.items():
            sender = next(who for start, who in candidates if signal.startswith(start))
            kwargs = {
                key: found.get(key, True if key in FLAGS else f"{key} at {now:%Y}") for key in keys
            }
            if signal.startswith("alembic_"):
                kwargs["args"] = ("upgrade", "head")
            if signal == "user_logged_in":
                kwargs["session"] = found["user_session"]
            if signal == "session_data_set":
                kwargs["key"] = "csrf_token"
            yield signal, sender, kwargs
