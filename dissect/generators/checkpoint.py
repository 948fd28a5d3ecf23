"""Reading checkpoints without running a byte of them; the format is recognised from the content.

No pickle of a checkpoint is ever run, and no library that would run one is asked: ``formats/`` walks every kind of
file itself and finds where each tensor's numbers are. The same walk tells ``write_copy`` which bytes to replace.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from segmodels import GanatomyError
from segmodels.files import BLOCK, one_line, sha256_of, shown

from .formats import hdf5, networks, openvino, pickles, safe, torch_legacy, torch_zip
from .formats.names import Record
from .formats.networks import CONTAINERS, Contents
from .formats.openvino import Graph, Node
from .formats.passive import measure
from .formats.stored import FormatError, Reader, StoredTensor, holds, write

__all__ = ["CONTAINERS", "Checkpoint", "Graph", "Node", "Record", "StoredNetwork"]

OPENVINO = "openvino"
IN_MEMORY = ("hdf5", "tensorflow pickle")  # kinds whose numbers are not in the file as they are


@dataclass(frozen=True, eq=False)
class StoredNetwork:
    """One network found in a checkpoint: tensors under the file's own names, and what the file says about it.

    Attributes:
        where: the key that holds it ("G_ema", "g_ema", "Gs"); "" for the top level of the file.
        prefix: what was cut off every key: "module." or "".
        tensors: plain contiguous CPU tensors, each with its own memory, in the stored type.
        class_name: the recorded class or function: "Generator", "G_style"; None where nothing is recorded.
        arguments: the recorded constructor arguments as plain values; without a name under "*".
        beside: the other top-level entries of the file: tensors, plain values, dicts, ``Record``.
    """

    where: str
    prefix: str
    tensors: dict[str, Tensor]
    class_name: str | None
    arguments: Mapping[str, object]
    beside: Mapping[str, object]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What was read from a file.

    Attributes:
        path: the file, or the folder of an OpenVINO model.
        sha256: of the file; of the lines "name sha256" of the files, sorted, where they are several.
        format: "torch zip", "torch legacy", "safetensors", "nvidia pickle", "tensorflow pickle", "pickle" (of arrays),
            "hdf5" or "openvino".
        networks: every one found, the likeliest generator first.
    """

    path: Path
    sha256: str
    format: str
    networks: tuple[StoredNetwork, ...]


def read(path: Path) -> Checkpoint:
    """Return what a checkpoint holds.

    Args:
        path: a file; for OpenVINO the ``.xml``, the ``.bin``, or a folder of such pairs.

    Raises:
        GanatomyError: in one line, for an unknown format, a damaged file, and a pickle that asks for anything but
            tensors and plain values.
    """
    files = _files(path)
    try:
        digest = _digest(files)
        with Reader(files[0].parent if len(files) > 1 else path, _size(files)) as reader:
            contents = _walk(path, files, reader)
            made = [
                StoredNetwork(
                    found.where,
                    found.prefix,
                    {key: reader.tensor(tensor) for key, tensor in found.tensors.items()},
                    found.class_name,
                    found.arguments,
                    contents.beside,
                )
                for found in contents.found
            ]
    except GanatomyError:
        raise
    except OSError as error:
        raise GanatomyError(f"cannot read {path}: {error.strerror or one_line(error)}") from error
    except FormatError as error:
        raise GanatomyError(f"{path.name}: {one_line(error)}") from error
    except Exception as error:  # what a damaged file makes of the machine that walks it
        raise GanatomyError(f"{path.name}: damaged or not a checkpoint: {one_line(error)}") from error
    if not made:
        raise GanatomyError(f"{path.name}: holds no tensors, expected a state dict")
    return Checkpoint(path, digest, contents.format, tuple(made))


def check(network: StoredNetwork, checkpoint: Checkpoint) -> None:
    """Refuse a network that is not finite in float32. (A file may hold another that has exploded.)

    Raises:
        GanatomyError: naming the first tensor at fault.
    """
    for key, tensor in network.tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
            raise GanatomyError(f"{checkpoint.path.name}: {shown([key])} holds NaN or infinite values")


def write_copy(checkpoint: Checkpoint, network: StoredNetwork, replaced: Mapping[str, Tensor], out: Path) -> None:
    """Write a copy of a checkpoint in which only the bytes of the named tensors differ.

    Args:
        checkpoint, network: as ``read`` returned them.
        replaced: name in ``network.tensors`` -> values of the same shape; they are cast to the stored type.
        out: a file; a folder for OpenVINO. Replaced if it exists.

    Raises:
        GanatomyError: if the file is not the one that was read, holds compressed or converted numbers, or the values
            do not fit; nothing is written then.
    """
    path = checkpoint.path
    if checkpoint.format in IN_MEMORY:
        kind = "HDF5 file" if checkpoint.format == "hdf5" else "TensorFlow pickle"
        raise GanatomyError(f"{path.name}: a {kind} cannot be changed in place; convert it to safetensors instead")
    for key, values in replaced.items():
        if key not in network.tensors:
            raise GanatomyError(f"{path.name}: no tensor {shown([key])} in its network {network.where!r}")
        if values.shape != network.tensors[key].shape:
            wanted = list(network.tensors[key].shape)
            raise GanatomyError(f"{path.name}: {shown([key])} is {wanted}, got values of {list(values.shape)}")
    files = _files(path)
    try:
        if _digest(files) != checkpoint.sha256:
            raise GanatomyError(f"{path.name} is not the file that was read: it has changed since")
        _write(checkpoint, network, replaced, files, out)
    except OSError as error:
        raise GanatomyError(f"cannot write {out}: {error.strerror or one_line(error)}") from error
    except FormatError as error:
        raise GanatomyError(f"{path.name}: {one_line(error)}") from error


