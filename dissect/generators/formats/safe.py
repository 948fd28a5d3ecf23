"""safetensors: eight bytes with the length of a JSON header, the header, the numbers."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import torch

from segmodels.files import one_line

from .stored import FormatError, Odd, Storage, whole

TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
MAX_HEADER = 4 << 20  # bytes; 1000 tensors take a tenth of one MiB


def read(path: Path) -> dict[str, object]:
    """Return the tensors of a file by name, and ``__metadata__`` if it has any.

    Raises:
        FormatError: for damaged files.
    """
    from safetensors import safe_open

    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(MAX_HEADER, size - 8):
            raise FormatError(f"damaged safetensors file, its header claims {length} bytes")
        text = file.read(length)
    try:
        with safe_open(path, "pt"):  # the library knows best what is no safetensors file
            header = json.loads(text)
    except Exception as error:
        raise FormatError(f"damaged safetensors file: {one_line(error)}") from error
    result: dict[str, object] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            result[name] = entry
            continue
        dtype, shape, (start, end) = TYPES.get(entry["dtype"]), entry["shape"], entry["data_offsets"]
        if dtype is None:
            result[name] = Odd(entry["dtype"])
            continue
        if not 0 <= start <= end <= size - 8 - length or (end - start) % dtype.itemsize:
            raise FormatError("damaged safetensors file: a tensor lies outside of it")
        result[name] = whole(Storage(dtype, (end - start) // dtype.itemsize, 8 + length + start), shape)
    return result
