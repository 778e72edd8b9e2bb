"""Which names are secrets, and how secrets are taken out of text. Pure; knows no payload.

Two decisions are made here. :func:`is_secret_name` looks at a key, attribute or header name.
:func:`redact_text` looks inside a string: URLs with credentials, ``token=…`` in query strings,
``password: …`` in error texts, JSON Web Tokens, password hashes, hidden inputs of HTML forms.
Redaction errs on the side of the secret: what a handler needs can be revealed by its path, while
what was sent can't be called back. ``docs/wire-format.md`` lists the rules for readers.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Final

REPLACEMENT: Final = "[redacted]"

_STEMS: Final = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "authorization",
    "cookie",
    "csrf",
    "xsrf",
    "jwt",
    "apikey",
    "accesskey",
    "privatekey",
    "credential",
    "sessionid",
    "sessionkey",
    "sessid",
    "signature",
]
_STEM: Final = re.compile("|".join(_STEMS))
_WORDS: Final = frozenset(["auth", "bearer", "otp", "pin", "pwd", "pw", "sid", "totp"])
# Words that begin like a stem and mean something else. Looked for in each word by itself:
# "secret_args" is none of them.
_INNOCENT: Final = re.compile("tokeni[sz](?:e|ing|ation|able)|secretar(?:y|i)")
# A name that ends so tells about a secret and does not hold one: token_type, password_length.
# "prefix" and "url" are left out on purpose: a token's first characters and a link with the token
# in it are parts of the secret.
_ABOUT: Final = frozenset(
    [
        "age",
        "algorithm",
        "at",
        "count",
        "enabled",
        "expired",
        "expires",
        "expiration",
        "expiry",
        "field",
        "length",
        "lifetime",
        "max",
        "min",
        "policy",
        "present",
        "required",
        "strength",
        "ttl",
        "type",
        "valid",
    ]
)
_MAX_KNOWN_LENGTH: Final = 256  # longer names are not kept
_MAX_NAME_LENGTH: Final = 4096
_SPLIT: Final = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])")
_ACRONYM: Final = re.compile("(?<=[A-Z])(?=[A-Z][a-z])")  # OTPCode


def is_secret_name(name: str) -> bool:
    """Return whether a value under this name must not be relayed unless revealed.

    Args:
        name: a key, attribute, header or parameter name, in any case and with any separators:
            ``email_verification_token``, ``X-API-Key``, ``HTTP_COOKIE``, ``accessToken``.
    """
    if len(name) <= _MAX_KNOWN_LENGTH:
        return _is_known_secret(name)
    # Nobody calls an innocent value so: the cost of judging a name has to end somewhere.
    return len(name) > _MAX_NAME_LENGTH or _is_secret(name)


def _is_secret(name: str) -> bool:
    parts = [part for part in _SPLIT.split(name) if part]
    if not parts:
        return False
    words = [word.lower() for part in parts for word in _ACRONYM.split(part)]
    if (
        _STEM.search("".join([_INNOCENT.sub("", part.lower()) for part in parts])) is None
        and _WORDS.isdisjoint(words)
        and _WORDS.isdisjoint([part.lower() for part in parts])  # userSId
    ):
        return False
    return len(words) == 1 or words[-1] not in _ABOUT


_is_known_secret: Final = lru_cache(maxsize=4096)(_is_secret)


_OAUTH_SIBLINGS: Final = frozenset(
    [
        "access_token",
        "authorize_url",
        "client_id",
        "grant_type",
        "id_token",
        "redirect_uri",
        "response_type",
        "scope",
        "token_data",
    ]
)
OAUTH_NAMES: Final = frozenset({"code", "state"})
"""Names that are secrets in an OAuth exchange and everyday words elsewhere."""


def is_oauth_exchange(names: Collection[object]) -> bool:
    """Return whether ``code`` and ``state`` beside these names are OAuth's.

    Both together are the parameters of every OAuth callback (RFC 6749, section 4.1.2).
    """
    return ("code" in names and "state" in names) or not _OAUTH_SIBLINGS.isdisjoint(names)


def looks_random(value: object) -> bool:
    """Return whether a string looks generated rather than written: ``4/0AX4XfWj``, not ``paid``."""
    if not isinstance(value, str) or len(value) < 8 or not value.isascii():
        return False
    if any(character.isspace() for character in value):
        return False
    digits = any(character.isdigit() for character in value)
    letters = any(character.isalpha() for character in value)
    return (digits and letters) or not (
        value.islower() or value.isupper() or value[1:].islower() or not letters
    )


def redact_text(text: str) -> str:
    """Return the text with the secrets that can be told by their form replaced.

    Takes time linear in the length of the text. Returns the same object when nothing is found.
    What was redacted before stays as it is.
    """
    if text.isalnum():  # every form has something else in it
        return text
    # Most strings hold none of these words, and looking for one costs nanoseconds, while the
    # expressions try all of theirs at every character.
    given = text
    folded = text.casefold()
    if "=" in text or ":" in text or "'" in text or '"' in text or "%3" in text:
        if "://" in text and "@" in text:
            text = _USERINFO.sub(rf"\1{REPLACEMENT}@", text)
        if "<" in text:
            text = _TAG.sub(_redact_tag, text)
        if _holds(folded, _NAME_HINTS):
            text = _HEADER.sub(rf"\1{REPLACEMENT}", text)
            text = _redact_assignments(text)
        if "code=" in text or "state=" in text:
            text = _redact_oauth(text)
    if "eyJ" in text:
        text = _JWT.sub(lambda match: REPLACEMENT if match[1] else match[0], text)
    if "$" in text:
        text = _HASH.sub(REPLACEMENT, text)
    if "/" in text and _holds(folded, _LINK_HINTS):
        text = _LINK.sub(rf"\1{REPLACEMENT}", text)
    if " " in text:
        if _holds(text, _ROW_MARKS):
            text = _ROW.sub(rf"\1{REPLACEMENT}", text)
        if "bearer" in folded or "basic" in folded:
            text = _SCHEME.sub(rf"\1 {REPLACEMENT}", text)
    return given if text == given else text


def may_hold_secrets(text: str) -> bool:
    """Return False if :func:`redact_text` would leave this text, and each of its lines, as it is.

    Much cheaper than that, and true of several texts at once, joined by line feeds.
    """
    folded = text.casefold()
    return (
        "$" in text
        or "eyJ" in text
        or (
            (":" in text or "=" in text or "'" in text or '"' in text or "%3" in text)
            and _may_name(text, folded)
        )
        or ("/" in text and _holds(folded, _LINK_HINTS) and _LINK.search(text) is not None)
        or (" " in text and ("bearer" in folded or "basic" in folded or _holds(text, _ROW_MARKS)))
    )


def _may_name(text: str, folded: str) -> bool:
    return (
        "<" in text
        or _holds(folded, _NAME_HINTS)
        or "code=" in text
        or "state=" in text
        or ("@" in text and "://" in text and _USERINFO.search(text) is not None)
    )


def _holds(text: str, words: tuple[str, ...]) -> bool:
    for word in words:  # noqa: SIM110 - any() with a generator takes three times as long
        if word in text:
            return True
    return False


def redact_bytes(data: bytes) -> bytes:
    """Do for bytes what :func:`redact_text` does for text (UTF-8 or not)."""
    text = data.decode("latin-1")
    clean = redact_text(text)
    return data if clean is text else clean.encode("latin-1")


# Each expression below takes time linear in the text: what is repeated is bounded, or can't begin
# again inside of what it has passed.

# scheme://user:password@host
_USERINFO: Final = re.compile(r"(://)[^\s/?#\"'<>]{1,512}@")
# "Cookie: a=b; c=d" and "Authorization: Bearer x" hold secrets to the end of the line.
_HEADER: Final = re.compile(
    r"(?i)(\b(?:set-)?cookie2?[\"']?\s{0,4}:\s{0,4}|\b(?:proxy-)?authorization[\"']?\s{0,4}:\s{0,4})"
    r"[^\r\n]+"
)
# name=value, name: value, "name": "value", name 'value', user[name]=value, and the same
# percent-encoded. The name begins at its secret part: what stands before it changes nothing.
_NAME: Final = re.compile(
    r"(?i)(?P<name>(?:password|passwd|passphrase|passcode|secret|token|csrf|xsrf|jwt|api[_-]?key|"
    r"access[_-]?key|private[_-]?key|credential|session[_-]?id|sessid|session[_-]?key|signature|"
    r"(?<![a-z])pwd|(?<![a-z])sid|(?<![a-z])otp)"
    r"(?=(?P<more>[\w\-]{0,256}))(?P=more))"  # taken once: nothing that follows begins so
    r"(?:(?:\]|%5D)?(?:(?:\[|%5B)\w{0,32}(?:\]|%5D)){0,3}"
    r"(?:\\{0,3}[\"']|%22)?\s{0,8}(?:=>|=|:|%3D|%3A)\s{0,8}|\s{1,4}(?=b?[\"']))"
)
# What stands behind the name. A quoted text ends with its line, unless the next quote of its kind
# can only be its end. A list, a map or a call ends with its line, too, and where it only begins
# there, with the last line of those that are indented as the next one is.
_VALUE: Final = re.compile(
    r"(?i)(?P<before>b?(?P<quote>\\{0,3}[\"']))(?:[^\r\n]*?(?<!\\)(?P=quote)|"
    r"(?:(?!(?P=quote))[\s\S]){1,1024}(?<![\s=:,(\[{\\])(?P=quote)(?!\w)|[^\r\n]*)"
    r"|(?!//|[\[{]\s{0,8}[\]}])(?:"
    r"(?!\[redacted\])[\[{](?:"
    r"[ \t]{0,64}\r?\n(?P<indent>[ \t]{1,64})(?=\S)[^\r\n]*(?:\r?\n(?P=indent)[^\r\n]*)*|[^\r\n]*)|"
    r"[\w.]{0,64}\((?=b?\\{0,3}[\"'])[^\r\n]*|"
    r"(?:%20|\+){0,4}%(?:22|27|5B|7B)[^\s&\"'<>]*|"
    r"\[redacted\][^\s&;,\"'<>)\]}\\]*|[^\s&;,\"'<>)\]}\\]+)"
)
# A part of every name that the two expressions above look for.
_NAME_HINTS: Final = (
    "pass",
    "secret",
    "token",
    "srf",
    "jwt",
    "key",
    "credential",
    "sess",
    "signature",
    "pwd",
    "sid",
    "otp",
    "cookie",
    "authorization",
)
# What databases and SQLAlchemy say about a row without naming the columns, so that a secret among
# the values can't be told (PostgreSQL, MySQL, SQL Server, and SQLAlchemy's own text).
_ROW: Final = re.compile(
    r"(DETAIL:[ \t]{0,8}(?=Key \(|Failing row )|Duplicate entry (?=')|duplicate key value is |"
    r"\[parameters: )(?!\[redacted)\S[^\r\n]*"
)
_ROW_MARKS: Final = ("DETAIL:", "Duplicate entry '", "duplicate key value is ", "[parameters: ")
_TAG: Final = re.compile(r"(?i)<(?:input|meta)\b[^>]{0,4096}")
_TAG_NAME: Final = re.compile(r"(?i)\b(?:name|id|property)\s*=\s*[\"']?([^\s\"'>]+)")
_TAG_VALUE: Final = re.compile(r"(?i)(\b(?:value|content)\s*=\s*)(\"[^\"]*\"?|'[^']*'?|[^\s>]+)")
_PARAMETER: Final = re.compile(r"(?i)((?:^|[?&;\s])(code|state)=)([^&;\s#\"'<>]+)")
_PARAMETER_NAME: Final = re.compile(r"(?:^|[?&;\s])([A-Za-z_]{1,32})=")
# The dots are looked for afterwards: a match takes the whole run, so that no run is read twice.
_JWT: Final = re.compile(r"eyJ[\w-]{5,}(\.[\w-]{5,}(?:\.[\w-]*)?)?")
_HASH: Final = re.compile(
    r"\$2[abxy]?\$\d\d\$[./A-Za-z0-9]{1,53}|\$argon2\w{1,3}\$\S+|"
    r"\$[156y]\$\S{8,}|pbkdf2[\w:]{0,40}\$\S+|scrypt:[\w:]{1,40}\$\S+"
)
# /verify-email/<token>, /reset/<user id>/<token>
_LINK: Final = re.compile(
    r"(?i)(/[\w-]{0,32}(?:verif|reset|confirm|activat|token|invit|magic|unsubscrib)[\w-]{0,32}/"
    r"(?:[\w-]{1,15}/)?)[\w\-=.~]{16,}"
)
_LINK_HINTS: Final = (
    "verif", "reset", "confirm", "activat", "token", "invit", "magic", "unsubscrib",
)  # fmt: skip
_SCHEME: Final = re.compile(r"(?i)\b(bearer|basic)\s+(?=[\w.~+/=-]*[\d=.])[\w.~+/=-]{8,}")


def _redact_assignments(text: str) -> str:
    # Not one expression for both: of a name that is innocent, the value must be searched, too.
    parts: list[str] = []
    done = at = 0
    while (found := _NAME.search(text, at)) is not None:
        at = found.end()
        if not is_secret_name(found["name"]):
            continue
        value = _VALUE.match(text, at)
        if value is None:
            continue
        parts += (text[done:at], value["before"] or "", REPLACEMENT, value["quote"] or "")
        done = at = value.end()
    return "".join(parts) + text[done:] if parts else text


def _redact_tag(match: re.Match[str]) -> str:
    name = _TAG_NAME.search(match[0])
    if name is None or not is_secret_name(name[1]):
        return match[0]
    return _TAG_VALUE.sub(rf'\1"{REPLACEMENT}"', match[0])


def _redact_oauth(text: str) -> str:
    exchange = is_oauth_exchange({name.lower() for name in _PARAMETER_NAME.findall(text)})
    return _PARAMETER.sub(
        lambda match: match[1] + REPLACEMENT if exchange or looks_random(match[3]) else match[0],
        text,
    )
