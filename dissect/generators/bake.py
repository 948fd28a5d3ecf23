"""Baking: edits as weights, where the network without the edits then draws exactly what they draw.

Edits of weights are weights as they stand. Of edits of features only zeros can be exact: a unit that a recipe sets to
zero everywhere is zero, or is not seen, where the slices of weights that its family names are zero
(``Family.zeroed_by``); everything else is refused. What was baked is compared with what was asked for before anybody
gets it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segmodels import GanatomyError
from segmodels.files import shown

from ..edits import Edit, FeatureEdit, Source
from ..weight_edits import WeightEdit, changed_weights
from . import catalog
from .base import Generator
from .family import Slices

Progress = Callable[[int, int], None]

SEEDS = 16  # on which baked and edited images are compared
PIXELS = 8 * 256 * 256  # of the images that are drawn at once
# The arithmetic behind the zeros is the same, so images should be equal to the bit; but a device may round in another
# order. A difference may be 1e-5 of the images' range, a 400th of a grey level, and a thousandth of what the edits do,
# so that no part of them is missing; 2^-18 of the range is no difference (a quarter of it was seen on equal weights
# that only lay elsewhere in memory).
OF_RANGE, OF_EFFECT, ROUNDING = 1e-5, 1e-3, 2.0**-18


class BakeError(GanatomyError):
    """The edits are no weights of this generator; a bundle holds any edits."""


def bake(generator: Generator, edits: Sequence[Edit] | Edit) -> dict[str, Tensor]:
    """Return weights with which the generator, unedited, draws what it draws with ``edits``.

    Args:
        edits: of weights; of features those of strength 1 (for some units 0), everywhere, to zero.

    Returns:
        Canonical name -> tensor on the CPU, of those that change.

    Raises:
        BakeError: naming the first edit that is not exactly weights, and why.
        GanatomyError: for edits that the generator does not have, and another generator's recipe.
    """
    names = {module: name for name, module in generator.module.named_modules()}
    family = next((known for known in catalog.FAMILIES if known.name == generator.family), None)
    with generator.lock:  # a pass beside this one may have exchanged weights
        before = generator.module.state_dict()
    chosen = generator.check_edits(edits)
    # What is zero stays so, whatever is added to other weights; so edits of weights come first.
    rewritten = changed_weights(before, [edit for edit in chosen if isinstance(edit, WeightEdit)])
    baked = {name: tensor.cpu() for name, tensor in rewritten.items()}
    for edit in chosen:
        if edit.idle or isinstance(edit, WeightEdit):
            continue
        reason = _not_zeroing(edit)
        slices: Slices | str = "it is not known which weights make its units"
        if family is not None:
            slices = family.zeroed_by(generator, names[generator._sites[edit.layer].module])
        if reason or isinstance(slices, str):
            raise BakeError(f"{edit.layer}: {reason or slices}; export a bundle instead (bundle=True, --bundle)")
        units = torch.tensor(np.array(edit.units)[np.broadcast_to(edit.strength, len(edit.units)) == 1])
        for name, axis in slices:
            tensor = baked[name] if name in baked else before[name].detach().cpu().clone()
            baked[name] = tensor.index_fill_(axis, units, 0.0)
    return baked


def _not_zeroing(edit: FeatureEdit) -> str:
    """Return why an edit does not simply make its units zero, or ""."""
    if edit.mask is not None:
        return "the edit acts inside a mask, weights act everywhere"
    if isinstance(edit.values, Source):
        return "the edit puts in another image's features, weights can only make a unit zero"
    if edit.values is not None and edit.values.any():
        return "the edit puts in values, weights can only make a unit zero"
    partly = [strength for strength in np.ravel(edit.strength) if strength not in (0, 1)]
    return f"the edit has the strength {partly[0]:g}, only 1 is exact in weights" if partly else ""


@dataclass(frozen=True)
class Comparison:
    """How far images of baked weights are from those of the edits.

    Attributes:
        largest: absolute difference of any number; NaN if an image holds one.
        bound: what it may be at most.
        effect: the largest difference that the edits themselves make.
    """

    largest: float
    bound: float
    effect: float

    @property
    def same(self) -> bool:
        """Whether the weights draw what the edits draw."""
        return self.largest <= self.bound


def compare(
    baked: Generator,
    generator: Generator,
    edits: Sequence[Edit] | Edit,
    seeds: Sequence[int] = range(SEEDS),
    progress: Progress | None = None,
) -> Comparison:
    """Draw some seeds with the baked generator, with the edits and without, and compare the images."""
    step = max(1, PIXELS // generator.resolution**2)
    largest, effect, low, high = [], [], [], []
    for start in range(0, len(seeds), step):
        codes = generator.sample(list(seeds[start : start + step]))
        drawn, wanted, plain = baked(codes), generator(codes, edits), generator(codes)
        largest.append(float((drawn - wanted).abs().max()))
        effect.append(float((plain - wanted).abs().max()))
        low.append(float(torch.minimum(plain.min(), wanted.min())))
        high.append(float(torch.maximum(plain.max(), wanted.max())))
        if progress is not None:
            progress(min(start + step, len(seeds)), len(seeds))
    span, change = float(np.max(high) - np.min(low)), float(np.max(effect))
    bound = max(ROUNDING * span, min(OF_RANGE * span, OF_EFFECT * change))
    return Comparison(float(np.max(largest)), bound, change)


def check_baked(
    written: Generator,
    generator: Generator,
    edits: Sequence[Edit] | Edit,
    weights: Mapping[str, Tensor],
    progress: Progress | None = None,
) -> Comparison:
    """Compare a file that was written and read again with what it should be.

    Raises:
        GanatomyError: if a weight is another one, or the images are not those of the edits.
    """
    with generator.lock:
        expected = {name: value.cpu() for name, value in generator.module.state_dict().items()} | dict(weights)
    found = {name: value.cpu() for name, value in written.module.state_dict().items()}
    wrong = sorted(
        name for name in expected.keys() | found.keys()
        if name not in found or name not in expected or not torch.equal(found[name], expected[name])
    )  # fmt: skip
    if wrong:
        raise GanatomyError(f"the written file has other weights than asked for: {shown(wrong)}; nothing was kept")
    result = compare(written, generator, edits, progress=progress)
    if np.isnan(result.largest):
        raise GanatomyError(f"{generator.name} draws NaN with these edits or weights; nothing was kept")
    if not result.same:
        raise BakeError(
            f"the baked weights draw something else than the edits: they differ by {result.largest:.2g}, at most "
            f"{result.bound:.2g} is rounding; nothing was kept; export a bundle instead (bundle=True, --bundle)"
        )
    return result
