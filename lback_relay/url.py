"""Broker URLs: whether one can be used, and how it may be printed.

Nothing is opened here and no name is looked up. A URL may hold a password, also where it does not
belong (in the query, or with an unescaped ``/``); so no sentence of this module quotes a part of a
URL that it has not understood, and :func:`mask_url` hides whatever it can't place.
"""

from __future__ import annotations

import difflib
import re
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

SCHEMES: Final = ("redis", "rediss", "unix", "embedded", "memory")
MASK: Final = "***"

# Query parameters whose value says nothing secret; every other value is masked.
_PLAIN_OPTIONS: Final = frozenset(
    {
        "db",
        "health_check_interval",
        "max_connections",
        "protocol",
        "socket_keepalive",
        "ssl_ca_certs",
        "ssl_ca_path",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_ciphers",
        "ssl_keyfile",
        "ssl_min_version",
    }
)
_SECRET_OPTIONS: Final = frozenset({"password", "ssl_password"})
_OPTIONS: Final = _PLAIN_OPTIONS | _SECRET_OPTIONS | {"username"}
# redis-py lets the URL win over the caller's arguments, which would break the relay's own limits.
_OWN_OPTIONS: Final = frozenset(
    {
        "client_name",
        "decode_responses",
        "encoding",
        "retry_on_error",
        "retry_on_timeout",
        "socket_connect_timeout",
        "socket_timeout",
        "timeout",
    }
)
_EXAMPLE: Final = "redis://127.0.0.1:6379/0"
_UNREADABLE: Final = (
    "can't be read: percent-encode '/', '?', '#', '@' and brackets in its password "
    "('/' is %2F, '?' is %3F, '#' is %23, '@' is %40)"
)


def check_url(url: object) -> list[str]:
    """Return what is wrong with a broker URL, one sentence each; [] when it can be used.

    The sentences go on from the name of the key that holds the URL and never show a secret.

    Args:
        url: what was given for the URL, of any type.
    """
    if not isinstance(url, str):
        return [f"must be text such as {_EXAMPLE!r}, not {type(url).__name__}"]
    problem = _check_text(url)
    if problem:
        return [problem]
    parts = _split(url)
    if parts is None or _misplaced_at(parts, url):
        return [_UNREADABLE]
    if parts.scheme == "unix":
        return _check_socket(parts)
    return _check_host(parts) if parts.scheme in ("redis", "rediss") else _check_local(parts)


def mask_url(url: object) -> str:
    """Return the URL with every password and every value of unknown meaning as ``***``.

    It takes anything and never raises: what can't be placed is hidden.

    Args:
        url: a broker URL, valid or not.
    """
    if not isinstance(url, str):
        return f"<{type(url).__name__}>"
    scheme, separator, _ = url.partition("://")
    if not separator:
        # Without a scheme nothing tells an address from a password.
        return url if re.fullmatch(r"[\w.-]+:\d{1,5}(/\d+)?", url) else MASK
    parts = _split(url)
    if parts is None or _misplaced_at(parts, url) or scheme not in SCHEMES:
        return f"{scheme if scheme.lower() in SCHEMES else MASK}://{MASK}"
    userinfo, at, host = parts.netloc.rpartition("@")
    # "redis://:password" without its "@" reads as a port.
    host = re.sub(r":(?!\d{1,5}$)[^:\]]+$", f":{MASK}", host)
    if at:
        user, colon, _ = userinfo.partition(":")
        # A user without a password may well be a password in the wrong place.
        host = f"{user}:{MASK}@{host}" if colon else f"{MASK}@{host}"
    query = "&".join(
        _masked_option(key, value) for key, value in parse_qsl(parts.query, keep_blank_values=True)
    )
    return (
        f"{parts.scheme}://{host}{parts.path}"
        + (f"?{query}" if query else "")
        + (f"#{MASK}" if parts.fragment else "")
    )


def _masked_option(key: str, value: str) -> str:
    if key not in _OPTIONS:
        return MASK  # a piece of a password with an unescaped "&", perhaps
    return f"{key}={value if key in _PLAIN_OPTIONS else MASK}"


