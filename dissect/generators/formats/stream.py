"""The bytes of a pickle, and how much may be done with them."""

from __future__ import annotations

from typing import BinaryIO

from .stored import FormatError

MAX_STEPS = 500_000  # opcodes; the largest known checkpoints take a tenth of that
CALL_STEPS = 8  # that a call of a stand-in counts for
MAX_LINE = 1 << 16  # bytes of one line of an old text opcode


class Stream:
    """Part of a file, read forwards; it never promises more bytes than are there.

    Args:
        file: at the first byte of the part.
        size: bytes of the part.
        base: where in the whole file the part begins.
    """

    def __init__(self, file: BinaryIO, size: int, base: int = 0) -> None:
        self._file = file
        self.position = base
        self.end = base + size
        self.size = size
        self.steps = MAX_STEPS
        self.bytes = 4 * size + (1 << 20)  # that stand-ins may work on: each byte a few times, not a million times

    def read(self, count: int) -> bytes:
        """Return exactly so many bytes. Raises FormatError if they are not there."""
        if count > self.end - self.position:
            raise FormatError("damaged or cut short: it claims more bytes than it has")
        data = self._file.read(count)
        if len(data) != count:
            raise FormatError("damaged or cut short: it ends too early")
        self.position += count
        return data

    def readline(self) -> bytes:
        """Return the bytes up to and with the next newline."""
        line = self._file.readline(min(MAX_LINE, self.end - self.position))
        self.position += len(line)
        if not line.endswith(b"\n"):
            raise FormatError("damaged or cut short: a line has no end")
        return line

    def skip(self, count: int) -> None:
        """Go on without reading. Raises FormatError if the bytes are not there."""
        if not 0 <= count <= self.end - self.position:
            raise FormatError("damaged or cut short: it claims more bytes than it has")
        self._file.seek(count, 1)
        self.position += count

    def spend(self, arguments: tuple[object, ...]) -> None:
        """Count the work of a stand-in: the same megabyte must not be worked on a million times."""
        self.steps -= CALL_STEPS
        for argument in arguments:
            if isinstance(argument, (bytes, str)):
                self.bytes -= len(argument)
            elif isinstance(argument, (list, dict, tuple)):
                self.steps -= len(argument)
        if self.bytes < 0 or self.steps < 0:
            raise FormatError("refused, it asks for more work than a checkpoint takes")
