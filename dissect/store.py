"""The HDF5 files: the only module that writes them. Whole or not at all: temporary name, fsync, rename.

Every file says what it is: a finished dissection, a plan, a part of a dissection, the block counts of one group,
effects, or a memory of keys.
``docs/files.md`` lists their datasets.
"""

from __future__ import annotations

import contextlib
import json
import math
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from segmodels import GanatomyError

from .disk import replacing

DISSECTION, PLAN, PART, GROUP = "ganatomy.dissection", "ganatomy.plan", "ganatomy.part", "ganatomy.group"
EFFECTS, MEMORY = "ganatomy.effects", "ganatomy.memory"
CALLED = {
    DISSECTION: "dissection", PLAN: "plan", PART: "part of a dissection", GROUP: "group of a dissection",
    EFFECTS: "file of effects", MEMORY: "memory of keys",
}  # fmt: skip
VERSION = 1
UNIT_AXIS = {  # which axis of a dataset counts units; chunks hold UNITS_PER_CHUNK of them
    "levels": 0, "counts": 1, "chance_counts": 1, "block_counts": 1, "chance_block_counts": 1, "mean": 0,
    "second_moment": 0, "concept_mean": 1, "seed": 0, "value": 0, "yx": 0, "feature": 0, "maxima": 1,
    "product": 0, "concept": 1, "slab": 1, "quantile": 0,
}  # fmt: skip
UNITS_PER_CHUNK = 8
UNITS_PER_WRITE = 64
CHUNK_BYTES = 4 << 20  # the largest chunk


class Lazy(ABC):
    """An array that is read in pieces: ``lazy[:, a:b]`` is its units a..b-1."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of a value."""
        return self.dtype.itemsize

    @abstractmethod
    def __getitem__(self, index: tuple[slice, ...], /) -> np.ndarray:
        """Return some units."""


Array = np.ndarray | Lazy
Arrays = Iterable[tuple[str, Array]]


def write(
    path: Path, attributes: Mapping[str, Any], arrays: Arrays, kind: str = DISSECTION, *, compress: bool = True
) -> None:
    """Write a file, whole or not at all.

    Args:
        path: where it is to be; an existing file is replaced at the very end.
        attributes: of the root; what is no str, bool or number is kept as JSON.
        arrays: (dataset name with ``/``, array), one after the other, so that not all need be in memory; text as
            arrays of Python strings (dtype object).
        kind: what the file says it is.
        compress: what lives for minutes is not worth the time. Every dataset has a checksum in any case.

    Raises:
        GanatomyError: if the disk is full or the folder cannot be written; what was at ``path`` is still there.
    """
    with replacing(path) as disk, h5py.File(disk, "w", libver="v110") as file:
        file.attrs["format"] = kind
        file.attrs["version"] = VERSION
        for key, value in attributes.items():
            plain = isinstance(value, (str, bool, int, float))
            file.attrs[key] = value if plain else json.dumps(value)
        for name, array in arrays:
            _dataset(file, name, array, compress)
            if disk.error is not None:
                break


