"""A real Lback application and a real worker, end to end: what a user of Lback expects of both."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.lback_project import LbackProject, lback_project, served
from support.smtp_server import SmtpServer, smtp_server
from support.waiting import wait_until

from lback_relay.demo.processes import Child
from lback_relay.demo.registration import register

pytestmark = [
    pytest.mark.broker,
    pytest.mark.lback,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]
README = Path(__file__).resolve().parents[2] / "README.md"

# The receiver of Lback's own documentation, word for word.
DOCUMENTED_RECEIVER = """
def my_custom_error_handler(sender, **kwargs):
    status = kwargs.get('status_code', 'N/A')
    path = getattr(kwargs.get('request'), 'path', 'N/A')
    print(f"Signal received from: {type(sender).__name__}, Status: {status}, Path: {path}")
"""
ERROR_SIGNALS = ("error_response_generated", "unhandled_exception_response_generated")

FAILING_VIEWS = """

def broken(request):
    raise RuntimeError("no such luck")


def refused(request):
    return request.error_handler.handle_500(ValueError("given up"))


from lback.utils.urls import path as _path
from types import ModuleType as _ModuleType
import sys as _sys

_views = _ModuleType("shop_failing_urls")
_views.urlpatterns = [
    _path("broken/", broken, allowed_methods=["GET"], name="broken", requires_auth=False),
    _path("refused/", refused, allowed_methods=["GET"], name="refused", requires_auth=False),
]
_sys.modules["shop_failing_urls"] = _views
urlpatterns.append(include("shop_failing_urls", prefix="/"))
"""

ROW_HANDLER = """
import json, os
from lback.models.user import User
from lback_relay import HandlerContext, remote_dispatcher
from lback_relay.lback.database import worker_session


@remote_dispatcher.receiver("user_registered")
def find_row(sender, user, context: HandlerContext, **kwargs):
    with worker_session() as session:
        row = user.load(session)
        found = None if row is None else {"email": row.email, "groups": len(list(row.groups))}
    line = {"sender": type(sender).__name__, "is_row": type(row) is User, "row": found,
            "snapshot": user.email, "attempt": context.attempt, "worker": os.getpid()}
    with open("rows.jsonl", "a") as ledger:
        ledger.write(json.dumps(line) + "\\n")
"""


@contextmanager
def running_worker(project: LbackProject, *modules: str, name: str = "worker") -> Iterator[Child]:
    """Run a worker in the project's folder until the block ends."""
    with Child(
        name,
        ["-m", "lback_signal_worker", *modules],
        folder=project.folder,
        environment={**project.environment, "EMAIL_USERNAME": f"{name}@example.org"},
        log=project.folder.parent / f"{name}.log",
    ) as child:
        yield child


def until(predicate: Callable[[], object], what: str, worker: Child) -> None:
    """Wait for what the worker does; on failure its log tells why."""

    def holds() -> bool:
        worker.check()
        return bool(predicate())

    try:
        wait_until(holds, timeout_s=60, what=what)
    except AssertionError as error:
        raise AssertionError(f"{error}; {worker.tail()}") from None


