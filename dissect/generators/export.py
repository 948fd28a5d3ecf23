"""Writing checkpoints: in the flavour a generator came in, or converted to another layout of its family."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as as_safetensors
from torch import Tensor

from segmodels import GanatomyError

from ..disk import replacing
from ..edits import FeatureEdit
from . import catalog, checkpoint
from .base import Generator
from .checkpoint import StoredNetwork, shown
from .family import Origin, recognise
from .layouts import Layout
from .loading import load

SUFFIXES = {".safetensors": "safetensors", ".pth": "torch", ".pt": "torch"}
NOTE = "ganatomy"  # the entry of a converted file that holds what the conversion rounded


def export(
    generator: Generator,
    path: str | Path,
    edits: Sequence[FeatureEdit] | FeatureEdit = (),
    *,
    weights: Mapping[str, Tensor] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the generator's checkpoint in the flavour it came in: same kind of file, same keys, same records.

    Everything of the original file is kept byte for byte, but for the numbers that changed.

    Args:
        path: the new file (a folder for OpenVINO).
        edits: none yet: changes of features are not baked into weights.
        weights: canonical name -> tensor in place of the generator's own.
        overwrite: replace what is at ``path``.

    Raises:
        GanatomyError: if the generator came from no file, the file has changed since or cannot be rewritten, or a
            weight does not fit.
    """
    if isinstance(edits, FeatureEdit) or len(edits):
        raise GanatomyError("edits of features cannot be exported as weights; export without edits")
    origin = _origin(generator)
    out = _target(path, origin, overwrite)
    stored, network = _reread(origin)
    before = generator.module.state_dict()
    wrong = [name for name, value in (weights or {}).items() if before.get(name, value[None]).shape != value.shape]
    if wrong:
        raise GanatomyError(f"{generator.name} has no weight of that name and shape: {shown(wrong)}")
    changed = {name: value for name, value in (weights or {}).items() if not torch.equal(before[name].cpu(), value)}
    inside = {
        origin.layout.by_name[name].key: origin.layout.by_name[name].write(value) for name, value in changed.items()
    }
    checkpoint.write_copy(stored, network, inside, out)
    return out


def convert(
    source: Generator | str | Path, path: str | Path, layout: str | None = None, *, overwrite: bool = False
) -> Path:
    """Write a generator's tensors in another layout of its family, or another kind of file.

    A conversion and its reverse give back every bit: where arithmetic has to round (the +1 of a style bias), the
    original numbers are kept beside the network.

    Args:
        source: a generator that came from a file, or anything that :func:`load` opens to one.
        path: the new file; its suffix says which kind: ``.safetensors``, ``.pth`` or ``.pt``.
        layout: name of the layout; None keeps the one it is in.
        overwrite: replace what is at ``path``.

    Raises:
        GanatomyError: for an unknown layout, or one that cannot hold this network exactly.
    """
    generator = source if isinstance(source, Generator) else load(source)
    origin = _origin(generator)
    family = catalog.family(generator.family)
    own = family.layout(origin.layout.name)
    wanted = family.layout(layout or own.becomes or own.name)
    reason = wanted.cannot(generator.configuration) if wanted is not own or own.becomes else None
    target = origin.layout if wanted is own else wanted  # a graph's layout is that of its file
    if reason:
        raise GanatomyError(f"{generator.name} cannot be stored in the layout {target.name}: {reason}")
    kind = SUFFIXES.get(Path(path).suffix.lower())
    if kind is None:
        raise GanatomyError(f"{path}: say the kind of file by its suffix: {', '.join(SUFFIXES)}")
    out = _target(path, origin, overwrite)
    stored, network = _reread(origin)
    inside, beside, note = converted(origin.layout, target, network, _note(stored, network))
    if kind == "safetensors":
        metadata = {"format": "pt"} | ({NOTE: json.dumps(note, default=_packed)} if note else {})
        flat = {key: tensor.contiguous().clone() for key, tensor in (inside | beside).items()}
        data = as_safetensors(flat, metadata)
        with replacing(out) as file:
            file.write(data)
    else:
        contents: dict[str, Any] = {target.container: inside, **beside} if target.container else {**inside}
        if note and target.container:
            contents[NOTE] = note
        with replacing(out) as file:
            torch.save(contents, file)  # type: ignore[arg-type]
    return out


