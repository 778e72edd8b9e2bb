"""Registering users over HTTP and taking the time, as a browser would see it."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lback_relay.demo.processes import DemoFailed

REGISTER_PATH: Final = "/api/auth/register/"
PASSWORD: Final = "Correct-horse-7"  # noqa: S105 - of users that live for a minute
CREATED: Final = 201
ANSWER_TIMEOUT_S: Final = 30.0
POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Registration:
    """One try to register.

    Attributes:
        email: the address that a mail is due to if the user was registered.
        status: of the HTTP answer; 0 when there was none.
        took_s: from connecting to the whole answer.
        answer: the body's beginning, or the error.
    """

    email: str
    status: int
    took_s: float
    answer: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the user was registered."""
        return self.status == CREATED


def register(host: str, username: str) -> Registration:
    """Register ``username`` at ``host`` (``name:port``), with an address of its own."""
    email = f"{username}@example.org"
    data = json.dumps({"username": username, "email": email, "password": PASSWORD})
    started = time.perf_counter()
    try:
        status, answer = _request(host, "POST", REGISTER_PATH, data)
    except (OSError, http.client.HTTPException) as error:
        return Registration(email, 0, time.perf_counter() - started, repr(error))
    return Registration(email, status, time.perf_counter() - started, answer[:200])


def wait_for_answer(host: str, *, timeout_s: float, check: Callable[[], None]) -> None:
    """Wait until the web application answers anything at all.

    Args:
        host: ``name:port``.
        timeout_s: how long it may take to start.
        check: called between tries; raises when waiting is pointless.

    Raises:
        DemoFailed: the time is up.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        check()
        try:
            _request(host, "GET", "/", None, timeout_s=1.0)
        except (OSError, http.client.HTTPException):
            if time.monotonic() > deadline:
                raise DemoFailed(
                    f"the web application at {host} did not answer within {timeout_s:g} s"
                ) from None
            time.sleep(POLL_S)
        else:
            return


def _request(
    host: str, method: str, path: str, data: str | None, *, timeout_s: float = ANSWER_TIMEOUT_S
) -> tuple[int, str]:
    connection = http.client.HTTPConnection(host, timeout=timeout_s)
    try:
        connection.request(method, path, data, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()
