"""The kernel distance between sets of features (KID): unbiased, so that it means the same for few samples.

Bińkowski et al., ICLR 2018: squared maximum mean discrepancy with the kernel (x.y / D + 1)^3.
"""

from __future__ import annotations

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
        """Return :func:`kernel_distance` of features [N, D] and the reference."""
        x = as_features(features)
        if x.shape[1] != self._features.shape[1]:
            raise GanatomyError(f"expected features of one length, got {x.shape[1]} and {self._features.shape[1]}")
        across = _total(x, self._features) / (len(x) * len(self._features))
        return float(_own(x) + self._within - 2 * across)


def kernel_distance(features: ArrayLike, others: ArrayLike) -> float:
    """Return the unbiased estimate from all pairs; it may be a little below zero when nothing differs.

    Args:
        features, others: [N, D] and [M, D].
    """
    return KernelTarget(others).distance(features)


def _own(x: Float64) -> float:
    """Return the mean of the kernel over all pairs of different samples."""
    return (_total(x, x) - _diagonal(x)) / (len(x) * (len(x) - 1))


def _total(x: Float64, y: Float64) -> float:
    """Return the sum of the kernel over all pairs."""
    return sum(float(((x[start : start + ROWS] @ y.T / x.shape[1] + 1) ** 3).sum()) for start in range(0, len(x), ROWS))


def _diagonal(x: Float64) -> float:
    return float((((x * x).sum(1) / x.shape[1] + 1) ** 3).sum())