def get(host: str, path: str) -> int:
    """Return the status of a GET."""
    connection = http.client.HTTPConnection(host, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture
def smtp() -> Iterator[SmtpServer]:
    """A mail server that takes everything at once."""
    with smtp_server() as server:
        yield server


@pytest.fixture
def project(
    tmp_path: Path, redis_url: str, namespace: str, smtp: SmtpServer
) -> Iterator[LbackProject]:
    """A seeded project that relays to this test's namespace."""
    with lback_project(
        tmp_path / "project",
        redis_url=redis_url,
        namespace=namespace,
        smtp_port=smtp.port,
        login="web@example.org",
    ) as made:
        yield made


def test_a_handler_finds_the_committed_row(project: LbackProject) -> None:
    """``user_registered`` is sent before the commit; its handler runs after it."""
    project.append("myproject/row_handlers.py", ROW_HANDLER)
    ledger = project.folder / "rows.jsonl"
    with running_worker(project, "myproject.row_handlers") as worker, served(project, "waitress"):
        made = register(project.host, "ada")
        assert made.status == 201, made.answer
        until(ledger.exists, "the handler has written its row", worker)
    (line,) = [json.loads(text) for text in ledger.read_text().splitlines()]
    assert line == {
        "sender": "UserManager",
        "is_row": True,
        "row": {"email": "ada@example.org", "groups": 1},
        "snapshot": "ada@example.org",
        "attempt": 1,
        "worker": line["worker"],
    }


def test_the_documented_receiver_prints_the_same_line_in_both_processes(
    project: LbackProject,
) -> None:
    """A real 404, a real unhandled 500, and a 500 that a view answers with itself."""
    project.append("myproject/receivers.py", DOCUMENTED_RECEIVER)
    connect = "".join(
        f"dispatcher.connect({signal!r}, my_custom_error_handler)\n" for signal in ERROR_SIGNALS
    )
    both = "from myproject.receivers import my_custom_error_handler\n"
    project.append(
        "myproject/wsgi.py", f"\nfrom lback.core.signals import dispatcher\n{both}{connect}"
    )
    project.append(
        "myproject/error_handlers.py",
        "from lback_relay import remote_dispatcher as dispatcher\n" + both + connect,
    )
    project.append("myproject/urls.py", FAILING_VIEWS)
    project.append("settings.py", f"\nRELAY_SIGNALS = {list(ERROR_SIGNALS)!r}\n")
    with running_worker(project, "myproject.error_handlers") as worker:
        with served(project, "waitress") as web:
            assert get(project.host, "/no/such/page/") == 404
            assert get(project.host, "/broken/") == 500
            assert get(project.host, "/refused/") == 500
            until(lambda: len(printed(worker)) >= len(printed(web)), "the lines", worker)
        assert sorted(printed(worker)) == sorted(printed(web))
    assert {
        "Signal received from: ErrorHandler, Status: 404, Path: /no/such/page/",
        "Signal received from: ErrorHandler, Status: 500, Path: /broken/",
        # The framework gives no request to the 500 that a view answers with itself.
        "Signal received from: ErrorHandler, Status: 500, Path: N/A",
    } <= set(printed(web))


def printed(child: Child) -> list[str]:
    """Return what the documented receiver has printed in a process."""
    return [
        line
        for line in child.log.read_text(errors="replace").splitlines()
        if line.startswith("Signal received from: ")
    ]


def test_the_readme_is_true(project: LbackProject, smtp: SmtpServer) -> None:
    """Its settings and handlers, run as it says, print and send what it says."""
    text = README.read_text()
    blocks: dict[str, str] = {
        match[1]: match[2]
        for match in re.finditer(r"```python\n# (\S+)\n(.*?)```", text, flags=re.DOTALL)
    }
    (promised,) = re.findall(r"The worker prints.*?```\n(.*?)\n```", text, flags=re.DOTALL)
    (command,) = re.findall(r"^\$ lback-signal-worker (.*)$", text, flags=re.MULTILINE)
    (sent,) = re.findall(r"-d '(\{.*?\})'", text)
    project.append("settings.py", "\n" + blocks["settings.py"])
    (project.folder / "myproject" / "handlers.py").write_text(blocks["myproject/handlers.py"])
    account: dict[str, Any] = json.loads(sent)
    with running_worker(project, *command.split()) as worker, served(project, "waitress"):
        made = register(project.host, account["username"])
        assert made.status == 201, made.answer
        until(
            lambda: promised in worker.log.read_text().splitlines(),
            "the worker has printed what the README says",
            worker,
        )
        assert smtp.wait_for_mails(1, 60)
    (mail,) = smtp.mails
    assert mail.to == (account["email"],)
    assert mail.login == "worker@example.org"


def test_two_groups_each_run_the_registration(
    project: LbackProject,
) -> None:
    """What one service has handled, another one still gets."""
    project.append(
        "myproject/group_handlers.py",
        "from lback_relay import HandlerContext, remote_dispatcher\n"
        "@remote_dispatcher.receiver('user_registered')\n"
        "def note(sender, user, context: HandlerContext, **kwargs):\n"
        "    with open('groups.txt', 'a') as ledger:\n"
        "        ledger.write(f'{context.group} {user.username}\\n')\n",
    )
    ledger = project.folder / "groups.txt"
    expected = ["billing ada", "search ada"]
    module = "myproject.group_handlers"
    with (
        running_worker(project, module, "--group", "billing", name="billing") as billing,
        running_worker(project, module, "--group", "search", name="search"),
        served(project, "gunicorn"),
    ):
        assert register(project.host, "ada").status == 201
        until(
            lambda: ledger.exists() and len(ledger.read_text().splitlines()) == len(expected),
            "both groups have handled the registration",
            billing,
        )
    assert sorted(ledger.read_text().splitlines()) == expected
