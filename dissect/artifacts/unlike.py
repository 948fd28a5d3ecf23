"""Units whose strongest images are unlike the reference: the per-unit Fréchet distance of Bau et al. (ICLR 2019).

With Inception's features and real images that is a per-unit FID. With the generator's own samples as the reference it
finds units whose images are unlike the rest, which is another thing, and is called ``unlike``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segmodels import GanatomyError

from ..metrics.extractors import Extractor
from ..metrics.gaussians import Target
from ..metrics.imagesets import ImageSet
from ..metrics.scores import Progress, look
from ..results import Run
from .ranking import Float64, Ranking, facts_of

SHARE = 0.01  # of the samples, those that most activate a unit
FEWEST = 16  # of them at least


def unlike(
    run: Run, layer: str, images: Float64, reference: Float64 | None, extractor: Extractor, *, named: str = "",
    top: int | None = None,
) -> Ranking:  # fmt: skip
    """Rank units by how far the images that most activate them are from the reference.

    Args:
        run: with maxima.
        images: features [N, D] of all its samples, in their order (:func:`features_of`).
        reference: features [M, D] of real images, or None for the run's own samples. ``named``: what they are.
        extractor: whose features they are.
        top: how many images of each unit; default: 1% of the samples, at least 16.

    Raises:
        GanatomyError: if the run has no maxima, the features are not of its samples, or there are too few of them.
    """
    result = run.layer(layer)
    maxima = result.maxima
    if len(images) != len(maxima):
        raise GanatomyError(f"expected features of the run's {len(maxima)} samples, got {len(images)}")
    count = top or max(FEWEST, round(SHARE * len(maxima)))
    if not 2 <= count <= len(maxima) // 2:
        raise GanatomyError(f"{len(maxima)} samples are too few for the {count} that most activate each unit")
    strongest = np.argsort(-maxima, 0, kind="stable")[:count]
    scores = distances(images, strongest, images if reference is None else reference)
    real = reference is not None
    facts = facts_of(
        run.manifest["generator"], "fid" if real and extractor.inception else "unlike", result.name, run=run.id,
        extractor=[extractor.name, extractor.sha256], reference=named if real else "its own samples", top=count,
    )  # fmt: skip
    return Ranking(facts, scores, {"activation": np.take_along_axis(maxima, strongest, 0).mean(0).astype(np.float64)})


def distances(images: Float64, chosen: NDArray[np.intp], reference: Float64) -> Float64:
    """Return the Fréchet distance of each unit's images from the reference, [U].

    Args:
        images: features [N, D]. chosen: which of them are each unit's, [k, U].
        reference: features [M, D].
    """
    target = Target(reference)
    return np.array([target.distance(images[rows]).value for rows in chosen.T])


def features_of(images: ImageSet, extractor: Extractor, batch: int = 8, progress: Progress | None = None) -> Float64:
    """Return features [N, D] of a set of images."""
    return look(images, extractor, batch=batch, progress=progress).features