def _write(
    checkpoint: Checkpoint, network: StoredNetwork, replaced: Mapping[str, Tensor], files: list[Path], out: Path
) -> None:
    folder = checkpoint.format == OPENVINO
    with Reader(files[0].parent if folder else checkpoint.path, _size(files)) as reader:
        contents = _walk(checkpoint.path, files, reader)
    places = next(found.tensors for found in contents.found if found.where == network.where)
    if any(places[key].storage.offset is None for key in replaced):
        raise FormatError("its numbers cannot be changed in place; convert it to safetensors instead")
    out.parent.mkdir(parents=True, exist_ok=True)
    if folder:
        out.mkdir(exist_ok=True)
    copies: dict[Path, Path] = {}
    try:
        for file in files:
            here = {key: value for key, value in replaced.items() if places[key].storage.file in ("", file.name)}
            target = out / file.name if folder else out
            copies[target] = _patched(file, target, here, places, checkpoint.format)
        for target, copy in copies.items():
            copy.replace(target)
    finally:
        for copy in copies.values():
            copy.unlink(missing_ok=True)


def _patched(
    source: Path, target: Path, replaced: Mapping[str, Tensor], places: Mapping[str, StoredTensor], kind: str
) -> Path:
    """Return a copy of a file, beside its target, with the values and their checksums written into it."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with open(handle, "r+b") as copy, source.open("rb") as original:
            shutil.copyfileobj(original, copy, BLOCK)
            copy.flush()
            if replaced:
                memory = np.memmap(copy, np.uint8, "r+")
                for key, values in replaced.items():
                    write(places[key], values, memory)
                for key, values in replaced.items():
                    if not holds(places[key], values, memory):
                        raise FormatError(f"{shown([key])} shares numbers with a tensor that is given other ones")
                if kind == "torch zip":
                    torch_zip.update_checksums(source, memory)
                memory.flush()
            Path(name).chmod(source.stat().st_mode & 0o666 | 0o600)
            os.fsync(copy.fileno())
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def _files(path: Path) -> list[Path]:
    """Return the files of a checkpoint."""
    if not path.is_dir() and not path.is_file():
        raise GanatomyError(f"no such checkpoint: {path}")
    try:
        files = openvino.pairs(path)
        if not files and path.is_dir():
            raise GanatomyError(f"{path} is a folder, expected a checkpoint file")
        return files or [path]
    except FormatError as error:
        raise GanatomyError(f"{path.name}: {error}") from error
    except OSError as error:
        raise GanatomyError(f"cannot read {path}: {error.strerror or one_line(error)}") from error


def _size(files: list[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def _digest(files: list[Path]) -> str:
    if len(files) == 1:
        return sha256_of(files[0])
    lines = sorted(f"{file.name} {sha256_of(file)}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _walk(path: Path, files: list[Path], reader: Reader) -> Contents:
    """Return what is in the files, read by the kind that they are."""
    if len(files) > 1:
        return openvino.read(files)
    with path.open("rb") as file:
        head = file.read(64)
    if len(head) < 16:
        raise FormatError(f"has only {len(head)} bytes, expected a checkpoint")
    if head.startswith(hdf5.MAGIC):
        return hdf5.read(path)
    kind, top = _tree(path, head)
    measure(top)
    found, beside = networks.find(top, reader)
    return Contents(kind, found, beside)


def _tree(path: Path, head: bytes) -> tuple[str, object]:
    """Return the kind of a file of one value, and the value."""
    # The length of a safetensors header may begin with any byte, also with those of the other kinds.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size:
        return "safetensors", safe.read(path)
    if head[:2] == b"PK":
        return "torch zip", torch_zip.read(path)
    if torch_legacy.is_legacy(head):
        return "torch legacy", torch_legacy.read(path)
    if head[:1] == b"\x80":
        top = pickles.read(path)
        return pickles.kind_of(top), top
    if head[8:9] == b"{":
        return "safetensors", safe.read(path)
    known = "torch, safetensors, NVIDIA, TensorFlow, HDF5 or OpenVINO"
    raise FormatError(f"not a {known} file (it begins with {head[:4]!r})")
