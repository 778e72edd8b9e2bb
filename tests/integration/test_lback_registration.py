"""Registering over HTTP with the real framework under each server, and what reaches the broker."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.lback_project import SERVERS, LbackProject, lback_project, served
from support.smtp_server import smtp_server
from support.waiting import wait_until

from lback_relay.broker import connect
from lback_relay.codec import decode
from lback_relay.demo.processes import DemoFailed
from lback_relay.demo.registration import register
from lback_relay.envelope import Envelope

pytestmark = [pytest.mark.lback, pytest.mark.broker, pytest.mark.slow]

ERRORS = ["error_response_generated", "unhandled_exception_response_generated"]
SIGNALS = ["user_registered", "email_requested", "order_paid", *ERRORS]


class Relayed:
    """What a project has relayed, as a group of its own reads it."""

    def __init__(self, redis_url: str, namespace: str) -> None:
        self._broker = connect(redis_url, namespace=namespace, client_name="test")
        self._broker.ensure_groups(SIGNALS, "test")
        self.envelopes: list[Envelope] = []

    def read(self) -> list[Envelope]:
        """Return everything so far."""
        for delivery in self._broker.read(SIGNALS, "test", "reader", count=100, block_s=0.05):
            assert delivery.encoded is not None
            self.envelopes.append(decode(delivery.encoded))
        return self.envelopes

    def wait_for(self, count: int) -> list[Envelope]:
        """Wait for that many, and a moment longer for one too many."""
        with contextlib.suppress(AssertionError):
            wait_until(lambda: len(self.read()) >= count)
        assert len(self.envelopes) >= count, self.envelopes
        return self.read()

    def counts(self) -> dict[str, int]:
        """Return how many of each signal there are."""
        return dict(Counter(envelope.signal for envelope in self.read()))


@pytest.fixture
def relayed(redis_url: str, namespace: str) -> Relayed:
    """Return what reads the test's namespace."""
    return Relayed(redis_url, namespace)


def values_of(envelopes: list[Envelope], signal: str, path: str) -> list[Any]:
    """Return one value of each envelope of a signal: ``"user.email"``."""
    name, _, attribute = path.partition(".")
    found = [envelope.payload[name] for envelope in envelopes if envelope.signal == signal]
    return [getattr(value, attribute) for value in found] if attribute else found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("server", SERVERS)
def test_each_registration_is_relayed_once(
    server: str, redis_url: str, namespace: str, relayed: Relayed, tmp_path: Path
) -> None:
    """Its signal and its mail; from the processes that serve, whose parent has forked them."""
    with (
        lback_project(tmp_path / "shop", redis_url=redis_url, namespace=namespace) as project,
        served(project, server) as web,
    ):
        made = [register(project.host, f"user{number}") for number in range(6)]
        assert [one.status for one in made] == [201] * 6, web.tail(60)
        envelopes = relayed.wait_for(12)
    assert relayed.counts() == {"user_registered": 6, "email_requested": 6}
    addresses = sorted(one.email for one in made)
    assert sorted(values_of(envelopes, "user_registered", "user.email")) == addresses
    assert sorted(values_of(envelopes, "email_requested", "to_email")) == addresses
    assert all("token=" in body for body in values_of(envelopes, "email_requested", "body"))
    assert not any("[redacted]" in body for body in values_of(envelopes, "email_requested", "body"))
    origins = {envelope.origin for envelope in envelopes}
    if server.startswith("gunicorn"):
        assert f":{web.pid}" not in {origin[origin.rindex(":") :] for origin in origins}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["refuse", "hang"])
def test_a_mail_server_that_does_not_answer_costs_the_request_nothing(
    mode: Any, redis_url: str, namespace: str, relayed: Relayed, tmp_path: Path
) -> None:
    """The web process does not even try; the mail waits for a worker."""
    with (
        smtp_server(mode=mode) as smtp,
        lback_project(
            tmp_path / "shop", redis_url=redis_url, namespace=namespace, smtp_port=smtp.port
        ) as project,
        served(project, "waitress") as web,
    ):
        assert register(project.host, "ada").status == 201, web.tail(60)
        relayed.wait_for(2)
        assert smtp.connections == 0
    assert relayed.counts() == {"user_registered": 1, "email_requested": 1}


@pytest.mark.timeout(300)
def test_a_broker_that_is_away_costs_the_request_nothing(tmp_path: Path) -> None:
    """Registering works as without the relay."""
    with (
        lback_project(tmp_path / "shop", redis_url="redis://127.0.0.1:1/0") as project,
        served(project, "waitress") as web,
    ):
        for number in range(3):
            assert register(project.host, f"user{number}").status == 201, web.tail(60)


