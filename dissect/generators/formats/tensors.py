"""torch's tensors in pickles: storages by name, and views on them, checked; torch's own reader is never asked."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .arrays import NUMPY
from .names import PLAIN, instances, named
from .passive import Named
from .stored import FormatError, Odd, Storage, StoredTensor, stored

STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128, "ComplexFloatStorage": torch.complex64,
    "QInt8Storage": torch.qint8, "QUInt8Storage": torch.quint8, "QInt32Storage": torch.qint32,
}  # fmt: skip
_DTYPES = [
    "float64",
    "float32",
    "float16",
    "bfloat16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
    "complex64",
    "complex128",
    "float8_e4m3fn",
    "float8_e5m2",
]


def _storage(storage: object) -> Storage:
    if type(storage) is not Storage:
        raise FormatError("damaged: a tensor without a storage")
    return storage


def _rebuild(*arguments: object) -> StoredTensor | Odd:
    """Stand in for ``_rebuild_tensor`` and ``_v2``: (storage, offset, shape, strides, …)."""
    storage, start, shape, strides = arguments[:4]
    return stored(_storage(storage), start, shape, strides)


def _rebuild_v3(*arguments: object) -> StoredTensor | Odd:
    """Stand in for ``_rebuild_tensor_v3``: a storage of bytes, and the type of the numbers in it."""
    raw, start, shape, strides = arguments[:4]
    storage, dtype = _storage(raw), arguments[6]
    if type(dtype) is not Named or not isinstance(dtype.value, torch.dtype):
        raise FormatError("damaged: a tensor without a type")
    # A storage of a legacy file gets its place only when the pickle is over: the typed one must stay tied to it.
    typed = Typed(storage, dtype.value)
    return stored(typed, start, shape, strides)


class Typed(Storage):
    """A storage of bytes seen as numbers of another type."""

    def __init__(self, raw: Storage, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.count = raw.count * raw.dtype.itemsize // dtype.itemsize
        self.data = None
        self.file = raw.file
        self._raw = raw

    @property
    def offset(self) -> int | None:  # type: ignore[override]
        """As of the storage of bytes."""
        return self._raw.offset


def _parameter(*arguments: object) -> object:
    """Stand in for ``_rebuild_parameter``: the tensor itself."""
    value = arguments[0]
    if not isinstance(value, (StoredTensor, Odd)):
        raise FormatError("damaged: a parameter without a tensor")
    return value


def _from_type(*arguments: object) -> object:
    """Stand in for ``_rebuild_from_type_v2``: a tensor with attributes, without them."""
    function, kind, inner = arguments[:3]
    known = type(kind) is Named and kind.name in ("torch.Tensor", "torch.nn.parameter.Parameter")
    if (
        not known
        or type(function) is not Named
        or function.call not in (_rebuild, _rebuild_v3)
        or type(inner) is not tuple
    ):
        raise FormatError("refused, it holds a tensor of an unknown kind; nothing was run")
    return _parameter(_rebuild(*inner) if function.call is _rebuild else _rebuild_v3(*inner))


def _odd(what: str) -> Callable[..., Odd]:
    return lambda *_: Odd(what)


def _size(*arguments: object) -> tuple[object, ...]:
    (values,) = arguments
    if type(values) not in (tuple, list):
        raise FormatError("damaged: a torch.Size of something else than numbers")
    return tuple(values)  # type: ignore[arg-type]


STORAGE_NAMES: dict[tuple[str, str], Named] = {
    (module, name): Named(f"{module}.{name}", None, dtype)
    for module in ("torch", "torch.cuda")
    for name, dtype in STORAGES.items()
} | {
    ("torch.storage", "UntypedStorage"): Named("torch.storage.UntypedStorage", None, torch.uint8),
    ("torch", "UntypedStorage"): Named("torch.UntypedStorage", None, torch.uint8),
}

REBUILD: dict[tuple[str, str], Named] = (
    named(
        {
            "torch._utils._rebuild_tensor": _rebuild,
            "torch._utils._rebuild_tensor_v2": _rebuild,
            "torch._utils._rebuild_tensor_v3": _rebuild_v3,
            "torch._utils._rebuild_parameter": _parameter,
            "torch._utils._rebuild_parameter_with_state": _parameter,
            "torch._tensor._rebuild_from_type_v2": _from_type,
            "torch._utils._rebuild_sparse_tensor": _odd("sparse tensor"),
            "torch._utils._rebuild_qtensor": _odd("quantised tensor"),
            "torch._utils._rebuild_meta_tensor_no_storage": _odd("tensor without storage"),
            "torch.Tensor": None,
            "torch.nn.parameter.Parameter": None,
            "torch.Size": _size,
            "torch.serialization._get_layout": _odd("layout"),
        }
    )
    | {("torch", name): Named(f"torch.{name}", None, getattr(torch, name)) for name in _DTYPES}
    | {("torch", name): Named(f"torch.{name}") for name in ("per_tensor_affine", "per_channel_affine")}
    | instances("torch.device")
)

TORCH = PLAIN | NUMPY | REBUILD | STORAGE_NAMES


def storage_id(pid: object) -> tuple[torch.dtype, str, int, object]:
    """Return (type, key, count, view) of a persistent id: ("storage", type, key, device, count[, view]).

    Raises:
        FormatError: for anything else.
    """
    if type(pid) is not tuple or len(pid) not in (5, 6) or pid[0] != "storage":
        raise FormatError("refused, it refers to something else than a storage")
    _, kind, key, _, count = pid[:5]
    if type(kind) is not Named or not isinstance(kind.value, torch.dtype):
        raise FormatError("damaged: a storage without a type")
    if type(key) not in (str, int) or type(count) is not int or not 0 <= count < 1 << 56:
        raise FormatError("damaged: a storage of an impossible size")
    return kind.value, str(key), count, pid[5] if len(pid) == 6 else None
