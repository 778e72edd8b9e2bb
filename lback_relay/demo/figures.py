"""What the demo found: counting, the verdict, the JSON object and the table. Pure."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

DECIMALS: Final = 4
SHARED_FROM: Final = 10
"""So many users that every worker must have had a share; of fewer, one may have taken all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of one demo; all but the first are of the part with the relay.

    Attributes:
        http_median_s_without: median time of a registration without the relay, seconds.
        http_median_s_with: the same with it.
        registered: users whose registration was accepted.
        mails: mails that arrived, duplicates included.
        duplicates: mails beyond the first to the same user.
        lost: registered users who got no mail.
        per_worker: sender to the number of mails it delivered.
        strangers: senders among them that are no workers; there should be none.
    """

    http_median_s_without: float
    http_median_s_with: float
    registered: int
    mails: int
    duplicates: int
    lost: int
    per_worker: Mapping[str, int]
    strangers: Sequence[str] = ()

    @property
    def ratio(self) -> float:
        """How many times shorter a registration is with the relay."""
        return self.http_median_s_without / self.http_median_s_with

    def as_json(self) -> dict[str, object]:
        """Return the object that ``--json`` prints."""
        return {
            "http_median_s_without": round(self.http_median_s_without, DECIMALS),
            "http_median_s_with": round(self.http_median_s_with, DECIMALS),
            "registered": self.registered,
            "mails": self.mails,
            "duplicates": self.duplicates,
            "lost": self.lost,
            "per_worker": dict(self.per_worker),
        }

    def problems(self, users: int) -> list[str]:
        """Return a phrase for each promise that is broken; ``users`` had to be registered."""
        found = []
        if self.registered != users:
            found.append(f"{self.registered} of {users} users were registered")
        if self.lost:
            found.append(f"{self.lost} mails were lost")
        if self.duplicates:
            found.append(f"{self.duplicates} mails came twice")
        found += [
            f"{self.per_worker[name]} mails were sent by {name}, which is no worker"
            for name in self.strangers
        ]
        if users >= SHARED_FROM:
            found += [
                f"{name} delivered nothing" for name, mails in self.per_worker.items() if not mails
            ]
        if self.http_median_s_with >= self.http_median_s_without:
            found.append("a registration takes as long with the relay as without it")
        if self.mails != users and not found:
            found.append(f"{self.mails} mails arrived instead of {users}")
        return found

    def rows(self) -> list[tuple[str, str]]:
        """Return the table, (what, value) per row."""
        return [
            ("registration without the relay, median", f"{self.http_median_s_without:.3f} s"),
            ("registration with the relay, median", f"{self.http_median_s_with:.3f} s"),
            ("times shorter", f"{self.ratio:.1f}"),
            ("registered", str(self.registered)),
            ("mails delivered", str(self.mails)),
            ("duplicates", str(self.duplicates)),
            ("lost", str(self.lost)),
            *((f"delivered by {name}", str(count)) for name, count in self.per_worker.items()),
        ]


def count(
    *,
    without_s: Sequence[float],
    with_s: Sequence[float],
    registered: Sequence[str],
    delivered: Sequence[tuple[str, str]],
    workers: Sequence[str],
) -> Figures:
    """Count what arrived.

    Args:
        without_s: seconds that each registration without the relay took; not empty.
        with_s: the same with it; not empty.
        registered: addresses of the users whose registration was accepted.
        delivered: (recipient, login of the sender) of each mail that arrived.
        workers: logins of the workers; one that delivered nothing is listed with 0. A sender
            that is no worker is listed too: it should not have sent any.
    """
    arrived = Counter(address for address, _ in delivered)
    per_worker = dict.fromkeys(workers, 0)
    for _, login in delivered:
        per_worker[login] = per_worker.get(login, 0) + 1
    return Figures(
        http_median_s_without=statistics.median(without_s),
        http_median_s_with=statistics.median(with_s),
        registered=len(registered),
        mails=len(delivered),
        duplicates=sum(times - 1 for times in arrived.values()),
        lost=len(set(registered) - arrived.keys()),
        per_worker=per_worker,
        strangers=tuple(name for name in per_worker if name not in workers),
    )


def plain_table(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Return the rows as lines, the values one below the other and to the right."""
    left = max(len(what) for what, _ in rows)
    right = max(len(value) for _, value in rows)
    return [f"{what.ljust(left)}  {value.rjust(right)}" for what, value in rows]
