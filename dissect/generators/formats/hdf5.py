"""HDF5: Keras models and TFHub dumps, flattened to ``group/dataset``. A child process opens the file."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

from . import hdf5_child
from .arrays import TYPES
from .networks import Contents, Found
from .stored import FormatError, Storage, StoredTensor, limit_of, whole

MAGIC = b"\x89HDF\r\n\x1a\n"
SECONDS = 900


def read(path: Path) -> Contents:
    """Return the datasets of a file as one network; attributes of its groups are the network's arguments.

    Raises:
        FormatError: for links, datasets that are no plain numbers or lie elsewhere, and damaged files.
    """
    limit = limit_of(path.stat().st_size)
    command = [sys.executable, "-I", str(Path(hdf5_child.__file__)), str(path.resolve()), str(limit)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise FormatError(f"refused, reading it takes more than {SECONDS} seconds") from error
    line, _, numbers = done.stdout.partition(b"\n")
    if done.returncode:
        raise FormatError(f"damaged HDF5 file: it ended the process that read it (status {done.returncode})")
    answer = json.loads(line)
    if answer["error"] is not None:
        raise FormatError(answer["error"])
    tensors = {}
    view = memoryview(numbers)
    for name, (code, shape, offset) in answer["tensors"].items():
        dtype, count = TYPES[code], math.prod(shape)
        data = view[offset : offset + count * dtype.itemsize]
        if len(data) != count * dtype.itemsize:
            raise FormatError("damaged HDF5 file: it ends within a tensor")
        tensor = whole(Storage(dtype, count, data=data), shape)
        assert isinstance(tensor, StoredTensor)
        tensors[name] = tensor
    if not tensors:
        raise FormatError("holds no datasets, expected weights")
    return Contents("hdf5", [Found("", "", tensors, None, answer["attributes"])], {})
