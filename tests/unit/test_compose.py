"""What ``docker-compose.yml`` promises, as Debian's docker-compose understands the file."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from lback_signal_worker.config import WorkerConfig

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "docker-compose"
OURS = {"mail", "web", "worker"}
SECRETS = ("REDIS_PASSWORD", "SECRET_KEY", "JWT_SECRET_KEY", "EMAIL_PASSWORD")
PINNED = re.compile(r"[a-z/]+:\d+\.\d+\.\d+(-[a-z0-9.-]+)?(@sha256:[0-9a-f]{64})?")


def config(**environment: str) -> dict[str, Any]:
    """Let docker-compose check the file and return what it makes of it."""
    if shutil.which(COMMAND) is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{COMMAND} is missing; apt-get install {COMMAND}")
        pytest.skip(f"{COMMAND} is missing")
    kept = {name: value for name, value in os.environ.items() if name not in SECRETS}
    # A developer's own file .env must not change what is tested.
    with tempfile.NamedTemporaryFile(suffix=".env") as empty:
        ran = subprocess.run(
            [COMMAND, "--env-file", empty.name, "config"],
            cwd=ROOT,
            env={**kept, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ran.returncode == 0, ran.stderr
    checked: dict[str, Any] = yaml.safe_load(ran.stdout)
    return checked


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """Every service by name."""
    found: dict[str, Any] = config()["services"]
    return found


def instructions(name: str) -> list[str]:
    """Return the arguments of every such instruction in the Dockerfile."""
    lines = (ROOT / "worker" / "Dockerfile").read_text().splitlines()
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{name} ")]


def seconds(duration: str) -> float:
    """Read a duration as compose prints it."""
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(float(n) * units[unit] for n, unit in re.findall(r"([\d.]+)([hms])", duration))


def test_the_parts_are_all_there(services: dict[str, Any]) -> None:
    """Broker, mail catcher, web process and worker."""
    assert set(services) == {"redis", *OURS}


def test_redis_keeps_what_it_was_given(services: dict[str, Any]) -> None:
    """On disk before it answers, on a volume, and never evicted for lack of memory."""
    command = " ".join(services["redis"]["command"])
    for option in ("--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction"):
        assert option in command
    assert services["redis"]["volumes"] == ["redis-data:/data:rw"]
    assert "--dir /data" in command


def test_the_password_is_in_no_command_line(services: dict[str, Any]) -> None:
    """Not even for the length of a health check."""
    changed = config(REDIS_PASSWORD="Open-Sesame")["services"]
    for name in services:
        for key in ("command", "healthcheck"):
            assert "Open-Sesame" not in str(changed[name].get(key))
    assert "Open-Sesame" in changed["worker"]["environment"]["LBACK_RELAY_URL"]
    assert changed["redis"]["environment"] == {"REDIS_PASSWORD": "Open-Sesame"}


@pytest.mark.parametrize("secret", SECRETS)
def test_every_secret_comes_from_the_environment(secret: str) -> None:
    """Its default shows that it is none."""
    changed = config(**{secret: "Open-Sesame"})
    assert "Open-Sesame" in str(changed)
    assert "only-for-development" in str(config())


def test_a_worker_may_finish_what_it_runs(services: dict[str, Any]) -> None:
    """The container is killed later than the drain ends by itself."""
    grace_s = seconds(services["worker"]["stop_grace_period"])
    assert grace_s > WorkerConfig().drain_timeout_s + 5
    command = services["worker"]["command"]
    assert float(command[command.index("--stop-grace-s") + 1]) == grace_s
    assert seconds(services["web"]["stop_grace_period"]) > 5


def test_there_may_be_any_number_of_workers(services: dict[str, Any]) -> None:
    """No name and no port that only one of them can have."""
    assert "ports" not in services["worker"]
    assert not [name for name, service in services.items() if "container_name" in service]


def test_the_worker_is_healthy_while_it_polls(services: dict[str, Any]) -> None:
    """The file that it touches is the file that is looked at."""
    check = services["worker"]["healthcheck"]["test"]
    command = services["worker"]["command"]
    assert check[:4] == ["CMD", "python", "-m", "lback_signal_worker.health"]
    assert command[command.index("--health-file") + 1] == check[4]
    assert "healthcheck" in services["redis"]
    assert "healthcheck" in services["web"]


def test_the_order_of_the_start_is_given(services: dict[str, Any]) -> None:
    """Nobody meets a broker that is not there, or a database without tables."""
    waits_for = services["worker"]["depends_on"]
    assert {name: how["condition"] for name, how in waits_for.items()} == {
        "redis": "service_healthy",
        "web": "service_healthy",
    }


def test_nothing_is_root_and_what_can_be_is_read_only(services: dict[str, Any]) -> None:
    """Lback writes into its project's folder; all others write to volumes and /tmp alone."""
    (user,) = instructions("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert services["redis"]["user"] == "redis"
    for name, service in services.items():
        assert "privileged" not in service
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service.get("read_only", False) is (name != "web"), name
        assert name == "redis" or "user" not in service


def test_what_comes_from_elsewhere_is_pinned(services: dict[str, Any]) -> None:
    """The same bases today and in a year."""
    for base in [*instructions("FROM"), services["redis"]["image"]]:
        assert PINNED.fullmatch(base), base
    for name in OURS:
        assert services[name]["build"]["dockerfile"] == "worker/Dockerfile"


def test_nothing_listens_beyond_this_machine(services: dict[str, Any]) -> None:
    """The passwords' defaults are known to everybody."""
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert [str(port).partition(":")[0] for port in published] == ["127.0.0.1"]


def test_workers_and_web_share_the_broker_and_the_database(services: dict[str, Any]) -> None:
    """Else a handler would not find the row that it was told of."""
    web, worker = services["web"], services["worker"]
    for name in ("LBACK_RELAY_URL", "SHOP_DB", "SMTP_SERVER", "SECRET_KEY"):
        assert web["environment"][name] == worker["environment"][name]
    assert web["volumes"] == worker["volumes"]
