"""Reading checkpoints without running a byte of them; the format is recognised from the content."""

from __future__ import annotations

import hashlib
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from segmodels import GanatomyError
from segmodels.files import one_line

# Where training scripts put the generator inside a checkpoint; tried in this order after the top level.
CONTAINERS = (
    "g_ema", "G_ema", "netG_ema", "netG_state_dict", "netG", "generator", "G", "state_dict",
    "model_state_dict", "generator_state_dict", "params_ema", "params", "model",
)  # fmt: skip
MAX_HEADER = 100 * 1024 * 1024  # bytes of JSON that a safetensors header may have
# Tied weights are stored once, so tensors may hold somewhat more than their file, but a few bytes on disk must not
# become terabytes (a stride of 0, a storage that is claimed but not there, a tensor without storage).
MAX_GROWTH = 4
MAX_GROWTH_FREE = 1 << 20  # bytes below which growth does not matter


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shown(keys: Iterable[object], count: int = 3) -> str:
    """Return the first keys of a checkpoint for a message: they are a stranger's text and must stay one line."""
    listed = [str(key) for key in keys]
    more = f" and {len(listed) - count} more" if len(listed) > count else ""
    clean = ["".join(c if c.isprintable() else "?" for c in key[:80]) for key in listed[:count]]
    return ", ".join(clean) + more


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
        digest = sha256_of(path)
    except OSError as error:
        raise GanatomyError(f"cannot read {path}: {error.strerror or one_line(error)}") from error
    if len(head) < 16:
        raise GanatomyError(f"{path.name} has only {len(head)} bytes, expected a checkpoint")
    if head[:2] == b"PK":
        _check_zip(path)
        contents = _read_torch(path)
    elif head[:1] == b"\x80":
        contents = _read_torch(path)
    elif head[8:9] == b"{":
        contents = _read_safetensors(path, struct.unpack("<Q", head[:8])[0])
    else:
        raise GanatomyError(f"{path.name}: not a torch or safetensors file (it begins with {head[:4]!r})")
    if not isinstance(contents, Mapping):
        raise GanatomyError(f"{path.name} holds a {type(contents).__name__}, expected a state dict")
    return contents, digest


def _check_zip(path: Path) -> None:
    """Refuse archives that would unpack to more than they are; ``torch.save`` never compresses."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except Exception as error:  # the reader raises many kinds on damaged archives
        raise GanatomyError(f"{path.name}: damaged or not a torch checkpoint: {one_line(error)}") from error
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise GanatomyError(f"{path.name}: refused, it is a compressed archive; torch checkpoints are not compressed")
    if sum(record.file_size for record in records) > path.stat().st_size:
        raise GanatomyError(f"{path.name}: refused, its records claim more bytes than the file has")


def _read_torch(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols: nothing that a user could act on
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        wants = f" (it asks for {shown([asked[1]])})" if asked else ""
        reason = f"refused, this pickle is damaged or holds more than tensors{wants}; nothing was run"
        raise GanatomyError(f"{path.name}: {reason}") from error
    except Exception as error:  # the reader raises many kinds on damaged files
        raise GanatomyError(f"{path.name}: damaged or not a torch checkpoint: {one_line(error)}") from error


def _read_safetensors(path: Path, header: int) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    if header > min(MAX_HEADER, path.stat().st_size - 8):
        raise GanatomyError(f"{path.name}: damaged safetensors file, its header claims {header} bytes")
    try:
        return load_file(path)
    except Exception as error:  # SafetensorError and whatever torch says to a shape or type it does not know
        raise GanatomyError(f"{path.name}: damaged safetensors file: {one_line(error)}") from error


def candidates(contents: Mapping[str, object]) -> list[dict[str, Tensor]]:
    """Return the state dicts that a checkpoint may mean, the likeliest first, ``module.`` prefixes removed."""
    found = [contents, *(contents[key] for key in CONTAINERS if key in contents)]
    dicts = []
    for value in found:
        if isinstance(value, Mapping) and value and all(isinstance(v, Tensor) for v in value.values()):
            keys = [str(key) for key in value]
            prefix = "module." if all(key.startswith("module.") for key in keys) else ""
            # torch.detach gives a plain tensor, whatever the file made of it.
            plain = [torch.detach(tensor) for tensor in value.values()]
            dicts.append({key.removeprefix(prefix): tensor for key, tensor in zip(keys, plain, strict=True)})
    return dicts


def check(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors that are not plain numbers of about the file's size, or not finite in float32.

    Raises:
        GanatomyError: naming the first tensor at fault.
    """
    total = 0
    for key, tensor in tensors.items():
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not plain or tensor.is_complex() or tensor.is_nested:
            raise GanatomyError(f"{path.name}: {shown([key])} is not a plain tensor of real numbers")
        total += tensor.numel() * tensor.element_size()
    if total > max(MAX_GROWTH * path.stat().st_size, MAX_GROWTH_FREE):
        raise GanatomyError(f"{path.name}: refused, its tensors claim {total} bytes, far more than the file has")
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
            raise GanatomyError(f"{path.name}: {shown([key])} holds NaN or infinite values")