def _dataset(file: h5py.File, name: str, array: Array, compress: bool) -> None:
    if array.dtype == object:
        file.create_dataset(name, data=array, dtype=h5py.string_dtype())
        return
    if array.ndim == 0 or array.size == 0:
        file.create_dataset(name, data=array)
        return
    widened = compress and array.dtype == np.uint32
    packing: dict[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if compress else {}
    dataset = file.create_dataset(
        name, array.shape, np.dtype(np.int64) if widened else array.dtype, chunks=_chunks(name, array),
        fletcher32=True, **packing,
    )  # fmt: skip
    axis = _unit_axis(name, array)
    if axis is None:
        dataset[...] = np.asarray(array)
        return
    for start in range(0, array.shape[axis], UNITS_PER_WRITE):  # transposed views are copied piece by piece
        part = (slice(None),) * axis + (slice(start, start + UNITS_PER_WRITE),)
        dataset[part] = array[part]


def _unit_axis(name: str, array: Array) -> int | None:
    axis = UNIT_AXIS.get(name.rsplit("/", 1)[-1]) if name.startswith(("layers/", "state/", "groups/")) else None
    return axis if axis is not None and axis < array.ndim else None


def _chunks(name: str, array: Array) -> tuple[int, ...]:
    """Chunks of 8 units, all of the other axes, cut along the first ones if that is more than 4 MiB."""
    chunk = list(array.shape)
    axis = _unit_axis(name, array)
    if axis is not None:
        chunk[axis] = min(UNITS_PER_CHUNK, chunk[axis])
    for i in range(array.ndim):
        size = int(np.prod(chunk)) * array.itemsize
        if size > CHUNK_BYTES:
            chunk[i] = max(1, chunk[i] * CHUNK_BYTES // size)
    return tuple(chunk)


def write_json(path: Path, value: object) -> None:
    """Write a small JSON file, whole or not at all; failing is not worth stopping a run."""
    with contextlib.suppress(GanatomyError), replacing(path) as disk:
        disk.write(json.dumps(value).encode())


def format_of(path: Path) -> str | None:
    """Return what an HDF5 file says it is, "" if it does not say; None for what is no readable HDF5 file."""
    if not path.is_file():
        return None
    try:
        with h5py.File(path, "r") as file:
            return str(file.attrs.get("format", ""))
    except (OSError, RuntimeError, KeyError, UnicodeDecodeError):
        return None


class Reader:
    """Reads one file; each call opens and closes it, so threads may share a reader.

    Raises:
        GanatomyError: if the path is no dissection, is damaged, or comes from a newer version.
    """

    def __init__(self, path: Path, kind: str = DISSECTION) -> None:
        self.path = path
        if not path.is_file():
            hint = (
                f"; {path.name}.partial is unfinished, run the same dissect command to resume"
                if Path(f"{path}.partial").exists()
                else ""
            )
            raise GanatomyError(f"no such file: {path}{hint}")
        with self._open() as file:
            if (found := file.attrs.get("format")) != kind:
                other = f"a {CALLED[found]}" if found in CALLED else "HDF5, but not written by ganatomy"
                raise GanatomyError(f"{path} is {other}, expected a {CALLED[kind]}")
            if int(file.attrs["version"]) > VERSION:
                raise GanatomyError(f"{path} has format version {file.attrs['version']}, this ganatomy reads {VERSION}")
            self.attributes = {key: _plain(value) for key, value in file.attrs.items()}
            self.names: list[str] = []
            file.visititems(lambda name, item: self.names.append(name) if isinstance(item, h5py.Dataset) else None)

    @contextlib.contextmanager
    def _open(self) -> Iterator[h5py.File]:
        try:
            with h5py.File(self.path, "r") as file:
                yield file
        except (OSError, RuntimeError, KeyError, UnicodeDecodeError) as error:
            if zipfile.is_zipfile(self.path):
                raise GanatomyError(f"{self.path} is a zip; unzip it, and open the .h5 file that was in it") from error
            raise GanatomyError(
                f"{self.path} is not readable HDF5 or is damaged: {str(error).split(chr(10))[0]}"
            ) from error

    def json(self, name: str) -> Any:
        """Return an attribute that was kept as JSON; GanatomyError if it is missing or damaged."""
        try:
            return json.loads(str(self.attributes[name]))
        except (KeyError, ValueError) as error:
            raise GanatomyError(f"{self.path} is damaged: its {name} cannot be read") from error

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def read(self, name: str, index: Any = ()) -> np.ndarray:
        """Return a dataset, or the part of it at ``index``; GanatomyError if it is missing or fails its checksum."""
        with self._open() as file:
            if name not in file:
                raise GanatomyError(f"{self.path} has no dataset {name!r}")
            dataset = file[name]
            if h5py.check_string_dtype(dataset.dtype):
                return dataset.asstr()[index]
            return dataset[index]

    def select(self, prefix: str) -> dict[str, np.ndarray]:
        """Return every dataset below a group, by its name within the group."""
        found = [name for name in self.names if name.startswith(prefix + "/")]
        return {name[len(prefix) + 1 :]: self.read(name) for name in found}

    def each(self, visit: Callable[[str, np.ndarray], None]) -> None:
        """Read every dataset once, checksums included, and hand it to ``visit``."""
        for name in self.names:
            visit(name, self.read(name))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
