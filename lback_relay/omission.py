"""Which values of a payload are left out when the envelope is too large. Pure.

The largest go first, as few as will do: single attributes of snapshots and entries of dicts
before whole values of the payload. Likewise where there are so many small values that readers
would refuse the envelope. Sizes are bytes of the encoded form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from lback_relay.codec_cost import Cost, cost_of
from lback_relay.codec_extensions import MAX_DEPTH
from lback_relay.codec_writer import type_name, write
from lback_relay.markers import Marker, Omitted
from lback_relay.snapshot import Snapshot
from lback_relay.snapshot_base import kind_of_snapshot

_Path = tuple[str, ...]
_WITH_AN_ID: Final = "pass an id and let the handler load the rest"
_REMEDY: Final = f"raise RELAY_MAX_PAYLOAD_BYTES, or {_WITH_AN_ID}"


def omit_largest(
    payload: Mapping[str, Any], *, size: int, max_bytes: int
) -> Iterator[dict[str, Any]]:
    """Yield smaller and smaller payloads, until the caller is content with one.

    Args:
        payload: what is too large.
        size: of the envelope with it.
        max_bytes: what the envelope may take.
    """
    for leaves in _choices(payload):
        chosen = _chosen(leaves, size=size, max_bytes=max_bytes)
        yield _without(payload, (), chosen)


def omit_costliest(payload: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield payloads that are less and less work to read, until the caller is content with one.

    Args:
        payload: what readers would refuse (:mod:`lback_relay.codec_cost`).
    """
    for leaves in _choices(payload):
        costs = {path: cost_of(_packed(value)) for path, value in leaves.items()}
        left = Cost(*map(sum, zip(*costs.values(), strict=True)))
        chosen: dict[_Path, Omitted] = {}
        for path in sorted(costs, key=lambda path: costs[path].share, reverse=True):
            problem = left.problem()
            if problem is None:
                break
            if isinstance(leaves[path], Marker):
                continue
            left = left.without(costs[path])
            chosen[path] = Omitted(
                ".".join(path), type_name(leaves[path]), f"the envelope {problem}", _WITH_AN_ID
            )
        yield _without(payload, (), chosen)


def _choices(payload: Mapping[str, Any]) -> Iterator[dict[_Path, Any]]:
    """Yield what may be left out: single parts first, then whole values."""
    yield dict(_leaves(payload, ()))
    yield {(name,): value for name, value in payload.items()}


def _leaves(values: Mapping[str, Any], start: _Path) -> Iterator[tuple[_Path, Any]]:
    for name, value in values.items():
        path = (*start, name)
        parts = _parts(value)
        if parts is None or len(path) > MAX_DEPTH:
            yield path, value
        else:
            yield from _leaves(parts, path)


def _parts(value: object) -> dict[str, Any] | None:
    """Return the named parts that may be left out of a value one by one."""
    if isinstance(value, Snapshot):
        return next((part for part in value.relay_state() if type(part) is dict), None)
    if type(value) is dict and all(type(key) is str for key in value):
        return value
    return None


def _chosen(leaves: Mapping[_Path, Any], *, size: int, max_bytes: int) -> dict[_Path, Omitted]:
    sized = sorted(
        ((_size(value), path, value) for path, value in leaves.items()),
        key=lambda entry: entry[0],
        reverse=True,
    )
    chosen: dict[_Path, Omitted] = {}
    excess = size - max_bytes
    for taken, path, value in sized:
        if excess <= 0:
            break
        marker = _marker(".".join(path), value, taken, size, max_bytes)
        saved = taken - _size(marker)
        if saved > 0 and not isinstance(value, Marker):
            chosen[path] = marker
            excess -= saved
    return chosen


def _size(value: object) -> int:
    return len(_packed(value))


def _packed(value: object) -> bytes:
    return write(lambda writer: writer.pack(writer.prepared(value, 1, "")))


def _marker(path: str, value: object, taken: int, size: int, max_bytes: int) -> Omitted:
    return Omitted(
        path,
        type_name(value),
        f"it takes {taken:,} of the envelope's {size:,} bytes, and only {max_bytes:,} are allowed",
        _REMEDY,
    )


def _without(
    values: Mapping[str, Any], start: _Path, chosen: Mapping[_Path, Omitted]
) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in values.items():
        path = (*start, name)
        parts = _parts(value)
        if path in chosen:
            made[name] = chosen[path]
        elif parts is None or len(path) > MAX_DEPTH:
            made[name] = value
        elif isinstance(value, Snapshot):
            made[name] = _with_parts(value, _without(parts, path, chosen))
        else:
            made[name] = _without(parts, path, chosen)
    return made


def _with_parts(snapshot: Snapshot, parts: dict[str, Any]) -> Any:
    state = [parts if type(part) is dict else part for part in snapshot.relay_state()]
    return kind_of_snapshot(type(snapshot))(*state)
