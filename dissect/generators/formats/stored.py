"""Tensors that lie in files: where their numbers are, how they are read, how they are written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

# Tied weights are stored once, so tensors may hold somewhat more than their file, but a few bytes on disk must not
# become terabytes (a stride of 0, a storage that is claimed but not there, a dataset that is never filled).
MAX_GROWTH = 4
MAX_GROWTH_FREE = 1 << 20  # bytes below which growth does not matter
MAX_DIMS = 32
MAX_TENSORS = 50_000

REAL = frozenset(
    {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
     torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2}
)  # fmt: skip
# Numbers are moved as their bits, which numpy can do for types that it does not know (bfloat16).
_INTS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
BITS: dict[int, np.dtype] = {1: np.dtype("u1"), 2: np.dtype("<i2"), 4: np.dtype("<i4"), 8: np.dtype("<i8")}


class FormatError(Exception):
    """A file is not what it must be. The message is one line without the file's name."""


def limit_of(size: int) -> int:
    """Return how many bytes the tensors of a file of ``size`` bytes may have."""
    return max(MAX_GROWTH * size, MAX_GROWTH_FREE)


def claims_too_much(claimed: int) -> FormatError:
    """Return the error for tensors larger than their file can mean."""
    return FormatError(f"refused, its tensors claim {claimed} bytes, far more than the file has")


@dataclass(eq=False)
class Storage:
    """Numbers of one type in a row.

    Attributes:
        dtype: their type.
        count: how many.
        offset: bytes before the first, in its file; None where the file does not hold them as they are (text,
            compressed, bytes in another order) or, while a legacy file is walked, is not known yet.
        data: the numbers themselves, little-endian, where ``offset`` is None.
        file: name of the file in the checkpoint's folder; "" for a checkpoint of one file.
    """

    dtype: torch.dtype
    count: int
    offset: int | None = None
    data: bytes | memoryview | None = field(default=None, repr=False)
    file: str = ""


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A view on a storage, in elements. Made by ``stored``, which checks it."""

    storage: Storage
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def extent(self) -> int:
        """Elements from the first to the last, both included; 0 for an empty tensor."""
        return extent(self.shape, self.strides)

    @property
    def nbytes(self) -> int:
        """Bytes that reading takes."""
        return max(self.extent, math.prod(self.shape)) * self.storage.dtype.itemsize


@dataclass(frozen=True)
class Odd:
    """A tensor that is none of plain real numbers: complex, quantised, sparse, without storage."""

    what: str


def extent(shape: Sequence[int], strides: Sequence[int]) -> int:
    """Return the elements from the first to the last of a strided view, both included; 0 if it is empty."""
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides, in elements, of a tensor whose last axis is the fastest."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * max(shape[axis + 1], 1)
    return tuple(strides)


def stored(storage: Storage, start: object, shape: object, strides: object) -> StoredTensor | Odd:
    """Return a view on a storage.

    Raises:
        FormatError: if it is none: not whole numbers, outside the storage, or more elements than the storage has.
    """
    if not isinstance(shape, (tuple, list)) or not isinstance(strides, (tuple, list)) or len(shape) != len(strides):
        raise FormatError("damaged: a tensor without a shape")
    numbers = [start, *shape, *strides]
    if len(shape) > MAX_DIMS or not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers):
        raise FormatError("damaged: the shape of a tensor is impossible")
    if storage.dtype not in REAL:
        return Odd(str(storage.dtype))
    result = StoredTensor(storage, start, tuple(shape), tuple(strides))  # type: ignore[arg-type]
    if math.prod(result.shape) > storage.count:
        raise claims_too_much(math.prod(result.shape) * storage.dtype.itemsize)
    if result.extent and result.start + result.extent > storage.count:
        raise FormatError("damaged: a tensor reaches beyond its storage")
    return result


def whole(storage: Storage, shape: Sequence[int]) -> StoredTensor | Odd:
    """Return a contiguous view on all of a storage. Raises FormatError if the sizes differ."""
    if math.prod(shape) != storage.count:
        raise FormatError(f"damaged: {storage.count} numbers for a tensor of {math.prod(shape)}")
    return stored(storage, 0, tuple(shape), contiguous(shape))


class Reader:
    """Reads tensors out of a checkpoint; used as a context. What is read is counted, and capped before it is read.

    Args:
        root: the file, or the folder of the files.
        size: bytes of the file(s).
    """

    def __init__(self, root: Path, size: int) -> None:
        self._root = root
        self._limit = limit_of(size)
        self._used = 0  # bytes
        self._count = 0  # tensors
        self._files: dict[str, BinaryIO] = {}

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def tensor(self, one: StoredTensor) -> Tensor:
        """Return a contiguous CPU tensor of its own memory. Raises FormatError if the file is too short."""
        self._used += one.nbytes
        self._count += 1
        if self._used > self._limit:
            raise claims_too_much(self._used)
        if self._count > MAX_TENSORS:
            raise FormatError(f"refused, it holds more than {MAX_TENSORS} tensors")
        return self._read(one)

    def _read(self, one: StoredTensor) -> Tensor:
        dtype = one.storage.dtype
        if not one.extent:
            return torch.empty(one.shape, dtype=dtype)
        first, length = one.start * dtype.itemsize, one.extent * dtype.itemsize
        if one.storage.data is not None:
            raw = bytes(memoryview(one.storage.data).cast("B")[first : first + length])
        else:
            assert one.storage.offset is not None, "the walk leaves no storage without a place"
            file = self._open(one.storage.file)
            file.seek(one.storage.offset + first)
            raw = file.read(length)
        if len(raw) != length:
            raise FormatError("damaged: it ends within a tensor")
        bits = np.array(_strided(np.frombuffer(raw, BITS[dtype.itemsize]), 0, one), order="C")
        if dtype == torch.bool:
            return torch.from_numpy(bits != 0)
        return torch.from_numpy(bits).view(dtype)

    def _open(self, name: str) -> BinaryIO:
        if name not in self._files:
            self._files[name] = (self._root / name if name else self._root).open("rb")
        return self._files[name]


def write(one: StoredTensor, values: Tensor, memory: np.ndarray) -> None:
    """Write values, in the stored type, over the bytes of a tensor.

    Args:
        one: where; its storage has an offset.
        values: of the tensor's shape; any type that torch can cast.
        memory: u1 [bytes of the file], writable.
    """
    if one.extent:
        _held(one, memory)[...] = _bits(one, values)


def holds(one: StoredTensor, values: Tensor, memory: np.ndarray) -> bool:
    """Say whether the bytes of a tensor are those of the values: NaN equals NaN, and -0 is not 0."""
    return not one.extent or np.array_equal(_held(one, memory), _bits(one, values))


def _held(one: StoredTensor, memory: np.ndarray) -> np.ndarray:
    assert one.storage.offset is not None, "the caller refuses what cannot be written in place"
    size = one.storage.dtype.itemsize
    bits: np.ndarray = memory[one.storage.offset : one.storage.offset + one.storage.count * size].view(BITS[size])
    return _strided(bits, one.start, one)


def _bits(one: StoredTensor, values: Tensor) -> np.ndarray:
    dtype = one.storage.dtype
    return values.detach().to("cpu", dtype).contiguous().view(_INTS[dtype.itemsize]).numpy()


def _strided(bits: np.ndarray, start: int, one: StoredTensor) -> np.ndarray:
    strides = [stride * bits.itemsize for stride in one.strides]
    return np.lib.stride_tricks.as_strided(bits[start:], one.shape, strides)
