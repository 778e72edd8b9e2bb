"""What in a valid config may be a mistake; one sentence each, with what to do instead.

A project may send signals of its own, so an unknown name is never an error.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lback_relay.config import RelayConfig, SignalConfig


def find_warnings(config: RelayConfig) -> tuple[str, ...]:
    """Return what is worth a warning in a config that has been checked."""
    warnings = []
    if not config.signals:
        warnings.append("signals: names no signal, so that nothing is relayed")
    for signal in config.signals.values():
        warnings += _signal_warnings(signal)
    if config.max_string_length > config.max_payload_bytes:
        warnings.append(
            f"max_string_length: is {config.max_string_length}, more than max_payload_bytes "
            f"({config.max_payload_bytes}) can hold: long texts are omitted instead of cut"
        )
    return tuple(warnings)


def _signal_warnings(signal: SignalConfig) -> list[str]:
    # Imported here: most programs make a config once, and need no catalogue for anything else.
    from lback_relay.lback.catalogue import BEFORE_ROLLBACK, NEVER_SENT, SIGNALS, VERSION

    name = signal.name
    if name in NEVER_SENT:
        return [
            f"signals.{name}: {name} is never sent by lback-framework {VERSION}; {NEVER_SENT[name]}"
        ]
    if name not in SIGNALS:
        near = difflib.get_close_matches(name, SIGNALS, n=1, cutoff=0.85)
        if not near:
            return []
        warning = (
            f"signals.{name}: is no signal of lback-framework {VERSION}; did you mean "
            f"{near[0]!r}? (if it is the project's own, all is well)"
        )
        return [warning]
    carried = (*SIGNALS[name], "sender")
    warnings = []
    if name in BEFORE_ROLLBACK and signal.publish != "immediate":
        warnings.append(
            f"signals.{name}.publish: is {signal.publish!r}, and {name} is sent before a rollback "
            "that makes it forgotten; write 'immediate'"
        )
    for path in signal.reveal:
        first = path.partition(".")[0]
        if first not in carried:
            near = difflib.get_close_matches(first, carried, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            warnings.append(
                f"signals.{name}.reveal: {path!r} reveals nothing: {name} carries "
                f"{', '.join(carried)}{hint}"
            )
    return warnings
