"""Reading checkpoints without running a byte of them; the format is recognised from the content."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from segmodels import GanatomyError

# Where training scripts put the generator inside a checkpoint; tried in this order after the top level.
CONTAINERS = (
    "g_ema", "G_ema", "netG_ema", "netG_state_dict", "netG", "generator", "G", "state_dict",
    "model_state_dict", "generator_state_dict", "params_ema", "params", "model",
)  # fmt: skip
MAX_HEADER = 100 * 1024 * 1024  # bytes of JSON that a safetensors header may have


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: Path) -> tuple[Mapping[str, object], str]:
    """Return (contents, SHA-256) of a checkpoint.

    Torch zips and legacy torch pickles are read with ``weights_only=True``, safetensors by its own library.

    Raises:
        GanatomyError: for an unknown format, a damaged file, or a pickle that asks for anything but tensors.
    """
    if path.is_dir():
        raise GanatomyError(f"{path} is a folder, expected a checkpoint file")
    if not path.is_file():
        raise GanatomyError(f"no such checkpoint: {path}")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise GanatomyError(f"cannot read {path}: {error.strerror}") from error
    if len(head) < 16:
        raise GanatomyError(f"{path.name} has only {len(head)} bytes, expected a checkpoint")
    if head[:2] == b"PK" or head[:1] == b"\x80":
        contents: object = _read_torch(path)
    elif head[8:9] == b"{":
        contents = _read_safetensors(path, struct.unpack("<Q", head[:8])[0])
    else:
        raise GanatomyError(f"{path.name}: not a torch or safetensors file (it begins with {head[:4]!r})")
    if not isinstance(contents, Mapping):
        raise GanatomyError(f"{path.name} holds a {type(contents).__name__}, expected a state dict")
    return contents, sha256_of(path)


def _read_torch(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).replace("\n", " ")
        asked = reason.split("GLOBAL ")[1].split(" ")[0] if "GLOBAL " in reason else ""
        wants = f" (it asks for {asked})" if asked else ""
        raise GanatomyError(f"{path.name}: refused, this pickle holds more than tensors{wants}; nothing was run") from error
    except Exception as error:  # the reader raises many kinds on damaged files
        raise GanatomyError(f"{path.name}: damaged or not a torch checkpoint: {str(error).splitlines()[0]}") from error


def _read_safetensors(path: Path, header: int) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if header > min(MAX_HEADER, path.stat().st_size - 8):
        raise GanatomyError(f"{path.name}: damaged safetensors file, its header claims {header} bytes")
    try:
        with path.open("rb") as file:
            file.seek(8)
            json.loads(file.read(header))
        return load_file(path)
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        raise GanatomyError(f"{path.name}: damaged safetensors file: {str(error).splitlines()[0]}") from error


def candidates(contents: Mapping[str, object]) -> list[dict[str, Tensor]]:
    """Return the state dicts that a checkpoint may mean, the likeliest first, ``module.`` prefixes removed."""
    found = [contents, *(contents[key] for key in CONTAINERS if key in contents)]
    dicts = []
    for value in found:
        if isinstance(value, Mapping) and value and all(isinstance(v, Tensor) for v in value.values()):
            dicts.append({str(key).removeprefix("module."): tensor for key, tensor in value.items()})
    return dicts


def check_finite(tensors: Mapping[str, Tensor], name: str) -> None:
    """Raise GanatomyError if a tensor holds NaN or infinite values."""
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise GanatomyError(f"{name}: {key} holds NaN or infinite values")
