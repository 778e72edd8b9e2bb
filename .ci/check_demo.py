# ruff: noqa: INP001 - a script, no package
"""Read the demo's output from standard input and hold its last line to what the demo promises."""

import json
import sys


def problems(result: dict[str, object]) -> list[str]:
    """Return one sentence for each promise that the demo's figures break."""
    expected = {"registered": 20, "mails": 20, "duplicates": 0, "lost": 0}
    found = [
        f"{key} is {result.get(key)!r}, expected {value}"
        for key, value in expected.items()
        if result.get(key) != value
    ]
    workers = result.get("per_worker")
    if not isinstance(workers, dict) or len(workers) < 2 or not all(workers.values()):
        found.append(f"not both workers worked: per_worker is {workers!r}")
    without, with_relay = result.get("http_median_s_without"), result.get("http_median_s_with")
    if not isinstance(without, float) or not isinstance(with_relay, float):
        found.append(f"the medians are no numbers: {without!r}, {with_relay!r}")
    elif without < 5 * with_relay:
        found.append(f"registration took {with_relay} s with the relay, {without} s without")
    return found


def main() -> int:
    """Print the verdict; return the exit code."""
    lines = sys.stdin.read().splitlines()
    if not lines:
        sys.stderr.write("demo: printed nothing\n")
        return 1
    found = problems(json.loads(lines[-1]))
    sys.stdout.write(lines[-1] + "\n")
    for problem in found:
        sys.stderr.write(f"demo: {problem}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
