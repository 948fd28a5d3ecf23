"""Images and their changed selves: two sets in the same order, compared one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segmodels import GanatomyError

from .gaussians import Float64
from .imagesets import ImageSet
from .perceptual import Distance

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Distances of N pairs, [N], and of each image of the second set from the one before it, [N - 1], for a scale."""

    each: Float64
    unrelated: Float64


def pair_distances(
    images: ImageSet, others: ImageSet, distance: Distance, batch: int = 8, progress: Progress | None = None
) -> Pairs:
    """Return how far each image is from the one in its place in the other set.

    Raises:
        GanatomyError: for sets of different lengths, or in which a picture could not be read: what follows it would
            stand beside something else.
    """
    for some in (images, others):
        if some.skipped:
            raise GanatomyError(f"{some.name}: {some.skipped[0]} cannot be read, so that no pairs can be made")
    if len(images) != len(others):
        raise GanatomyError(
            f"pairs need as many images on either side, got {len(images)} of {images.name} and {len(others)} of"
            f" {others.name}"
        )
    each: list[Float64] = []
    unrelated: list[Float64] = []
    before: Tensor | None = None
    for ours, theirs in zip(images.batches(batch), others.batches(batch), strict=True):
        each.append(distance(ours, theirs).double().cpu().numpy())
        row = theirs if before is None else torch.cat([before, theirs])
        if len(row) > 1:
            unrelated.append(distance(row[:-1], row[1:]).double().cpu().numpy())
        before = theirs[-1:]
        if progress is not None:
            progress(sum(map(len, each)), len(images))
    return Pairs(np.concatenate(each), np.concatenate(unrelated) if unrelated else np.empty(0))
