"""Finding the commands in what a client sends to Redis. Knows the protocol's frame alone.

Source: Redis serialization protocol specification, "Sending commands to a Redis server".
"""

from __future__ import annotations

from collections.abc import Iterator

Command = tuple[bytes, ...]
"""A command's name in capitals and its first two arguments."""


class CommandReader:
    """Reads the commands of one connection, in pieces of any size."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, piece: bytes) -> list[Command]:
        """Return the commands that are complete with this piece."""
        self._buffer += piece
        return list(self._commands())

    def _commands(self) -> Iterator[Command]:
        while True:
            taken = self._command()
            if taken is None:
                return
            command, end = taken
            del self._buffer[:end]
            yield command

    def _command(self) -> tuple[Command, int] | None:
        number = self._number(0)
        if number is None:
            return None
        count, at = number
        parts: list[bytes] = []
        for _ in range(count):
            number = self._number(at)
            if number is None:
                return None
            length, at = number
            if len(self._buffer) < at + length + 2:
                return None
            if len(parts) < 3:
                parts.append(bytes(self._buffer[at : at + length]))
            at += length + 2
        parts[0] = parts[0].upper()
        return tuple(parts), at

    def _number(self, at: int) -> tuple[int, int] | None:
        """Return the number of a line such as ``*3`` or ``$5``, and where the next line begins."""
        end = self._buffer.find(b"\r\n", at)
        return None if end < 0 else (int(self._buffer[at + 1 : end]), end + 2)
