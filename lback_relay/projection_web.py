"""How the framework's own objects are projected: requests, responses, serializers, routes.

They are known by the names in their class's bases, so that the framework need not be installed, and
read from their ``__dict__``, so that no property of theirs runs. Bodies of requests and responses
are not relayed but where they are revealed by name: ``request.parsed_body``,
``request.body_text``, ``response.body``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from lback_relay.markers import Omitted, Redacted
from lback_relay.projection_objects import attributes, object_function, public
from lback_relay.projection_walk import (
    ProjectFunction,
    Walk,
    nested,
    stored_attributes,
    type_name,
)
from lback_relay.snapshot import RequestSnapshot, ResponseSnapshot

# The snapshot's attribute to where the object stores it.
_STORED: Final[dict[str, dict[str, str]]] = {
    "lback.api.serializer.BaseModelSerializer": {
        "many": "many",
        "partial": "partial",
        "instance": "instance",
        "errors": "_errors",
        "validated_data": "_validated_data",
    },
    "lback.api.view.BaseView": {},
    "lback.core.router.Route": {
        name: name for name in ("path", "methods", "name", "requires_auth", "view")
    },
    "lback.core.types.UploadedFile": {
        name: name for name in ("filename", "content_type", "field_name", "size")
    },
    "lback.utils.app_session.AppSession": {
        "session_id": "_session_id",
        "is_new": "_is_new",
        "modified": "_modified",
        "deleted": "_deleted",
        "expires_at": "expires_at",
    },
}


def web_function(kind: type) -> ProjectFunction | None:
    """Return the function for one of the framework's classes or a subclass; else None."""
    for base in kind.__mro__:
        name = type_name(base)
        if name == "lback.core.types.Request":
            return _request
        if name == "lback.core.response.Response":
            return _response
        if name in _STORED:
            return object_function(type_name(kind), _STORED[name])
    return None


# What the framework itself puts on the request's context, beside what the application does.
_PARTS: Final = frozenset(
    [
        *("admin_registry", "admin_user_manager", "config", "dispatcher", "error_handler"),
        *("router", "session_manager", "template_renderer", "user_manager"),
    ]
)
_NOT_SET: Final = {"user": None, "session": None, "db_session": None}


@nested
def _request(walk: Walk, value: Any, path: str) -> Any:
    stored = stored_attributes(value)
    context = stored.get("_context")
    put = context if type(context) is dict else {}
    values: dict[str, Any] = {**_NOT_SET, "path_params": {}}
    values |= attributes(walk, [item for item in public(put) if item[0] not in _PARTS], path)
    values |= attributes(walk, [item for item in public(stored) if item[0] != "cookies"], path)
    # A cookie is a secret under any name.
    cookies = stored.get("cookies")
    values["cookies"] = walk.sealed(cookies, f"{path}.cookies") if type(cookies) is dict else {}
    values |= attributes(
        walk, [("environ", stored.get("_environ")), ("files", stored.get("_files"))], path
    )
    for name, body in _bodies(walk, stored, path):
        values[name] = _body(walk, path, name, body)
    return RequestSnapshot(type_name(type(value)), values)


def _bodies(walk: Walk, stored: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    # What was not read yet stays so: the view that runs next wants to read it.
    raw = stored.get("_initial_body")
    yield "parsed_body", stored.get("_parsed_body")
    if type(raw) is str and walk.is_revealed(f"{path}.body_bytes"):
        yield "body_bytes", raw.encode()
    else:
        yield "body_bytes", raw
    if type(raw) is bytes and walk.is_revealed(f"{path}.body_text"):
        yield "body_text", raw.decode(errors="replace")
    else:
        yield "body_text", raw


@nested
def _response(walk: Walk, value: Any, path: str) -> Any:
    stored = stored_attributes(value)
    values = attributes(walk, [item for item in public(stored) if item[0] != "body"], path)
    values["body"] = _body(walk, path, "body", stored.get("body"))
    return ResponseSnapshot(type_name(type(value)), values)


def _body(walk: Walk, path: str, name: str, value: Any) -> Any:
    projected = walk.member(path, name, value, True)
    if not isinstance(projected, Redacted):
        return projected
    inner = projected.relay_path
    return Omitted(
        inner,
        type_name(type(value)),
        "bodies are relayed only where they are revealed",
        f'where the handler needs it, add "reveal": ["{inner}"] to this signal in RELAY_SIGNALS',
    )
