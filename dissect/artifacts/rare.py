"""Units that are silent in most images and loud in a few: what a network draws seldom, it has seldom learnt well.

After Choi et al., IJCAI 2022 ("Can we find neurons that cause unrealistic images in deep generative networks?"), who
look at single neurons; here at units, through the maxima that a pass keeps. Needs no real image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segmodels import GanatomyError

from ..results import Run
from .ranking import Float64, Ranking, facts_of

MOST = 0.3  # share of the images in which a rare unit fires at most, as in the paper
HALF = 0.5  # of the way from a unit's mean to its peak, from which on it fires
PEAK = 16  # images whose mean maximum is a unit's peak
ADVISED = 10_000  # samples; with fewer, what is rare is hardly seen


def rare(run: Run, layer: str, most: float = MOST) -> Ranking:
    """Rank a layer's units by how rarely and how strongly they fire.

    A unit fires in an image where its maximum is at least half way from its mean activation to its peak (the mean of
    its 16 largest maxima). With f the share of images in which it fires, and ``contrast`` how far its maxima elsewhere
    stay below those, in units of the latter, the score is ``(1 - f / most) * contrast``; NaN where f > ``most``.

    Raises:
        GanatomyError: if the run has no maxima; for ``most`` outside 0..1.
    """
    if not 0 < most <= 1:
        raise GanatomyError(f"expected a share between 0 and 1, got {most}")
    result = run.layer(layer)
    maxima = result.maxima.astype(np.float64)
    fires, contrast = firing(maxima, result.mean)
    frequency = fires.mean(0)
    usable = (frequency > 0) & (frequency <= most)
    score = np.where(usable, (1 - frequency / most) * contrast, np.nan)
    facts = facts_of(run.manifest["generator"], "rare", result.name, run=run.id, most=most, samples=run.samples)
    return Ranking(facts, score, {"frequency": frequency, "contrast": contrast})


def firing(maxima: Float64, mean: Float64) -> tuple[NDArray[np.bool_], Float64]:
    """Return in which images each unit fires [N, U], and its contrast [U] in 0..1 (0 where it never does, or always).

    Args:
        maxima: of each unit in each image, [N, U]. mean: of each unit over all pixels, [U].
    """
    kept = min(PEAK, len(maxima))
    peak = np.partition(maxima, len(maxima) - kept, 0)[-kept:].mean(0)
    fires = (maxima >= mean + HALF * (peak - mean)) & (peak > mean)
    count = fires.sum(0)
    on = np.divide((maxima * fires).sum(0), count, out=mean.copy(), where=count > 0)
    rest = len(maxima) - count
    off = np.divide((maxima * ~fires).sum(0), rest, out=on.copy(), where=rest > 0)
    height = on - mean
    return fires, np.clip(np.divide(on - off, height, out=np.zeros_like(height), where=height > 0), 0, 1)


def suspects(run: Run, layer: str, most: float = MOST) -> tuple[NDArray[np.int64], Float64]:
    """Return the run's seeds [N], the most suspect image first, and for each how many rare units fire in it, [N].

    This is the paper's score of images, with units in the place of neurons.
    """
    result = run.layer(layer)
    fires, _ = firing(result.maxima.astype(np.float64), result.mean)
    frequency = fires.mean(0)
    count = fires[:, (frequency > 0) & (frequency <= most)].sum(1).astype(np.float64)
    order = np.argsort(-count, kind="stable")
    return run.seeds[order], count[order]
