"""Writing a network anew without some of its tensors, where no other numbers in its file make what is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as as_safetensors
from torch import Tensor

from segmodels import GanatomyError

from ..disk import replacing
from .checkpoint import Checkpoint, StoredNetwork
from .family import Origin
from .notes import NOTE, as_text, note_of

FORMATS = ("safetensors", "torch zip", "torch legacy")


def write_without(
    checkpoint: Checkpoint,
    network: StoredNetwork,
    origin: Origin,
    inside: Mapping[str, Tensor],
    dropped: set[str],
    out: Path,
) -> None:
    """Write the network alone, in the same kind of file under the same entry, with other values and without some.

    What only logged something beside a tensor that is dropped goes with it.

    Args:
        checkpoint, network: as read.
        origin: whose layout says what is only a log.
        inside: key -> values in place of the file's.
        dropped: keys.
        out: the new file.

    Raises:
        GanatomyError: for a kind of file that is not written.
    """
    if checkpoint.format not in FORMATS:
        raise GanatomyError(
            f"{checkpoint.path.name}: a file of the kind {checkpoint.format} cannot be written without its spectral "
            "norm; convert it to safetensors instead"
        )
    owners = {key.rpartition(".")[0] for key in dropped}
    kept: dict[str, Tensor] = {}
    for key, tensor in network.tensors.items():
        logged = origin.layout.ignored(key) and key.rpartition(".")[0] in owners
        if key not in dropped and not logged:
            value = inside.get(key, tensor)
            kept[network.prefix + key] = (value if value.dtype == tensor.dtype else _cast(value, tensor)).contiguous()
    note = note_of(network.beside)
    with replacing(out) as file:
        if checkpoint.format == "safetensors":
            metadata = {"format": "pt"} | ({NOTE: as_text(note)} if note else {})
            file.write(as_safetensors({key: tensor.clone() for key, tensor in kept.items()}, metadata))
        else:
            contents: dict[str, Any] = {network.where: kept} if network.where else kept
            if note:
                contents = contents | {NOTE: note}
            zipped = checkpoint.format == "torch zip"
            torch.save(contents, file, _use_new_zipfile_serialization=zipped)  # type: ignore[arg-type]


def _cast(value: Tensor, stored: Tensor) -> Tensor:
    """Return a changed value in the stored type only if that has as many digits."""
    return value.to(stored.dtype) if stored.dtype == torch.float64 else value
