"""torch's zip files: a pickle ``data.pkl``, and one record of raw numbers for each storage."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from segmodels.files import BLOCK, one_line

from .passive import PassiveUnpickler
from .stored import FormatError, Storage
from .stream import Stream
from .tensors import TORCH, storage_id

_LOCAL = struct.Struct("<4s5H3I2H")  # signature … crc at byte 14 … length of name, length of extra
_CENTRAL = struct.Struct("<4s6H3I5H2I")  # … crc at byte 16 … lengths of name, extra, comment at 28 … offset at 42
_END, _END64, _LOCATOR = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
MAX_DIRECTORY = 4 << 20  # bytes: 50 000 records
_HAS_DESCRIPTOR = 8  # flag: the sizes and the checksum follow the data as well


class Archive:
    """The records of a torch zip, checked: nothing compressed, nothing twice, nothing that is not there.

    Attributes:
        records: name -> the record.
        prefix: of the names of all records: "archive/".
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if directory_size(path) > MAX_DIRECTORY:
            raise FormatError("refused, its archive has too many records")
        try:
            with zipfile.ZipFile(path) as archive:
                infos = archive.infolist()
                self.directory: int = archive.start_dir
        except Exception as error:  # the reader raises many kinds on damaged archives
            raise FormatError(f"damaged or not a torch checkpoint: {one_line(error)}") from error
        if any(record.compress_type != zipfile.ZIP_STORED for record in infos):
            raise FormatError("refused, it is a compressed archive; torch checkpoints are not compressed")
        size = path.stat().st_size
        if sum(record.file_size for record in infos) > size:
            raise FormatError("refused, its records claim more bytes than the file has")
        self.records = {record.filename: record for record in infos}
        pickles = [name for name in self.records if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(self.records) != len(infos) or len(pickles) != 1:
            raise FormatError("damaged or not a torch checkpoint: it is an archive without one data.pkl")
        self.prefix = pickles[0].removesuffix("data.pkl")
        if self.prefix + "constants.pkl" in self.records:
            raise FormatError("damaged or not a torch checkpoint: it is compiled code (TorchScript)")
        with path.open("rb") as file:
            self.places = {name: self._place(file, record, size) for name, record in self.records.items()}

    def _place(self, file: io.BufferedReader, record: zipfile.ZipInfo, size: int) -> int:
        """Return the offset of a record's first byte, by its own header; its bytes must agree with its checksum."""
        file.seek(record.header_offset)
        header = file.read(_LOCAL.size)
        if len(header) < _LOCAL.size or header[:4] != b"PK\x03\x04":
            raise FormatError("damaged: its archive has a record without a header")
        *_, name, extra = _LOCAL.unpack(header)
        place = record.header_offset + _LOCAL.size + name + extra
        if record.compress_size != record.file_size or place + record.file_size > size:
            raise FormatError("damaged: its archive has a record that is cut short")
        if record.CRC:  # 0: torch was told not to compute it
            file.seek(place)
            if checksum(_blocks(file, record.file_size)) != record.CRC:
                raise FormatError(f"damaged: its record {record.filename!r:.100} does not have its checksum")
        return place


def directory_size(path: Path) -> int:
    """Return how many bytes of directory a zip claims, or 0 if its end is not found; nothing else is checked."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 16) - 100))
        tail = file.read()
        place = tail.rfind(_END)
        if place < 0 or len(tail) < place + 16:
            return 0
        (size,) = struct.unpack_from("<I", tail, place + 12)
        if tail[place - 20 : place - 16] == _LOCATOR:
            (offset,) = struct.unpack_from("<Q", tail, place - 12)
            file.seek(min(offset, path.stat().st_size))
            end = file.read(48)
            size = max(size, struct.unpack_from("<Q", end, 40)[0]) if end[:4] == _END64 and len(end) == 48 else size
    return int(size)


def _blocks(file: io.BufferedReader, size: int) -> Iterable[bytes]:
    while size > 0:
        block = file.read(min(size, BLOCK))
        if not block:
            return
        size -= len(block)
        yield block


def checksum(blocks: Iterable[bytes | np.ndarray]) -> int:
    """Return the CRC-32 of bytes."""
    crc = 0
    for block in blocks:
        crc = zlib.crc32(block, crc)  # type: ignore[arg-type]
    return crc


def read(path: Path) -> object:
    """Return the value of a file; its tensors know their places.

    Raises:
        FormatError: for anything but tensors and plain values, and damaged files.
    """
    archive = Archive(path)
    order = archive.records.get(archive.prefix + "byteorder")
    with path.open("rb") as file:
        if order is not None:
            file.seek(archive.places[order.filename])
            if file.read(order.file_size) != b"little":
                raise FormatError("it was written by a big-endian machine, expected little-endian numbers")
        name = archive.prefix + "data.pkl"
        file.seek(archive.places[name])
        stream = Stream(file, archive.records[name].file_size, archive.places[name])
        return PassiveUnpickler(stream, TORCH, _storages(archive)).load()


def _storages(archive: Archive) -> Callable[[object], Storage]:
    made: dict[tuple[str, object, int], Storage] = {}

    def find(pid: object) -> Storage:
        dtype, key, count, view = storage_id(pid)
        name = f"{archive.prefix}data/{key}"
        record = archive.records.get(name)
        if record is None or view is not None:
            raise FormatError("damaged: a tensor's storage is not in the archive")
        if count * dtype.itemsize > record.file_size:
            raise FormatError("damaged: a storage claims more bytes than its record has")
        return made.setdefault((key, dtype, count), Storage(dtype, count, archive.places[name]))

    return find


def update_checksums(source: Path, memory: np.ndarray) -> None:
    """Write the checksums of the records whose bytes were changed.

    Args:
        source: the archive that ``memory`` is a changed copy of.
        memory: u1 [bytes of the file], writable.

    Raises:
        FormatError: if the archive keeps its checksums where they are not expected.
    """
    archive = Archive(source)
    entries = _entries(memory, archive.directory)
    for name, record in archive.records.items():
        start = archive.places[name]
        new = checksum([memory[start : start + record.file_size]])
        if not record.CRC or new == record.CRC:
            continue
        places = [record.header_offset + 14, entries[record.header_offset] + 16]
        if record.flag_bits & _HAS_DESCRIPTOR:
            end = start + record.file_size
            places[0] = end + 4 if memory[end : end + 4].tobytes() == b"PK\x07\x08" else end
            header = memory[record.header_offset + 14 : record.header_offset + 18]
            if _number(header) == record.CRC:
                places.append(record.header_offset + 14)
        for place in places:
            if _number(memory[place : place + 4]) != record.CRC:
                raise FormatError("this archive keeps its checksums elsewhere; convert it to safetensors instead")
            memory[place : place + 4] = np.frombuffer(struct.pack("<I", new), np.uint8)


def _number(four: np.ndarray) -> int:
    return int.from_bytes(four.tobytes(), "little")


def _entries(memory: np.ndarray, place: int) -> dict[int, int]:
    """Return where the central directory has each record: offset of the record's header -> offset of its entry."""
    entries = {}
    while memory[place : place + 4].tobytes() == b"PK\x01\x02":
        fields = _CENTRAL.unpack(memory[place : place + _CENTRAL.size].tobytes())
        offset = fields[16]
        entries[offset] = place
        place += _CENTRAL.size + sum(fields[10:13])
    return entries
