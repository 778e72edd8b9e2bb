"""The demo's Lback project as files: ``project/`` is copied, nothing is generated.

What the demo decides (ports, logins, relay or not) reaches the project through its environment
alone, as it would on a server.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

TEMPLATE: Final = Path(__file__).parent / "project"

# Lback lets the environment win over settings.py for every name (DB_NAME, DEBUG, SMTP_PORT ...),
# so that a variable of the user's own shell could change the demo. These alone are passed on.
PASSED_ON: Final = (
    "COVERAGE_PROCESS_CONFIG",
    "COVERAGE_PROCESS_START",
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "PATH",
    "PYTHONPATH",
    "SYSTEMROOT",
    "TMPDIR",
    "VIRTUAL_ENV",
)


def create_project(folder: Path) -> Path:
    """Copy the project into ``folder``, which must not exist; return it."""
    shutil.copytree(TEMPLATE, folder, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    return folder


def project_environment(
    *,
    host: str,
    smtp_port: int,
    login: str,
    relay_url: str | None,
    environ: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """Return the environment of one of the project's processes.

    Args:
        host: ``name:port`` of the web application, for the links in mails.
        smtp_port: of the mail server on 127.0.0.1.
        login: what the process calls itself to the mail server, which records it: so it is known
            who sent a mail. It is an address, for Lback uses it as the sender.
        relay_url: the broker's URL; None runs the project without the relay.
        environ: what the allowed variables are taken from.
    """
    passed = {name: environ[name] for name in PASSED_ON if name in environ}
    if "PYTHONPATH" in passed:
        # Its relative entries mean the folder where the demo was called.
        entries = passed["PYTHONPATH"].split(os.pathsep)
        passed["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in entries)
    passed |= {
        "EMAIL_USERNAME": login,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        # Lback calls datetime.utcnow(); on Python 3.12 and newer that fills the log.
        "PYTHONWARNINGS": "ignore::DeprecationWarning",
        "SHOP_HOST": host,
        "SHOP_RELAY": "off" if relay_url is None else "on",
        "SMTP_PORT": str(smtp_port),
        "SMTP_SERVER": "127.0.0.1",
    }
    if relay_url is not None:
        passed["LBACK_RELAY_URL"] = relay_url
    return passed
