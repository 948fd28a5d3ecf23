"""What a conversion keeps beside the network, because the other layout has no place for it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

NOTE = "ganatomy"  # the entry of a converted file; a text in safetensors' metadata


def note_of(beside: Mapping[str, object]) -> Mapping[str, object]:
    """Return the note of an earlier conversion among a file's other entries; empty if there is none."""
    note, metadata = beside.get(NOTE), beside.get("__metadata__")
    if isinstance(metadata, Mapping) and isinstance(metadata.get(NOTE), str):
        try:
            note = json.loads(metadata[NOTE], object_hook=_unpacked)
        except (TypeError, ValueError, RuntimeError):  # somebody else's note
            note = None
    return note if isinstance(note, Mapping) else {}


def as_text(note: Mapping[str, object]) -> str:
    """Return a note as JSON that keeps every bit."""
    return json.dumps(note, default=_packed)


def originals(note: Mapping[str, object]) -> dict[str, Tensor]:
    """Return the numbers that an earlier conversion rounded, under the names of the layout that the note tells."""
    kept = note.get("originals")
    return {k: v for k, v in kept.items() if isinstance(v, Tensor)} if isinstance(kept, Mapping) else {}


def settings(note: Mapping[str, object]) -> dict[str, object]:
    """Return the options that the network was converted with: plain values, and tensors by name."""
    kept = note.get("options")
    plain = (str, int, float, bool, type(None))

    def known(value: object) -> bool:
        maps = isinstance(value, Mapping) and all(isinstance(one, Tensor) for one in value.values())
        return maps or isinstance(value, plain)

    return {str(k): v for k, v in kept.items() if known(v)} if isinstance(kept, Mapping) else {}


def _packed(tensor: Tensor) -> dict[str, object]:
    # Stored originals are of the types that a style bias has: no narrower one loses bits in float32.
    kind = "float64" if tensor.dtype == torch.float64 else "float32"
    data = tensor.to(getattr(torch, kind)).contiguous().numpy()
    text = base64.b64encode(data.astype(data.dtype.newbyteorder("<")).tobytes()).decode()
    return {kind: text, "shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}


def _unpacked(value: dict[str, Any]) -> object:
    kind = next((kind for kind in ("float32", "float64") if kind in value), None)
    if kind is None or "shape" not in value:
        return value
    data = np.frombuffer(base64.b64decode(value[kind]), np.dtype(kind).newbyteorder("<")).astype(kind)
    stored = getattr(torch, str(value.get("dtype", kind)), None)
    tensor = torch.from_numpy(data).reshape(value["shape"])
    return tensor.to(stored) if isinstance(stored, torch.dtype) else tensor