def has_password(url: str) -> bool:
    """Tell whether a URL holds a password, or may hold one where it can't be read."""
    parts = _split(url)
    if parts is None or _misplaced_at(parts, url):
        return "@" in url
    # A user alone counts too: people leave the colon out of redis://:password@host.
    return "@" in parts.netloc or any(
        key in _SECRET_OPTIONS for key, _ in parse_qsl(parts.query, keep_blank_values=True)
    )


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:  # its text may quote the password
        return None


def _misplaced_at(parts: SplitResult, url: str) -> bool:
    """Tell whether an "@" stands where urlsplit sees no user: the password was not escaped."""
    if parts.scheme == "unix" and not parts.netloc:
        return "@" in parts.query + parts.fragment  # a socket's path may hold one
    return "@" in url.partition("://")[2][len(parts.netloc) :]


def _check_text(url: str) -> str | None:
    if not url:
        return f"is empty; write a URL such as {_EXAMPLE!r}"
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        return "holds a space or a line break; remove it (in a password, percent-encode it)"
    scheme, separator, _ = url.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        return f"has no scheme; write a URL such as {_EXAMPLE!r}"
    if scheme not in SCHEMES:
        near = difflib.get_close_matches(scheme.lower(), SCHEMES, n=1)
        hint = f"; did you mean {near[0] + '://'!r}?" if near else ""
        known = ", ".join(f"{name}://" for name in SCHEMES)
        return f"has the scheme {scheme + '://'!r}, which is none of {known}{hint}"
    return None


def _check_host(parts: SplitResult) -> list[str]:
    problems = []
    if not parts.hostname:
        problems.append(f"names no host; write a URL such as {_EXAMPLE!r}")
    try:
        port = parts.port
    except ValueError:  # its text quotes the netloc
        problems.append("has a port that is no number from 1 to 65535")
    else:
        if port == 0:
            problems.append("has port 0; Redis listens on 6379 unless told otherwise")
    if not re.fullmatch(r"(/\d*)?", parts.path):
        # redis-py silently uses database 0 then.
        problems.append("ends in something that is no database number; write '/0', '/1', …")
    return problems + _check_query(parts, secure=parts.scheme == "rediss")


def _check_socket(parts: SplitResult) -> list[str]:
    problems = []
    if parts.netloc.rpartition("@")[2]:
        problems.append("needs an absolute path after unix://: 'unix:///run/redis/redis.sock'")
    elif not unquote(parts.path).strip("/"):
        problems.append("names no socket; write a URL such as 'unix:///run/redis/redis.sock'")
    return problems + _check_query(parts, secure=False)


def _check_local(parts: SplitResult) -> list[str]:
    problems = []
    if parts.query or parts.fragment or "@" in parts.netloc:
        problems.append(f"takes no user, password or options; write '{parts.scheme}://'")
    if parts.scheme == "embedded" and parts.netloc:
        problems.append("takes no host; write 'embedded://' or 'embedded:///an/absolute/folder'")
    return problems


def _check_query(parts: SplitResult, *, secure: bool) -> list[str]:
    problems = []
    if parts.fragment:
        problems.append("holds a '#'; percent-encode it as %23")
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key in _OWN_OPTIONS:
            problems.append(f"sets {key}, which the relay sets itself; leave it out")
        elif key.startswith("ssl_") and not secure:
            problems.append(f"sets {key}, which needs rediss://")
        elif key == "db" and not re.fullmatch(r"\d+", value):
            problems.append("has a db that is no number")
        elif key not in _OPTIONS and not key.startswith("ssl_"):
            near = difflib.get_close_matches(key, sorted(_OPTIONS), n=1)
            # The key itself may be a piece of a password with an unescaped "?" or "&".
            hint = f"did you mean {near[0]!r}?" if near else "percent-encode '&' in a password"
            problems.append(f"has an option that redis does not know; {hint}")
    return problems
