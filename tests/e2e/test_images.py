"""The image's build steps and the compose file's commands, run without a container engine.

Processes on 127.0.0.1 play the containers. What only an engine does (users, networks, read-only
file systems) is left out; ``tests/unit/test_compose.py`` reads that off the files.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from support.image import SYSTEM_PATH, Image, build
from support.waiting import wait_until

from lback_relay.demo.registration import register

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"
TIMEOUT_S = 120.0

pytestmark = [
    pytest.mark.broker,
    pytest.mark.lback,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="an image's build steps run as root"),
]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The built image."""
    built = Image(tmp_path_factory.mktemp("image"))
    build(built)
    return built


def test_the_image_runs_the_worker(image: Image) -> None:
    """Its command is one that the worker takes, and it holds what the demo's parts need."""
    ran = subprocess.run(
        [*map(image.inside, image.command), "--help"],
        cwd=image.path("."),
        env=image.variables(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "Usage: lback-signal-worker" in ran.stdout
    code = "import lback, sqlalchemy, waitress, aiosmtpd, lback_relay; print(lback_relay.__file__)"
    asked = [str(image.python / "bin" / "python"), "-c", code]
    shown = subprocess.run(asked, cwd="/", capture_output=True, text=True, timeout=60, check=True)
    assert shown.stdout.startswith(str(image.python))


class Services:
    """The compose file's services as processes; all of them have ended afterwards."""

    def __init__(self, image: Image, logs: Path) -> None:
        self.image = image
        self.logs = logs
        text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", COMPOSE.read_text()).replace("$$", "$")
        self.services: dict[str, Any] = yaml.safe_load(text)["services"]
        self.ports = {port: free_port() for port in ("6379", "8000", "1025")}
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def here(self, text: str, container: str) -> str:
        """Turn a container's addresses and paths into this machine's."""
        redis = self.ports["6379"]
        changed = text.replace("@redis:", "@127.0.0.1:").replace("0.0.0.0", "127.0.0.1")
        for port, free in self.ports.items():
            changed = re.sub(rf"\b{port}\b", str(free), changed)
        # The file need not name a port that is the default.
        changed = changed.replace("redis-cli ", f"redis-cli -p {redis} ")
        changed = changed.replace("redis-server -", f"redis-server - --port {redis}")
        own = self.logs / container
        own.mkdir(exist_ok=True)
        # The volume of Redis is another than the shop's.
        volumes = {"/tmp": own, **({"/data": own} if container == "redis" else {})}
        return self.image.inside(changed, volumes)

    def environment(self, service: str, container: str) -> dict[str, str]:
        """Return the environment of a container."""
        given = {
            name: self.here(str(value), container)
            for name, value in self.services[service].get("environment", {}).items()
        }
        if "SMTP_SERVER" in given:
            assert given["SMTP_SERVER"] in self.services
            given["SMTP_SERVER"] = "127.0.0.1"
        return self.image.variables(given)

    def start(self, service: str, number: int = 1, *more: str) -> str:
        """Start one container of a service; return its name."""
        container = service if service == "redis" else f"{service}-{number}"
        words = [self.here(word, container) for word in self.services[service]["command"]]
        with (self.logs / f"{container}.log").open("wb") as log:
            self.running[container] = subprocess.Popen(
                [*words, *more],
                cwd=self.image.path("."),
                env=self.environment(service, container),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return container

    def wait_until_healthy(self, service: str, container: str) -> None:
        """Run the service's own health check until it succeeds."""
        kind, *words = self.services[service]["healthcheck"]["test"]
        changed = [self.here(word, container) for word in words]
        asked = ["sh", "-c", *changed] if kind == "CMD-SHELL" else changed

        def healthy() -> bool:
            assert self.running[container].poll() is None, self.log(container)
            ran = subprocess.run(
                asked,
                env=self.environment(service, container),
                capture_output=True,
                timeout=30,
                check=False,
            )
            return ran.returncode == 0

        wait_until(healthy, timeout_s=TIMEOUT_S, what=f"{container} to be healthy")

    def stop(self, container: str) -> int:
        """Stop a container as an engine does; return its exit code."""
        self.running[container].terminate()
        return self.running[container].wait(TIMEOUT_S)

    def log(self, container: str) -> str:
        """Return what a container has written."""
        return (self.logs / f"{container}.log").read_text()


@pytest.fixture
def services(image: Image, tmp_path: Path) -> Iterator[Services]:
    """Nothing runs yet."""
    ready = Services(image, tmp_path)
    yield ready
    for process in ready.running.values():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


def redis_config(services: Services, name: str) -> str:
    """Ask the running Redis."""
    ran = subprocess.run(
        ["redis-cli", "-p", str(services.ports["6379"]), "config", "get", name],
        env={"PATH": SYSTEM_PATH, "REDISCLI_AUTH": "only-for-development"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return ran.stdout.split()[-1]


def test_the_services_register_a_user_and_mail_him(services: Services) -> None:
    """Redis, mail catcher, shop and two workers, by their own commands and health checks."""
    if shutil.which("redis-cli") is None:
        assert os.environ.get("CI") != "true", "redis-server and redis-cli are missing"
        pytest.skip("redis-server and redis-cli are missing")
    services.wait_until_healthy("redis", services.start("redis"))
    assert redis_config(services, "maxmemory-policy") == "noeviction"
    assert redis_config(services, "appendfsync") == "always"

    services.start("mail", 1, "--port", str(services.ports["1025"]))
    services.wait_until_healthy("web", services.start("web"))
    workers = [services.start("worker", number) for number in (1, 2)]
    for worker in workers:
        services.wait_until_healthy("worker", worker)

    made = register(f"127.0.0.1:{services.ports['8000']}", "ada")
    assert made.status == http.client.CREATED, made.answer
    wait_until(
        lambda: "to ada@example.org: " in services.log("mail-1"),
        timeout_s=TIMEOUT_S,
        what="the mail to ada",
    )
    assert "worker@example.org to ada@example.org" in services.log("mail-1")
    wait_until(
        lambda: "welcome, ada" in "".join(map(services.log, workers)),
        timeout_s=TIMEOUT_S,
        what="a worker to greet ada",
    )
    codes = {name: services.stop(name) for name in reversed(services.running)}
    assert set(codes.values()) == {0}, codes
