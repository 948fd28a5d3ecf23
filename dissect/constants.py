"""What to put in a unit's place: its mean, its mean where a concept is, a high quantile. Read from a dissection.

Each returns float32 [U], for all units of a layer: ``insert(layer, units, constants.quantile(L)[units])``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segmodels import GanatomyError

from . import agreement
from .results import LayerResult

HIGH = 0.005  # share of the pixels at which a unit is above its "high quantile", as in Bau et al., PNAS 2020


def mean(layer: LayerResult) -> NDArray[np.float32]:
    """Return each unit's mean over all pixels of all samples, [U]."""
    return layer.mean.astype(np.float32)


def concept_mean(layer: LayerResult, concept: str | int) -> NDArray[np.float32]:
    """Return each unit's mean where a concept is, [U] (Bau et al., ICLR 2019, the constant of insertion).

    Raises:
        GanatomyError: for an unknown concept, or one that no sample shows.
    """
    index = layer.run.concept_index(concept)
    values = layer.concept_mean[index]
    if not np.isfinite(values).all():
        name = layer.run.concepts[index].name
        raise GanatomyError(f"{layer.run.path}: no sample shows {name!r}, so there is no mean where it is")
    return values.astype(np.float32)


def quantile(layer: LayerResult, tail: float = HIGH) -> NDArray[np.float32]:
    """Return the level [U] that each unit exceeds at about a share ``tail`` of the pixels: the counted one nearest
    to it.

    Raises:
        GanatomyError: for a tail outside 0..1.
    """
    if not 0 < tail < 1:
        raise GanatomyError(f"expected a tail between 0 and 1, got {tail}")
    counted = agreement.tally(layer.counts.sum(0), layer.run.first_plane)
    nearest = np.abs(counted.on / counted.pixels[:, None] - tail).argmin(1)
    return layer.levels[np.arange(len(nearest)), nearest]
