"""Precision and recall: which generated images could be real, and which real ones could be generated.

Kynkäänniemi et al., NeurIPS 2019: a set covers what lies within the distance of its k-th neighbour from one of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from segmodels import GanatomyError

from .gaussians import Float64, as_features

NEIGHBOUR = 3  # k of the paper
ROWS = 1024  # of the matrix of distances at a time


@dataclass(frozen=True)
class Coverage:
    """Shares in [0, 1]: of the generated within the real set's cover, of the real within the generated set's."""

    precision: float
    recall: float


def coverage(real: ArrayLike, generated: ArrayLike, neighbour: int = NEIGHBOUR) -> Coverage:
    """Return precision and recall of features [N, D] and [M, D]; GanatomyError for sets of ``neighbour`` or fewer."""
    x, y = as_features(real, neighbour + 1), as_features(generated, neighbour + 1)
    if x.shape[1] != y.shape[1]:
        raise GanatomyError(f"expected features of one length, got {x.shape[1]} and {y.shape[1]}")
    return Coverage(_within(y, x, neighbour), _within(x, y, neighbour))


def _within(points: Float64, cover: Float64, neighbour: int) -> float:
    """Return the share of the points that are within the radius of one of the cover's own."""
    radius = np.concatenate([np.partition(d, neighbour, 1)[:, neighbour] for d in _distances(cover, cover)])
    return sum(int((d <= radius).any(1).sum()) for d in _distances(points, cover)) / len(points)


def _distances(x: Float64, y: Float64):  # type: ignore[no-untyped-def]
    """Yield squared distances, some rows of [N, M] at a time."""
    for start in range(0, len(x), ROWS):
        some = x[start : start + ROWS]
        yield np.maximum((some * some).sum(1)[:, None] + (y * y).sum(1) - 2 * some @ y.T, 0)
