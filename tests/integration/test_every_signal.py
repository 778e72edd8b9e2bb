"""Every signal of the framework can be relayed: driven for real, and from real instances."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lback_relay.codec import decode
from lback_relay.demo.project_files import create_project, project_environment
from lback_relay.envelope import Envelope
from lback_relay.lback.catalogue import SIGNALS

pytestmark = pytest.mark.lback

SUPPORT = Path(__file__).resolve().parents[1] / "support"
TIMEOUT_S = 110

_URLS = """
from lback.core.urls_utils import include

urlpatterns = [
    include("lback.auth_app.urls", prefix="/"),
    include("myproject.own", prefix="/own/"),
]
"""
_OWN = """
from lback.utils.urls import path


def crash(request):
    raise RuntimeError("can't connect to postgres://shop:planted8secret7of6nobody@db/shop")


urlpatterns = [path("crash/", crash, allowed_methods=["GET"], requires_auth=False)]
"""


@pytest.fixture(scope="session")
def driven(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Give the outcome of one run of the real framework, in a process of its own."""
    folder = create_project(tmp_path_factory.mktemp("driven") / "project")
    (folder / "myproject" / "urls.py").write_text(_URLS)
    (folder / "myproject" / "own.py").write_text(_OWN)
    environment = project_environment(
        host="127.0.0.1:8000", smtp_port=1, login="shop@example.org", relay_url=None
    )
    environment["PYTHONPATH"] = f"{SUPPORT.parent}:{SUPPORT.parents[1]}:{folder}"
    results = folder.parent / "results.json"
    ran = subprocess.run(
        [sys.executable, "-m", "support.lback_drive", str(results)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
    found: dict[str, Any] = json.loads(results.read_text())
    return found


def problems(driven: dict[str, Any], signal: str) -> list[str]:
    """Return what is wrong with the outcomes of one signal, one line each."""
    found = []
    for number, outcome in enumerate(driven["outcomes"]):
        if outcome["signal"] != signal:
            continue
        where = f"{number}, {'driven' if outcome['driven'] else 'from instances'}: "
        if outcome["error"]:
            found.append(where + outcome["error"])
            continue
        encoded = base64.b64decode(outcome["encoded"])
        if outcome["statements"]:
            found.append(f"{where}ran SQL: {outcome['statements']}")
        if outcome["keys"][0] != outcome["keys"][1]:
            found.append(f"{where}lost a key: {outcome['keys']}")
        if not outcome["equal"]:
            found.append(f"{where}changed on the way: {decode(encoded).payload}")
        if outcome["sender"][0] != outcome["sender"][1]:
            found.append(f"{where}the sender's type: {outcome['sender']}")
        if outcome["unreadable"]:
            found.append(f"{where}a value could not be read: {decode(encoded).payload}")
        found += [
            f"{where}leaks {secret!r}: {decode(encoded).payload}"
            for secret in driven["secrets"]
            if secret.encode() in encoded
        ]
    return found


@pytest.mark.parametrize("signal", sorted(SIGNALS))
def test_the_signal_is_relayed_without_sql_and_without_secrets(
    driven: dict[str, Any], signal: str
) -> None:
    """What comes out of the bytes is what went in, and nothing that must not."""
    assert problems(driven, signal) == []


def test_every_signal_was_covered(driven: dict[str, Any]) -> None:
    """All 186 from instances, and those of everyday life from the framework itself."""
    outcomes = driven["outcomes"]
    assert {outcome["signal"] for outcome in outcomes if not outcome["driven"]} == set(SIGNALS)
    assert len(SIGNALS) == 186
    for_real = {outcome["signal"] for outcome in outcomes if outcome["driven"]}
    assert len(for_real) >= 90, sorted(set(SIGNALS) - for_real)
    assert len(driven["secrets"]) > 5


def payloads(driven: dict[str, Any], signal: str) -> list[Envelope]:
    """Return what a handler of the signal gets, for each time it was really sent."""
    return [
        decode(base64.b64decode(outcome["encoded"]))
        for outcome in driven["outcomes"]
        if outcome["signal"] == signal and outcome["driven"]
    ]


def test_a_local_receivers_code_works(driven: dict[str, Any]) -> None:
    """The example of Lback's documentation, and what a welcome mail needs."""
    lines = [
        f"{type(envelope.sender).__name__} {envelope.payload['status_code']} "
        f"{envelope.payload['request'].path} {envelope.payload['response'].status_code}"
        for signal in ("error_response_generated", "unhandled_exception_response_generated")
        for envelope in payloads(driven, signal)
    ]
    assert "ErrorHandler 404 /nowhere/ 404" in lines
    assert "ErrorHandler 500 /own/crash/ 500" in lines
    registered = payloads(driven, "user_registered")[0]
    assert type(registered.sender).__name__ == "UserManager"
    assert registered.payload["user"].email == "bob@example.org"
    assert registered.payload["user"].identity == (1,)
    crashed = payloads(driven, "exception_caught")[-1].payload["exception"]
    assert type(crashed).__name__ == "RuntimeError"
    assert crashed.args[0].endswith("@db/shop")
    matched = payloads(driven, "route_matched")[0].payload
    assert matched["view"].__name__ == "register_user_view"
    assert matched["request"].method == "POST"
