"""numpy's arrays and numbers in pickles, decoded through a table of types; numpy itself never sees their state."""

from __future__ import annotations

import math
import re

import numpy as np
import torch

from .names import named
from .passive import Named, Piece
from .stored import FormatError, Odd, Storage, StoredTensor, whole

TYPES = {
    "f2": torch.float16, "f4": torch.float32, "f8": torch.float64, "b1": torch.bool, "i1": torch.int8,
    "i2": torch.int16, "i4": torch.int32, "i8": torch.int64, "u1": torch.uint8, "u2": torch.uint16,
    "u4": torch.uint32, "u8": torch.uint64,
}  # fmt: skip
MAX_TEXT = 1 << 16  # characters of a text that a numpy type may have


class Dtype:
    """Stand-in for ``numpy.dtype``.

    Attributes:
        code: "f4", "i8", "S5", …
        order: "<", ">", or "|" where it does not matter.
        plain: False if it has fields or parts.
    """

    __slots__ = ("code", "order", "plain")

    def __init__(self, *arguments: object) -> None:
        code = arguments[0] if arguments else None
        if type(code) is not str or not re.fullmatch(r"[<>|=]?[a-zA-Z]\d{0,6}(\[\w{1,8}\])?", code):
            raise FormatError("refused, it has an unknown type of numpy")
        self.order = code[0] if code[0] in "<>" else "<"
        self.code = code.lstrip("<>|=")
        self.plain = True
        if self.code[0] == "O":
            raise FormatError("refused, it holds a numpy array of Python objects; nothing was run")

    def build(self, state: object) -> None:
        """Take the byte order from numpy's state of a type: (version, order, part, names, fields, …)."""
        if type(state) is not tuple or len(state) < 5 or state[1] not in ("<", ">", "|", "="):
            raise FormatError("damaged: a type of numpy without its state")
        if state[1] in ("<", ">"):
            self.order = state[1]
        self.plain = all(part is None for part in state[2:5])

    def array(self, raw: object, count: int) -> np.ndarray | None:
        """Return ``count`` numbers or texts in raw bytes, or None for types that are neither.

        Raises:
            FormatError: if the bytes are not as many as the numbers.
        """
        if type(raw) is str:  # what Python 2 wrote as text
            raw = raw.encode("latin1")
        if not isinstance(raw, bytes):
            raise FormatError("damaged: a numpy array without its bytes")
        text = re.fullmatch(r"[SU]([1-9]\d*)", self.code)
        if not self.plain or not (self.code in TYPES or (text and int(text[1]) <= MAX_TEXT)):
            return None
        dtype = np.dtype(self.order + self.code)
        if len(raw) != count * dtype.itemsize:
            raise FormatError(f"damaged: {len(raw)} bytes for {count} numbers of numpy")
        return np.frombuffer(raw, dtype)


class Array:
    """Stand-in for ``numpy.ndarray``.

    Attributes:
        tensor: its numbers once its state is known: a tensor, or what it is that is none.
    """

    __slots__ = ("tensor",)

    def __init__(self, *_: object) -> None:
        self.tensor: StoredTensor | Odd = Odd("unfinished numpy array")

    def build(self, state: object) -> None:
        """Take numpy's state of an array: (version, shape, type, Fortran order, bytes)."""
        if type(state) is not tuple or len(state) not in (4, 5):
            raise FormatError("damaged: a numpy array without its state")
        shape, dtype, fortran, raw = state[-4:]
        self._fill(raw, dtype, shape, bool(fortran))

    def _fill(self, raw: object, dtype: object, shape: object, fortran: bool) -> None:
        if type(dtype) is not Dtype or type(shape) is not tuple:
            raise FormatError("damaged: a numpy array without its type")
        if len(shape) > 32 or not all(type(n) is int and 0 <= n < 1 << 48 for n in shape):
            raise FormatError("damaged: the shape of a numpy array is impossible")
        count = math.prod(shape)
        values = dtype.array(raw, count)
        if values is None or dtype.code not in TYPES:
            self.tensor = Odd(f"numpy array of {dtype.code}")
            return
        storage = Storage(TYPES[dtype.code], count)
        if type(raw) is Piece and dtype.order == "<":
            storage.offset = raw.offset
        else:
            storage.data = values.astype(values.dtype.newbyteorder("<")).tobytes()
        order = tuple(reversed(range(len(shape)))) if fortran else tuple(range(len(shape)))
        inner = whole(storage, [shape[axis] for axis in order])
        assert isinstance(inner, StoredTensor)
        strides = tuple(inner.strides[order.index(axis)] for axis in range(len(shape)))
        self.tensor = StoredTensor(storage, 0, shape, strides)


def _frombuffer(*arguments: object) -> Array:
    """Stand in for how protocol 5 makes arrays: (bytes, type, shape, order)."""
    raw, dtype, shape, order = arguments
    result = Array()
    result._fill(raw, dtype, shape, order == "F")
    return result


def _scalar(*arguments: object) -> object:
    """Stand in for one number of numpy: the same number of Python."""
    dtype, raw = (*arguments, b"")[:2]
    if type(dtype) is not Dtype:
        raise FormatError("damaged: a number of numpy without its type")
    values = dtype.array(raw, 1)
    return Odd(f"numpy {dtype.code}") if values is None else values[0].item()


NUMPY: dict[tuple[str, str], Named] = named(
    {
        "numpy.dtype": Dtype,
        "numpy.ndarray": None,
        **{f"numpy.{core}.multiarray._reconstruct": Array for core in ("core", "_core")},
        **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
        **{f"numpy.{core}.numeric._frombuffer": _frombuffer for core in ("core", "_core")},
    }
)
