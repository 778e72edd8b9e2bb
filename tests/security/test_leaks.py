"""Every signal that carries a secret, from the framework to a dead letter: it is nowhere."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from integration.test_every_signal import driven
from security.support.attacks import AttackTable
from security.support.places import in_outbox, in_spool, of_a_supervisor, run
from support.brokers import raw_client
from support.waiting import wait_until
from support.workers import publish_bytes

from lback_relay.broker import connect
from lback_relay.config import RelayConfig
from lback_relay.spool_place import spool_path

__all__ = ["driven"]

pytestmark = [pytest.mark.lback, pytest.mark.broker]

ROOT = Path(__file__).parents[2]
# The signals of the framework whose keyword arguments are secrets, or hold them.
CARRYING = (  # noqa: SIM905 - one name a line would fill a page
    "admin_logout_attempt admin_logout_successful csrf_token_generated csrf_token_validated "
    "csrf_token_validation_failed jwt_access_token_created jwt_decode_failed "
    "jwt_refresh_token_created jwt_token_decoded oauth2_authorize_url_generated "
    "oauth2_token_fetch_failed oauth2_token_fetched oauth2_token_refresh_failed "
    "oauth2_token_refreshed password_reset_failed password_reset_started serializer_pre_save "
    "serializer_validation_started serializer_validation_succeeded server_request_finished "
    "server_request_received session_data_set session_operation_failed "
    "user_email_verification_failed user_logged_out user_pre_create user_pre_update "
    "user_update_failed user_update_started wsgi_application_error"
).split()
HANDLERS = """
from lback_relay import remote_dispatcher

def handle(sender, **payload):
    raise ValueError(f"can't handle {payload!r}")

for signal in %r:
    remote_dispatcher.connect(signal, handle, max_attempts=1)
"""


@pytest.mark.timeout(300)
def test_no_secret_is_found_anywhere(
    driven: dict[str, Any],
    redis_url: str,
    namespace: str,
    tmp_path: Path,
    attack_table: AttackTable,
) -> None:
    """Not in Redis, spool, outbox, logs at debug, titles of processes, or what commands print."""
    sent: dict[str, list[bytes]] = {name: [] for name in CARRYING}
    for outcome in driven["outcomes"]:
        if outcome["signal"] in sent and not outcome["error"]:
            sent[outcome["signal"]].append(base64.b64decode(outcome["encoded"]))
    assert len(sent) == 30
    assert all(sent.values()), [name for name, envelopes in sent.items() if not envelopes]
    (tmp_path / "handlers.py").write_text(HANDLERS % (CARRYING,))
    password = "planted-broker-c0ffee"
    clean = {name: text for name, text in os.environ.items() if "LBACK_" not in name}
    environment = {
        **clean,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'worker'}",
        "LBACK_RELAY_URL": redis_url,
        "LBACK_RELAY_NAMESPACE": namespace,
        "LBACK_RELAY_SPOOL_DIR": str(tmp_path / "spool"),
    }
    broker = connect(redis_url, namespace=namespace, timeout_s=30.0)
    found: dict[str, bytes] = {}
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [
                *(sys.executable, "-m", "lback_signal_worker", "handlers", "--group", "leaks"),
                *("--log-level", "debug"),
            ],
            cwd=tmp_path, env=environment, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            for signal, envelopes in sent.items():
                publish_bytes(broker, envelopes, signal)
            wait_until(
                lambda: all(
                    broker.backlog(signal, "leaks")["dead"] == len(sent[signal])
                    for signal in CARRYING
                ),
                timeout_s=200,
                what="every envelope is a dead letter",
            )
        finally:
            worker.terminate()
            worker.wait(60)
    found["log"] = (tmp_path / "worker.log").read_bytes()
    found["dead list"] = listed = run(tmp_path, environment, "dead", "list", "--ids")
    found["dead list as JSON"] = run(tmp_path, environment, "dead", "list", "--json")
    ids = re.findall(rb"\d{13}-\d+", listed + found["dead list as JSON"])
    found["dead show"] = b"".join(
        run(tmp_path, environment, "dead", "show", each.decode(), "--values") for each in ids[:5]
    )
    found["check"] = run(tmp_path, environment, "check")
    wrong = {**environment, "LBACK_RELAY_URL": f"redis://:{password}@127.0.0.1:1/0"}
    path = spool_path(
        tmp_path / "spool",
        RelayConfig(url=wrong["LBACK_RELAY_URL"], namespace=namespace, signals={}),
    )
    found["spool"] = in_spool(tmp_path / "spool", path, sent)
    for command in (("check",), ("dead", "list"), ("spool", "status"), ("spool", "drain")):
        found[f"{command} without a broker"] = run(tmp_path, wrong, *command)
    (tmp_path / "outbox").mkdir()
    found |= in_outbox(tmp_path / "outbox", wrong, sent)
    found |= of_a_supervisor(tmp_path, wrong)
    with raw_client(redis_url) as client:
        for key in client.scan_iter(match=f"{namespace}*", count=1000):
            kept = client.xrange(key) if client.type(key) == b"stream" else client.dump(key)
            found[f"redis {key!r}"] = b"".join(
                [value for _, fields in kept for value in fields.values()]
                if isinstance(kept, list)
                else [kept or b""]
            )
    broker.close()
    secrets = [secret.encode() for secret in (*driven["secrets"], password)]
    leaks = {
        (place, secret) for place, content in found.items() for secret in secrets
        if secret in content
    }  # fmt: skip
    tried = len(found) * len(secrets)
    attack_table.record("a secret of a signal, looked for", tried, tried - len(leaks))
    # Each place was looked into: something that is no secret is there.
    assert found["log"].count(b"can't handle") >= 30
    assert all(signal.encode() in found[place] for place in ("spool", "outbox") for signal in sent)
    status = found["('spool', 'status') without a broker"]
    assert all(signal.encode() in status for signal in sent)
    assert found["outbox listed"].count(b" left") == len(sent)
    assert found["titles of processes"].count(b"lback_signal_worker") >= 2
    assert leaks == set()