def converted(
    source: Layout, target: Layout, network: StoredNetwork, note: object = None
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Return a stored network's tensors in another layout: (inside, beside it, what the conversion rounded).

    ``note`` is what an earlier conversion rounded.
    """
    canonical = source.read(network.tensors, network.beside)
    if target is source:
        same = {key: tensor.contiguous() for key, tensor in network.tensors.items()}
        outside = {entry: network.beside.get(entry) for entry in source.outside.values()}
        return same, {key: value for key, value in outside.items() if isinstance(value, Tensor)}, {}
    inside, beside = target.write(canonical)
    for key, original in originals(note, target).items():
        place = target.by_key.get(key)
        became = source.by_name.get(place.name) if place else None
        # Only where the number is still the one that it became.
        if place and became and _same(became.write(place.read(original)), network.tensors.get(became.key)):
            inside[key] = original
    back, _ = source.write(target.read(inside, beside))
    lost = {
        key: tensor
        for key, tensor in network.tensors.items()
        if key in source.by_key and key in back and not torch.equal(back[key], tensor)
    }
    return inside, beside, ({"layout": source.name, "originals": lost} if lost else {})


def _same(became: Tensor, now: Tensor | None) -> bool:
    return now is not None and torch.equal(became, now)


def _note(stored: checkpoint.Checkpoint, network: StoredNetwork) -> object:
    """Return the note of an earlier conversion, or None: an entry beside the network, or safetensors' metadata."""
    if stored.format != "safetensors":
        return network.beside.get(NOTE)
    with safe_open(stored.path, "pt") as file:
        text = (file.metadata() or {}).get(NOTE)
    try:
        return None if text is None else json.loads(text, object_hook=_unpacked)
    except (ValueError, RuntimeError):  # somebody else's note
        return None


def originals(note: object, target: Layout) -> dict[str, Tensor]:
    """Return the numbers in the layout ``target`` that an earlier conversion out of it rounded."""
    if not isinstance(note, Mapping) or note.get("layout") != target.name:
        return {}
    kept = note.get("originals")
    return {k: v for k, v in kept.items() if isinstance(v, Tensor)} if isinstance(kept, Mapping) else {}


def _packed(tensor: Tensor) -> dict[str, object]:
    """Return float32 numbers as JSON that keeps every bit."""
    data = tensor.float().contiguous().numpy().astype("<f4").tobytes()
    return {"float32": base64.b64encode(data).decode(), "shape": list(tensor.shape)}


def _unpacked(value: dict[str, Any]) -> object:
    if value.keys() != {"float32", "shape"}:
        return value
    data = torch.frombuffer(bytearray(base64.b64decode(value["float32"])), dtype=torch.float32)
    return data.reshape(value["shape"])


def _origin(generator: Generator) -> Origin:
    if generator.origin is None:
        raise GanatomyError(f"{generator.name} did not come from a checkpoint; only checkpoints are written again")
    return generator.origin


def _target(path: str | Path, origin: Origin, overwrite: bool) -> Path:
    out = Path(path)
    if out.exists() and (origin.path.exists() and out.samefile(origin.path)):
        raise GanatomyError(f"{out} is the generator's own file; choose another name")
    if out.exists() and not overwrite:
        raise GanatomyError(f"{out} exists; choose another name, or overwrite it (overwrite=True, --overwrite)")
    if not out.parent.is_dir():
        raise GanatomyError(f"no such folder: {out.parent}")
    return out


def _reread(origin: Origin) -> tuple[checkpoint.Checkpoint, StoredNetwork]:
    """Return the file and the network in it that the generator came from."""
    stored = checkpoint.read(origin.path)
    if stored.sha256 != origin.sha256:
        raise GanatomyError(f"{origin.path} has changed since the generator was loaded; load it again")
    for network in stored.networks:
        found = recognise(catalog.FAMILIES, network)
        if network.where == origin.where and found is not None and found[1].name == origin.layout.name:
            return stored, network
    raise GanatomyError(f"{origin.path} no longer holds the generator")
