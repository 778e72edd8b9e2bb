# ruff: noqa: INP001 - a script, no package
"""Read the demo's output from standard input and hold its last line to what the demo promises."""

import json
import sys

MIN_RATIO = 5


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
    elif without < MIN_RATIO * with_relay:
        found.append(f"registration took {with_relay} s with the relay, {without} s without")
    return found


def verdict(output: str) -> list[str]:
    """Return one sentence for each thing that is wrong with the demo's output."""
    lines = output.splitlines()
    if not lines:
        return ["printed nothing"]
    try:
        result = json.loads(lines[-1])
    except ValueError:
        result = None
    if not isinstance(result, dict):
        return [f"its last line is no JSON object: {lines[-1]}"]
    sys.stdout.write(lines[-1] + "\n")
    return problems(result)


def main() -> int:
    """Print the verdict; return the exit code."""
    found = verdict(sys.stdin.read())
    for problem in found:
        sys.stderr.write(f"demo: {problem}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
