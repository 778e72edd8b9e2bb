"""TLS and the socket of a host: verified unless told otherwise, against a real server."""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from security.support.attacks import AttackTable
from support.brokers import binary_of, running_server
from support.workers import SIGNAL, publish

from lback_relay.broker import connect
from lback_relay.errors import BrokerError


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


def make_authority(folder: Path) -> Path:
    """Make a certificate authority in a new folder; return its certificate."""
    folder.mkdir()
    openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Test CA"),
        *("-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.pem")),
    )
    return folder / "ca.pem"


def make_certificate(authority: Path, name: str, names: str) -> tuple[Path, Path]:
    """Make a certificate for these names; return it and its key."""
    folder = authority.parent
    certificate, key, request = (folder / f"{name}.{end}" for end in ("pem", "key", "csr"))
    extensions = folder / f"{name}.ext"
    extensions.write_text(f"subjectAltName={names}\n")
    openssl(
        *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"),
        *("-keyout", str(key), "-out", str(request)),
    )
    openssl(
        *("x509", "-req", "-in", str(request), "-CA", str(authority), "-days", "2"),
        *("-CAkey", str(folder / "ca.key"), "-CAcreateserial", "-extfile", str(extensions)),
        *("-out", str(certificate)),
    )
    return certificate, key


@dataclass(frozen=True)
class Secured:
    """A server with TLS, and what its clients need."""

    port: int
    authority: Path
    stranger: Path
    client: tuple[Path, Path]

    def url(self, host: str = "127.0.0.1", **options: object) -> str:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"rediss://{host}:{self.port}/0?{query}"

    @property
    def own(self) -> dict[str, Any]:
        return {"ssl_certfile": self.client[0], "ssl_keyfile": self.client[1]}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Yield a server that has a certificate for 127.0.0.1 and asks its clients for theirs."""
    folder = tmp_path_factory.mktemp("tls")
    authority = make_authority(folder / "ours")
    certificate, key = make_certificate(authority, "server", "IP:127.0.0.1")
    client = make_certificate(authority, "client", "DNS:client")
    port = free_port()
    options = (
        *("--tls-port", str(port), "--tls-cert-file", str(certificate)),
        *("--tls-key-file", str(key), "--tls-ca-cert-file", str(authority)),
    )
    with running_server(*options, binary=binary_of("redis")):
        yield Secured(port, authority, make_authority(folder / "theirs"), client)


def reaches(url: str) -> bool:
    broker = connect(url, namespace="test-tls", timeout_s=10.0)
    try:
        broker.ping()
    except BrokerError:
        return False
    else:
        return True
    finally:
        broker.close()


def test_envelopes_are_published_over_tls(secured: Secured, namespace: str) -> None:
    """With the authority's certificate, and the client's own."""
    url = secured.url(ssl_ca_certs=secured.authority, **secured.own)
    broker = connect(url, namespace=namespace, timeout_s=10.0)
    publish(broker, [{"number": 1}])
    assert broker.backlog(SIGNAL, "any")["waiting"] == 1
    broker.close()


def test_a_server_or_client_that_is_not_who_it_says_is_refused(
    secured: Secured, attack_table: AttackTable
) -> None:
    """Verification is on unless the URL turns it off; the server asks for certificates, too."""
    attempts = [
        secured.url(**secured.own),
        secured.url(ssl_ca_certs=secured.stranger, **secured.own),
        secured.url("localhost", ssl_ca_certs=secured.authority, **secured.own),
        secured.url(ssl_ca_certs=secured.authority),
    ]
    stopped = [not reaches(url) for url in attempts]
    attack_table.record("a TLS peer that is not who it says", len(stopped), sum(stopped))
    assert all(stopped)
    assert reaches(secured.url(ssl_cert_reqs="none", **secured.own))


def test_a_socket_of_the_host_will_do(namespace: str) -> None:
    """``unix://`` needs no port and no certificate."""
    with tempfile.TemporaryDirectory(prefix="lr-") as folder:
        path = Path(folder) / "redis.sock"
        options = ("--unixsocket", str(path), "--unixsocketperm", "700")
        with running_server(*options, binary=binary_of("redis")):
            broker = connect(f"unix://{path}", namespace=namespace, timeout_s=10.0)
            publish(broker, [{"number": 1}])
            assert broker.backlog(SIGNAL, "any")["waiting"] == 1
            broker.close()