PROBE_URLS = """
from http import HTTPStatus

from lback.core.response import Response
from lback.core import dispatcher_instance, signals
from lback.utils.urls import path


def ask(request):
    session = request.get_context("db_session")
    mode = request.path.strip("/").split("/")[-1]
    users = request.get_context("user_manager")
    users.register_user(session, mode + "user", mode + "@example.org", "Correct-horse-7")
    dispatcher_instance.dispatcher.send("order_paid", "probe", session=session, mode=mode)
    if mode == "raise":
        raise RuntimeError("on purpose")
    if mode == "rollback":
        session.rollback()
    if mode == "savepoint":
        nested = session.begin_nested()
        signals.dispatcher.send("order_paid", "probe", session=session, mode="forgotten")
        nested.rollback()
    return Response(body=mode.encode(), status_code=HTTPStatus.OK.value)


urlpatterns = [
    path("commit/", ask, allowed_methods=["GET"]),
    path("rollback/", ask, allowed_methods=["GET"]),
    path("savepoint/", ask, allowed_methods=["GET"]),
    path("raise/", ask, allowed_methods=["GET"]),
]
"""

CLIENT = """
import json, sys
from myproject.wsgi import application
from werkzeug.test import Client
from lback.core import server
from lback.core.server import initialize_core_components
from lback_relay.lback import current_relay, dispatchers

client = Client(application)
answers = {
    path: client.get(path, environ_base={"REMOTE_ADDR": "127.0.0.1"}).status_code
    for path in sys.argv[1:]
}
server._core_components_initialized = False
initialize_core_components()  # once more, as some programs do
receivers = [len(each._registry.get("order_paid", [])) for each in dispatchers()]
first = server.config.MIDDLEWARES[0]
flushed = current_relay().flush(20)
print(json.dumps([answers, receivers, first, flushed, current_relay().counts()]))
"""


def with_probe(project: LbackProject) -> None:
    """Add views that commit, roll back and raise, and relay what they send."""
    project.append("myproject/probe.py", PROBE_URLS)
    project.append(
        "myproject/urls.py", '\nurlpatterns.append(include("myproject.probe", prefix="/probe"))\n'
    )
    project.append(
        "settings.py",
        f"\nRELAY_SIGNALS = {['user_registered', 'order_paid', *ERRORS]}\n",
    )


@pytest.mark.timeout(300)
def test_nothing_of_a_transaction_that_was_rolled_back_is_relayed(
    redis_url: str, namespace: str, relayed: Relayed, tmp_path: Path
) -> None:
    """Neither signals nor mails, on neither dispatcher; what is committed is, without the rest."""
    with lback_project(tmp_path / "shop", redis_url=redis_url, namespace=namespace) as project:
        with_probe(project)
        modes = ("rollback", "commit", "savepoint", "raise")
        paths = [f"/probe/{mode}/" for mode in modes]
        answers, receivers, first, flushed, counts = project.run_json(CLIENT, *paths)
    assert list(answers.values()) == [200, 200, 200, 500], json.dumps(answers)
    assert (receivers, first) == ([1, 1], "lback_relay.lback.RelayMiddleware")
    assert flushed, counts
    envelopes = relayed.wait_for(7)
    committed = ["commit", "savepoint"]
    assert values_of(envelopes, "order_paid", "mode") == committed
    assert sorted(values_of(envelopes, "user_registered", "user.username")) == [
        f"{mode}user" for mode in committed
    ]
    assert sorted(values_of(envelopes, "email_requested", "to_email")) == [
        f"{mode}@example.org" for mode in committed
    ]
    assert values_of(envelopes, ERRORS[1], "status_code") == [500]


@pytest.mark.timeout(300)
def test_error_responses_are_relayed_as_lbacks_documentation_shows_them(
    redis_url: str, namespace: str, relayed: Relayed, tmp_path: Path
) -> None:
    """A receiver's line can be made of the envelope: sender's type, status code, path."""
    with lback_project(tmp_path / "shop", redis_url=redis_url, namespace=namespace) as project:
        with_probe(project)
        project.run_json(CLIENT, "/no/such/page/", "/probe/raise/")
        envelopes = relayed.wait_for(3)
    lines = [
        (
            envelope.signal,
            type(envelope.sender).__name__,
            envelope.payload["status_code"],
            envelope.payload["request"].path,
        )
        for envelope in envelopes
    ]
    # The framework handles a missing route twice, and sends both times.
    assert sorted(lines) == [
        (ERRORS[0], "ErrorHandler", 404, "/no/such/page/"),
        (ERRORS[0], "ErrorHandler", 404, "/no/such/page/"),
        (ERRORS[1], "ErrorHandler", 500, "/probe/raise/"),
    ]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("server", ["waitress", "gunicorn"])
def test_settings_that_can_not_be_used_keep_the_application_from_starting(
    server: str, redis_url: str, tmp_path: Path
) -> None:
    """With one clear sentence, instead of serving without the relay."""
    with lback_project(tmp_path / "shop", redis_url=redis_url) as project:
        project.append("settings.py", "\nRELAY_SIGNALS = {'user_registered': {'delivry': 'queue'}}")
        with (
            pytest.raises(DemoFailed, match="ended by itself") as stopped,
            served(project, server, workers=1),
        ):
            pass
    assert "delivry: is no option of a signal; did you mean 'delivery'?" in str(stopped.value)
