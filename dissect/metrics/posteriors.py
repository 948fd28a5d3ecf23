"""The inception score: how sure a classifier is of each image, and how varied the classes are (survey, Eq. 1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from segmodels import GanatomyError

from .gaussians import Float64, as_features

SPLITS = 10  # the custom since Salimans et al., NeurIPS 2016


def inception_score(posteriors: ArrayLike, splits: int = SPLITS) -> Float64:
    """Return exp(E KL(p(c|x) || p(c))) of each split, [splits]; the score is their mean.

    Args:
        posteriors: [N, K], each row a distribution over classes.
        splits: into as many consecutive parts; each has a marginal of its own.

    Raises:
        GanatomyError: for rows that are no distributions, or fewer samples than splits.
    """
    p = as_features(posteriors, least=1)
    if (p < 0).any() or not np.allclose(p.sum(1), 1, atol=1e-4):
        raise GanatomyError("expected each row to be a distribution over classes")
    if not 1 <= splits <= len(p):
        raise GanatomyError(f"expected 1 to {len(p)} splits, got {splits}")
    return np.array([_score(part) for part in np.array_split(p, splits)])


def _score(p: Float64) -> float:
    marginal = np.broadcast_to(p.mean(0), p.shape)
    seen = p > 0  # 0 log 0 = 0
    return float(np.exp((p[seen] * np.log(p[seen] / marginal[seen])).sum() / len(p)))
