"""torch's files from before the zip: five pickles, then the storages; also found inside other pickles.

Layout: a magic number, a version, a description of the machine, the value, the keys of its storages; then for each
key eight bytes with the number of elements, and the elements.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

from .passive import Names, PassiveUnpickler, Piece
from .stored import FormatError, Storage
from .stream import Stream
from .tensors import STORAGE_NAMES, TORCH, storage_id

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001


class _Storages:
    """The storages that the value's pickle refers to."""

    def __init__(self, room: int) -> None:
        self.roots: dict[str, tuple[int, list[tuple[int, Storage]]]] = {}  # key -> bytes, (shift in bytes, storage)
        self._room = room

    def __call__(self, pid: object) -> Storage:
        dtype, key, count, view = storage_id(pid)
        size, parts = self.roots.get(key, (count * dtype.itemsize, []))
        if key not in self.roots:
            self._room -= size
            if self._room < 0:
                raise FormatError("damaged: its storages claim more bytes than the file has")
            self.roots[key] = (size, parts)
        elif size != count * dtype.itemsize:
            raise FormatError("damaged: a storage has two sizes")
        shift = 0
        if view is not None:  # torch before 0.4: part of another storage
            if type(view) is not tuple or len(view) != 3 or not all(type(n) is int and n >= 0 for n in view[1:]):
                raise FormatError("damaged: a part of a storage without its place")
            shift, part = view[1], view[2]
            if shift + part > count:
                raise FormatError("damaged: a part reaches beyond its storage")
            count = part
        storage = Storage(dtype, count)
        parts.append((shift * dtype.itemsize, storage))
        return storage


def is_legacy(head: bytes) -> bool:
    """Say whether a file begins as these do."""
    number = MAGIC.to_bytes(10, "little")
    return len(head) >= 15 and head[:1] == b"\x80" and head[2:15] == b"\x8a\x0a" + number + b"."


def walk(stream: Stream, names: Names) -> object:
    """Return the value of a file that may ask for these names; its tensors know their places.

    Raises:
        FormatError: for anything but tensors and plain values, and damaged files.
    """
    if PassiveUnpickler(stream, {}).load() != MAGIC or PassiveUnpickler(stream, {}).load() != VERSION:
        raise FormatError("damaged or not a torch checkpoint: its magic number is another")
    machine = PassiveUnpickler(stream, {}).load()
    if type(machine) is not dict or machine.get("little_endian") is not True:
        raise FormatError("damaged, or written by a big-endian machine")
    storages = _Storages(stream.end - stream.position)
    value = PassiveUnpickler(stream, names, storages).load()
    keys = PassiveUnpickler(stream, {}).load()
    if type(keys) is not list or {str(key) for key in keys} != set(storages.roots) or len(keys) != len(storages.roots):
        raise FormatError("damaged: its list of storages is not that of its tensors")
    for key in keys:
        size, parts = storages.roots[str(key)]
        (count,) = struct.unpack("<q", stream.read(8))
        if not any(count * storage.dtype.itemsize == size for _, storage in parts):
            raise FormatError("damaged: a storage has another size than its tensors claim")
        for shift, storage in parts:
            storage.offset = stream.position + shift
        stream.skip(size)
    return value


def read(path: Path) -> object:
    """Return the value of a legacy file."""
    with path.open("rb") as file:
        return walk(Stream(file, path.stat().st_size), TORCH)


def blob(stream: Stream, piece: object) -> Storage:
    """Return the storage in bytes that are themselves such a file.

    Args:
        stream: of the pickle around it, whose bounds hold for this one too.
        piece: the bytes.
    """
    if type(piece) is not Piece:
        raise FormatError("refused, it reads tensors from something else than bytes of the file")
    inner = Stream(io.BytesIO(piece), len(piece), piece.offset)
    inner.steps = stream.steps
    value = walk(inner, STORAGE_NAMES)
    stream.steps = inner.steps
    if not isinstance(value, Storage):
        raise FormatError("refused, it reads something else than a storage from bytes")
    return value
