"""The second moment of the keys that enter a convolution, summed over seeds; what "typical" keys are.

Two kinds of keys: a ``patch`` is what one pixel of the output is made of, all of it; a ``channel`` key is one pixel of
the input, whatever tap reads it (Bau et al., ECCV 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dissect import GanatomyError, Generator, Recipe
from dissect.edits import Edit
from dissect.exactness import reproducibly
from dissect.generators.codes import check_seeds
from dissect.generators.convolutions import Convolution
from dissect.generators.segments import keys_of as entering
from dissect.generators.segments import without
from dissect.samples import Sampling

from .patches import Patches

Float64 = NDArray[np.float64]
Progress = Callable[[int, int], None]

KINDS = ("patch", "channel")
CELLS = 256  # of an image and phase: patches that overlap say nearly the same
BATCH = 4  # images in one pass


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over keys.

    Attributes:
        facts: what they are of: generator, layer, weight, kind, sampling, cells; JSON. Equal facts may be merged.
        seeds: of the images, ascending.
        count: keys of each phase (``channel``: of one), [P].
        total: their sums, [n] for each phase. second: the sums of their outer products, [n, n] for each phase.
    """

    facts: Mapping[str, Any]
    seeds: tuple[int, ...]
    count: NDArray[np.int64]
    total: tuple[Float64, ...]
    second: tuple[Float64, ...]

    @property
    def kind(self) -> str:
        """``patch`` or ``channel``."""
        return str(self.facts["kind"])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers in a key of each phase."""
        return tuple(len(total) for total in self.total)

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both sets of images.

        Raises:
            GanatomyError: if they are of other weights or another kind, or a seed is in both.
        """
        if self.facts != other.facts:
            names = sorted({*self.facts, *other.facts})
            differ = ", ".join(name for name in names if self.facts.get(name) != other.facts.get(name))
            raise GanatomyError(f"moments of two kinds cannot be merged; they differ in {differ}")
        if both := sorted(set(self.seeds) & set(other.seeds)):
            raise GanatomyError(f"seed {both[0]} is in both; each image counts once")
        return replace(
            self,
            seeds=tuple(sorted((*self.seeds, *other.seeds))),
            count=self.count + other.count,
            total=tuple(a + b for a, b in zip(self.total, other.total, strict=True)),
            second=tuple(a + b for a, b in zip(self.second, other.second, strict=True)),
        )


def facts_of(
    generator: Generator,
    convolution: Convolution,
    kind: str,
    sampling: Sampling,
    cells: int | None,
    edits: Sequence[Edit],
) -> dict[str, Any]:
    """Return what moments are of, as JSON."""
    if kind not in KINDS:
        raise GanatomyError(f"expected the kind of keys as one of {', '.join(KINDS)}, got {kind!r}")
    facts: dict[str, Any] = {
        "generator": {"name": generator.name, "family": generator.family, "fingerprint": generator.fingerprint},
        "layer": convolution.layer, "weight": convolution.weight, "kind": kind, "cells": cells,
        "sampling": {name: value for name, value in vars(sampling).items() if value != getattr(Sampling(), name)},
    }  # fmt: skip
    return facts | ({"edits": Recipe(edits).id} if edits else {})


