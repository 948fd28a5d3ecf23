"""The kernel distance between sets of features (KID): unbiased, so that it means the same for few samples.

Bińkowski et al., ICLR 2018: squared maximum mean discrepancy with the kernel (x.y / D + 1)^3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from segmodels import GanatomyError

from .gaussians import Float64, as_features

ROWS = 1024  # of the kernel's matrix at a time


class KernelTarget:
    """A reference set that many others are compared with: its own pairs are looked at once."""

    def __init__(self, features: ArrayLike) -> None:
        self._features = as_features(features)
        self._within = _own(self._features)

    def distance(self, features: ArrayLike) -> float:
        """Return :func:`kernel_distance` of features [N, D] and the reference; GanatomyError for another D."""
        x = as_features(features)
        if x.shape[1] != self._features.shape[1]:
            raise GanatomyError(f"expected features of one length, got {x.shape[1]} and {self._features.shape[1]}")
        across = _total(x, self._features) / (len(x) * len(self._features))
        return float(_own(x) + self._within - 2 * across)

    def resampled(self, features: ArrayLike, counts: ArrayLike) -> Float64:
        """Return [R]: :meth:`distance` with sample i taken ``counts[r, i]`` times, from one look at all pairs."""
        x, taken = as_features(features), np.asarray(counts, np.float64)
        across = taken @ _pairs(x, self._features, np.ones((1, len(self._features))))[0]
        return _repeated(x, taken) + self._within - 2 * across / (taken.sum(1) * len(self._features))


def kernel_distance(features: ArrayLike, others: ArrayLike) -> float:
    """Return the unbiased estimate from all pairs; it may be a little below zero when nothing differs.

    Args:
        features, others: [N, D] and [M, D].
    """
    return KernelTarget(others).distance(features)


def resampled_distances(features: ArrayLike, others: ArrayLike, counts: ArrayLike, again: ArrayLike) -> Float64:
    """Return [R]: :func:`kernel_distance` of sets with their samples repeated, or left out.

    The kernel of a pair is the same in all of them, so that pairs are looked at once and not once for each draw.

    Args:
        features, others: [N, D] and [M, D].
        counts, again: how often each sample is in each draw, [R, N] and [R, M].
    """
    x, y = as_features(features), as_features(others)
    a, b = np.asarray(counts, np.float64), np.asarray(again, np.float64)
    across = (a * _pairs(x, y, b)).sum(1) / (a.sum(1) * b.sum(1))
    return _repeated(x, a) + _repeated(y, b) - 2 * across


def _repeated(x: Float64, counts: Float64) -> Float64:
    """Return :func:`_own` of x with its samples repeated, [R]."""
    total = (counts * _pairs(x, x, counts)).sum(1)
    return (total - counts @ _alone(x)) / (counts.sum(1) * (counts.sum(1) - 1))


def _pairs(x: Float64, y: Float64, counts: Float64) -> Float64:
    """Return [R, N]: the sum of the kernel of each x [N, D] and all y [M, D], each of these ``counts[r, j]`` times."""
    blocks = [counts @ ((y @ x[start : start + ROWS].T) / x.shape[1] + 1) ** 3 for start in range(0, len(x), ROWS)]
    return np.concatenate(blocks, 1)


def _own(x: Float64) -> float:
    """Return the mean of the kernel over all pairs of different samples."""
    return (_total(x, x) - float(_alone(x).sum())) / (len(x) * (len(x) - 1))


def _total(x: Float64, y: Float64) -> float:
    """Return the sum of the kernel over all pairs."""
    return sum(float(((x[start : start + ROWS] @ y.T / x.shape[1] + 1) ** 3).sum()) for start in range(0, len(x), ROWS))


def _alone(x: Float64) -> Float64:
    """Return the kernel of each sample and itself, [N]."""
    return ((x * x).sum(1) / x.shape[1] + 1) ** 3
