"""The kernel distance between sets of features (KID): unbiased, so that it means the same for few samples.

Bińkowski et al., ICLR 2018: squared maximum mean discrepancy with the kernel (x.y / D + 1)^3.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from segmodels import GanatomyError

from .gaussians import Float64, as_features

ROWS = 1024  # of the kernel's matrix at a time


def kernel_distance(features: ArrayLike, others: ArrayLike) -> float:
    """Return the unbiased estimate from all pairs; it may be a little below zero when nothing differs.

    Args:
        features, others: [N, D] and [M, D].
    """
    x, y = as_features(features), as_features(others)
    if x.shape[1] != y.shape[1]:
        raise GanatomyError(f"expected features of one length, got {x.shape[1]} and {y.shape[1]}")
    within = sum((_total(z, z) - _diagonal(z)) / (len(z) * (len(z) - 1)) for z in (x, y))
    return float(within - 2 * _total(x, y) / (len(x) * len(y)))


def _total(x: Float64, y: Float64) -> float:
    """Return the sum of the kernel over all pairs."""
    return sum(float(((x[start : start + ROWS] @ y.T / x.shape[1] + 1) ** 3).sum()) for start in range(0, len(x), ROWS))


def _diagonal(x: Float64) -> float:
    return float((((x * x).sum(1) / x.shape[1] + 1) ** 3).sum())
