"""Writing generators: the checkpoint in the flavour it came in, with edits baked into it, or a bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from segmodels import GanatomyError
from segmodels.files import one_line, shown

from ..edits import Edit, FeatureEdit, Source
from ..recipes import Recipe
from . import bundles, catalog, checkpoint
from .bake import Progress, bake, check_baked
from .base import Generator
from .conversion import convert
from .family import Origin, open_checkpoint
from .layouts import Place
from .sources import origin_of, reread, target_of

TORCH = ("torch zip", "torch legacy")
KINDS = {".safetensors": ("safetensors",), ".pth": TORCH, ".pt": TORCH, ".pkl": ("nvidia pickle", "pickle")}


def export(
    generator: Generator,
    path: str | Path,
    edits: Sequence[Edit] | Edit = (),
    *,
    weights: Mapping[str, Tensor] | None = None,
    overwrite: bool = False,
    bundle: bool = False,
    with_weights: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write the generator's checkpoint in the flavour it came in: same kind of file, same keys, same records.

    Everything of the original file is kept byte for byte, but for the numbers that changed. With ``edits`` it is a
    checkpoint that draws, without them, what the generator draws with them: on 16 seeds that is tried with the written
    file, before it gets its name. Of a generator that is a bundle, what is written is its original with all edits.

    Args:
        path: the new file (a folder for OpenVINO).
        edits: to be baked into the weights, which only some can be: strength 1, everywhere, to zero.
        weights: canonical name -> tensor in place of the generator's own.
        overwrite: replace what is at ``path``.
        bundle: write a bundle: one file with the fingerprint and the edits, any edits, which :func:`load` opens.
        with_weights: put the generator's weights into the bundle too. Who may have them is for you to know.
        progress: called with (images compared, all).

    Raises:
        BakeError: if the edits are not exactly weights of this generator.
        GanatomyError: if the generator came from no file, the file has changed since or cannot be rewritten, or a
            weight does not fit.
    """
    edits = generator.check_edits(edits)
    if weights and (edits or bundle):
        raise GanatomyError("expected edits= or weights=, not both; export the weights first, then their edits")
    if with_weights and not bundle:
        raise GanatomyError("with_weights is for bundles; a checkpoint has its weights (bundle=True, --bundle)")
    if generator.original is not None:
        if any(isinstance(edit, FeatureEdit) and isinstance(edit.values, Source) for edit in edits):
            raise GanatomyError("edits on a bundle that take other images' features cannot be exported")
        generator, edits = generator.original, (*generator.recipe, *edits)
    out = target_of(path, generator.origin, overwrite)
    if bundle:
        return _bundle(generator, out, Recipe(edits, generator), with_weights)
    origin = origin_of(generator)
    kinds = KINDS.get(out.suffix.lower())
    if out.suffix.lower() == bundles.SUFFIX:
        raise GanatomyError(f"{out.name}: {bundles.SUFFIX} is for bundles (bundle=True, --bundle)")
    if kinds is not None and origin.format not in kinds and out.suffix.lower() != origin.path.suffix.lower():
        raise GanatomyError(
            f"{out.name}: an export is the kind of file it came from ({origin.format}); "
            f"name it so, or convert it to {out.suffix} (convert, ganatomy generators convert)"
        )
    if not edits:
        _write(generator, origin, weights or {}, out)
        return out
    baked = bake(generator, edits)
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".ganatomy-") as folder:
            draft = Path(folder) / out.name
            _write(generator, origin, baked, draft)
            check_baked(_opened(draft, generator, origin), generator, edits, baked, progress)
            _put(draft, out)
    except OSError as error:
        raise GanatomyError(f"cannot write {out}: {error.strerror or one_line(error)}") from error
    return out


def _write(generator: Generator, origin: Origin, weights: Mapping[str, Tensor], out: Path) -> None:
    """Write a copy of the generator's file with other weights in it."""
    stored, network = reread(origin)
    with generator.lock:  # a pass beside this one may have exchanged weights
        before = {name: value.cpu() for name, value in generator.module.state_dict().items()}
    wrong = [name for name, value in weights.items() if before.get(name, value[None]).shape != value.shape]
    if wrong:
        raise GanatomyError(f"{generator.name} has no weight of that name and shape: {shown(wrong)}")
    changed = {name: value.cpu() for name, value in weights.items() if not torch.equal(before[name], value.cpu())}
    inside = {}
    for name, value in changed.items():
        if not torch.isfinite(value).all():
            raise GanatomyError(f"the weight {name} holds NaN or infinite values")
        place = origin.layout.by_name[name]
        inside[place.key] = _stored(place, before[name], value, network.tensors.get(place.key))
    checkpoint.write_copy(stored, network, inside, out)


def _stored(place: Place, before: Tensor, value: Tensor, stored: Tensor | None) -> Tensor:
    """Return a weight as its file stores it; numbers that are still the same keep all their digits there."""
    old, new = place.write(before), place.write(value)
    if stored is None or stored.shape != new.shape:
        return new  # which the writer refuses
    return torch.where(old == new, stored, new.to(stored.dtype))


def _opened(path: Path, generator: Generator, origin: Origin) -> Generator:
    """Open a draft as the generator's own file was opened."""
    stored = checkpoint.read(path)
    return open_checkpoint(stored, catalog.FAMILIES, generator.name, generator.device, origin.given)


def _put(draft: Path, out: Path) -> None:
    """Give a draft, a file or a folder of files, its name."""
    if not draft.is_dir():
        draft.replace(out)
        return
    out.mkdir(exist_ok=True)
    for file in sorted(draft.iterdir()):
        file.replace(out / file.name)


def _bundle(generator: Generator, out: Path, recipe: Recipe, with_weights: bool) -> Path:
    if out.suffix.lower() != bundles.SUFFIX:
        raise GanatomyError(f"expected a name that ends in {bundles.SUFFIX} for a bundle, got {shown([out.name])}")
    original = bundles.original_of(generator)
    if with_weights:
        with tempfile.TemporaryDirectory() as folder:
            path = convert(generator, Path(folder) / "network.safetensors")
            with safe_open(path, "pt") as file:
                inside = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no dict)
                original = replace(original, network=(inside, file.metadata() or {}))
        if bundles.inside(original, out, generator.device, original.options).fingerprint != generator.fingerprint:
            raise GanatomyError(f"{generator.name}: its weights cannot be put into a bundle exactly; leave them out")
    bundles.write(original, recipe, out)
    return out
