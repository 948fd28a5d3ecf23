"""Converting checkpoints to another layout of their family, or another kind of file; a way back gives every bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as as_safetensors
from torch import Tensor

from segmodels import GanatomyError

from ..disk import replacing
from . import catalog
from .base import Generator
from .checkpoint import StoredNetwork
from .family import Family
from .layouts import Layout
from .loading import load
from .notes import NOTE, as_text, note_of, originals
from .sources import origin_of, reread, target_of

SUFFIXES = {".safetensors": "safetensors", ".pth": "torch", ".pt": "torch"}


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
    if generator.original is not None:
        raise GanatomyError(f"{generator.name} is a bundle, whose edits are no weights; convert its original")
    origin = origin_of(generator)
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
    out = target_of(path, origin, overwrite)
    _, network = reread(origin)
    told = note_of(network.beside)
    teller = next(
        (known for known in (origin.layout, target, *family.layouts) if known.name == told.get("layout")), None
    )
    inside, beside, note = converted(origin.layout, target, network, told, teller, _given(generator))
    if chosen := _chosen(generator, family, target):
        note["options"] = chosen
    if kind == "safetensors":
        metadata = {"format": "pt"} | ({NOTE: as_text(note)} if note else {})
        flat = {key: tensor.contiguous().clone() for key, tensor in (inside | beside).items()}
        data = as_safetensors(flat, metadata)
        with replacing(out) as file:
            file.write(data)
    else:
        contents: dict[str, Any] = {target.container: inside, **beside} if target.container else inside | beside
        if note and (target.container or chosen):  # among the tensors only if images depend on it
            contents[NOTE] = note
        with replacing(out) as file:
            torch.save(contents, file)  # type: ignore[arg-type]
    return out


def converted(
    source: Layout,
    target: Layout,
    network: StoredNetwork,
    told: Mapping[str, object] | None = None,
    teller: Layout | None = None,
    given: Mapping[str, Tensor] | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Return a stored network's tensors in another layout: (inside, beside it, what the conversion rounded).

    Args:
        told: the note of an earlier conversion; teller: the layout whose numbers it rounded.
        given: canonical tensors in place of the file's.
    """
    exact = _still_true(told or {}, teller, source, network.tensors)
    if target is source and not given:
        same = {key: tensor.contiguous() for key, tensor in network.tensors.items()}
        outside = {entry: network.beside.get(entry) for entry in source.outside.values()}
        kept = {key: value for key, value in outside.items() if isinstance(value, Tensor)}
        return same, kept, _rounded(teller, exact)
    canonical = source.read(network.tensors, network.beside) | dict(given or {})
    if teller is not None:
        canonical |= {teller.by_key[key].name: teller.by_key[key].read(tensor) for key, tensor in exact.items()}
    inside, beside = target.write(canonical)
    if teller is target:
        return inside | exact, beside, _rounded(source, _lost(source, target, inside | exact, beside, network.tensors))
    lost = _lost(source, target, inside, beside, network.tensors)
    if teller is not None and not lost:
        return inside, beside, _rounded(teller, _lost(teller, target, inside, beside, exact))
    return inside, beside, _rounded(source, lost)


def _still_true(
    told: Mapping[str, object], teller: Layout | None, source: Layout, now: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return what was rounded, of the numbers that are still what the rounding made of them."""
    exact: dict[str, Tensor] = {}
    if teller is None:
        return exact
    for key, original in originals(told).items():
        place = teller.by_key.get(key)
        became = source.by_name.get(place.name) if place else None
        if place is None or became is None or became.key not in now:
            continue
        try:
            if torch.equal(became.write(place.read(original)), now[became.key]):
                exact[key] = original
        except (RuntimeError, IndexError):  # not of this tensor's shape: somebody else's note
            continue
    return exact


def _lost(
    source: Layout,
    target: Layout,
    inside: Mapping[str, Tensor],
    beside: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Return which of the tensors in the layout ``source`` do not come back from the layout ``target``."""
    back, _ = source.write(target.read(inside, beside))
    return {
        key: tensor
        for key, tensor in tensors.items()
        if key in source.by_key
        and key in back
        and not (back[key].dtype == tensor.dtype and torch.equal(back[key], tensor))
    }


def _rounded(layout: Layout | None, lost: dict[str, Tensor]) -> dict[str, Any]:
    return {"layout": layout.name, "originals": lost} if layout is not None and lost else {}


def _given(generator: Generator) -> dict[str, Tensor]:
    """Return the canonical tensors that an option gave."""
    given = {fact.name for fact in generator.facts if fact.source == "option"}
    return {
        name: tensor.cpu()
        for name, tensor in generator.module.state_dict().items()
        if name.removeprefix("mapping.").removeprefix("synthesis.input.") in given
    }


def _chosen(generator: Generator, family: Family, target: Layout) -> dict[str, object]:
    """Return the options without which the converted file would make other images."""
    default = {option.name: option.default for option in family.options} | dict(target.defaults)
    differs = {*target.defaults, *origin_of(generator).layout.defaults}  # there also what was assumed has to be said
    known = {f.name: f.value for f in generator.facts if f.source in ("file", "option") or f.name in differs}
    known |= target.implied
    settings = {name for name, value in default.items() if value is not None} | differs  # others are tensors
    plain = {name: value for name, value in known.items() if name in settings and value != default[name]}
    return plain | {name: dict(maps) for name, maps in generator.noted.items()}