def moments(
    generator: Generator,
    convolution: Convolution,
    seeds: Sequence[int],
    *,
    kind: str = "patch",
    sampling: Sampling | None = None,
    cells: int | None = CELLS,
    edits: Sequence[Edit] | Edit = (),
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Moments:
    """Return the moments of the keys of some images, summed in float64.

    Args:
        seeds: of the images; none twice.
        kind: ``patch`` or ``channel``.
        sampling: how codes are drawn from seeds.
        cells: keys of each image and phase at most, drawn by the image's own seed; None for all.
        edits: that are active; those of this very weight leave its keys alone.
        batch: images in one pass. progress: called with (images done, all).
    """
    active = without(generator.check_edits(edits), convolution.weight)
    (found,) = moments_of(
        generator, [convolution], seeds, kind=kind, sampling=sampling, cells=cells, edits=active, batch=batch,
        progress=progress,
    )  # fmt: skip
    return found


def moments_of(
    generator: Generator,
    convolutions: Sequence[Convolution],
    seeds: Sequence[int],
    *,
    kind: str = "patch",
    sampling: Sampling | None = None,
    cells: int | None = CELLS,
    edits: Sequence[Edit] | Edit = (),
    batch: int = BATCH,
    progress: Progress | None = None,
) -> list[Moments]:
    """Return the moments of several convolutions from one pass; see :func:`moments`."""
    chosen, how = check_seeds(seeds), sampling or Sampling()
    if not chosen or not convolutions:
        raise GanatomyError("expected seeds of at least one image, and at least one layer")
    if len(set(chosen)) < len(chosen):
        raise GanatomyError("seeds repeat; each image counts once")
    active = generator.check_edits(edits)
    facts = [facts_of(generator, one, kind, how, cells, active) for one in convolutions]
    sums = [_Sums(sizes_of(Patches.of(one), kind), generator.device) for one in convolutions]
    with reproducibly(torch.get_num_threads()):
        for start in range(0, len(chosen), batch):
            some = chosen[start : start + batch]
            codes = generator.sample(some, how.classes, how.truncation, how.cutoff, how.noise)
            for one, found, total in zip(
                convolutions, entering(generator, codes, convolutions, active), sums, strict=True
            ):
                for seed, image in zip(some, found, strict=True):
                    for phase, keys in enumerate(keys_of(Patches.of(one), kind, image[None])):
                        total.add(phase, picked(keys, cells, seed, phase))
            if progress is not None:
                progress(min(start + batch, len(chosen)), len(chosen))
    return [Moments(fact, tuple(sorted(chosen)), *total.done()) for fact, total in zip(facts, sums, strict=True)]


def sizes_of(patches: Patches, kind: str) -> tuple[int, ...]:
    """Return the numbers in a key of each phase."""
    if kind == "channel":
        return (patches.inputs,)
    return tuple(patches.inputs * len(phase.taps) for phase in patches.phases)


def keys_of(patches: Patches, kind: str, x: Tensor) -> list[Tensor]:
    """Return all keys of an input [N, I, h, w], a tensor [n, keys] for each phase."""
    if kind == "channel":
        return [x.transpose(0, 1).flatten(1)]
    return [patches.keys(x, phase).transpose(0, 1).flatten(1) for phase in patches.phases]


def picked(keys: Tensor, cells: int | None, seed: int, phase: int) -> Tensor:
    """Return at most so many of an image's keys [n, keys], drawn by its seed."""
    if cells is None or keys.shape[1] <= cells:
        return keys
    state = np.random.RandomState([seed, phase, 11])  # 11: no other draw begins alike
    index = state.choice(keys.shape[1], cells, replace=False)
    return keys[:, torch.from_numpy(np.sort(index)).to(keys.device)]


class _Sums:
    """Sums in float64 on the device; an image at a time, so that batches do not matter."""

    def __init__(self, sizes: Sequence[int], device: torch.device) -> None:
        self._count = [0] * len(sizes)
        self._total = [torch.zeros(n, dtype=torch.float64, device=device) for n in sizes]
        self._second = [torch.zeros(n, n, dtype=torch.float64, device=device) for n in sizes]

    def add(self, index: int, keys: Tensor) -> None:
        exact = keys.double()
        if not torch.isfinite(exact).all():
            raise GanatomyError("the keys of an image hold NaN or infinite values")
        self._count[index] += exact.shape[1]
        self._total[index] += exact.sum(1)
        self._second[index].addmm_(exact, exact.T)

    def done(self) -> tuple[NDArray[np.int64], tuple[Float64, ...], tuple[Float64, ...]]:
        return (
            np.array(self._count, np.int64),
            tuple(total.cpu().numpy() for total in self._total),
            tuple(second.cpu().numpy() for second in self._second),
        )
