"""The names that all processes of a row share. Imports nothing: an old version uses it, too."""

from __future__ import annotations

from typing import Final

SIGNAL: Final = "user_registered"
GROUP: Final = "mailers"
NAMESPACE: Final = "faults"
HANDLER: Final = "first"
WITNESS: Final = "witness"
LEASE_S: Final = 3.0
SECRET: Final = "planted-secret-c0ffee"
"""The servers' password, and a payload's; no log may hold it."""
