"""Arrays of numbers from people's files: latents of an inversion, a mean w, noise maps. Nothing is executed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from segmodels import GanatomyError
from segmodels.files import one_line, shown


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a ``.npy``, ``.npz``, ``.pt`` or safetensors file by name; a single one is called "".

    Raises:
        GanatomyError: for anything else, and for pickled objects.
    """
    try:
        found = path.is_file()
    except (OSError, ValueError):  # too long, not allowed, a NUL inside
        found = False
    if not found:
        raise GanatomyError(f"no such file: {shown([path])}")
    try:
        with path.open("rb") as file:
            head = file.read(9)
        if head[8:9] == b"{":
            from safetensors.numpy import load_file

            return dict(load_file(path))
        # A torch file and an .npz are both zips; an .npz has members that end in .npy.
        if head[:6] != b"\x93NUMPY" and not (head[:2] == b"PK" and _is_npz(path)):
            return _torch_arrays(path)
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except GanatomyError:
        raise
    except Exception as error:  # each reader raises its own kinds
        expected = "expected a .npy, .npz, .pt or .safetensors file of plain numbers"
        raise GanatomyError(f"{path}: {expected}: {one_line(error)}") from error


def _is_npz(path: Path) -> bool:
    import zipfile

    with zipfile.ZipFile(path) as archive:
        return all(name.endswith(".npy") for name in archive.namelist())


def _torch_arrays(path: Path) -> dict[str, np.ndarray]:
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(loaded, Tensor):
        return {"": _plain(loaded)}
    if isinstance(loaded, dict):
        return {str(key): _plain(value) for key, value in loaded.items() if isinstance(value, Tensor)}
    raise GanatomyError(f"{path}: holds a {type(loaded).__name__}, expected an array")


def _plain(tensor: Tensor) -> np.ndarray:
    """Return a tensor's numbers; NumPy has no bfloat16."""
    tensor = tensor.detach()
    array: np.ndarray = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def read_array(path: Path, key: str) -> np.ndarray:
    """Return the array called ``key`` of a file, or its only one; GanatomyError if there is neither."""
    arrays = read_arrays(path)
    if key in arrays:
        return arrays[key]
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    raise GanatomyError(f"{path}: expected an array called {key!r}, found {', '.join(arrays) or 'none'}")
