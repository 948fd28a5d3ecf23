"""Confidence intervals by bootstrap over images: pure functions of arrays, the same for the same numbers and seed.

Pixels of one image belong together, so it is images that are drawn anew, not pixels (Efron and Tibshirani, 1993,
percentile intervals).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segmodels import GanatomyError

Float64 = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 2000
FEWEST = 10  # images; below, a bootstrap says less than the images themselves
CHUNK_VALUES = 1 << 22  # weights drawn at a time


def of_mean(values: ArrayLike, seed: int = 0, level: float = LEVEL) -> Float64:
    """Return the interval [..., 2] of the mean over images of values [N, ...]; NaN for fewer than 10 images."""
    array = np.asarray(values, np.float64)
    return _interval([sums / len(array) for sums in _resampled(array, seed)], array.shape[1:], level)


def of_ratio(above: ArrayLike, below: ArrayLike, seed: int = 0, level: float = LEVEL) -> Float64:
    """Return the interval [..., 2] of a pooled ratio: sum over images of ``above`` [N, ...] by that of ``below``.

    It is NaN for fewer than 10 images, and where ``below`` is 0 in all of them. With one seed, the same images are
    drawn as for :func:`of_mean`.
    """
    numerator, denominator = np.asarray(above, np.float64), np.asarray(below, np.float64)
    if numerator.shape != denominator.shape:
        raise GanatomyError(f"expected as many numerators as denominators, got {numerator.shape}, {denominator.shape}")
    both = np.stack([numerator, denominator], -1)
    drawn = []
    for sums in _resampled(both, seed):
        total = sums[..., 1]
        drawn.append(np.divide(sums[..., 0], total, out=np.full(total.shape, np.nan), where=total > 0))
    return _interval(drawn, numerator.shape[1:], level)


def pooled_change(before: ArrayLike, after: ArrayLike) -> Float64:
    """Return sum after / sum before - 1 over the first axis; NaN where the sum before is 0."""
    total = np.asarray(before, np.float64).sum(0)
    gained = np.asarray(after, np.float64).sum(0)
    return np.divide(gained, total, out=np.full(np.shape(total), np.nan), where=total > 0) - 1


def _resampled(values: Float64, seed: int) -> Iterator[Float64]:
    """Yield sums over images drawn with replacement, [some of the resamples, ...]; nothing for too few images."""
    count = len(values)
    if count < FEWEST:
        return
    state, flat, left = np.random.RandomState(seed), values.reshape(count, -1), RESAMPLES
    while left:
        some = min(left, max(1, CHUNK_VALUES // count))
        drawn = state.randint(0, count, (some, count)) + count * np.arange(some)[:, None]
        times = np.bincount(drawn.ravel(), minlength=some * count).reshape(some, count)
        yield (times.astype(np.float64) @ flat).reshape(some, *values.shape[1:])
        left -= some


def _interval(drawn: list[Float64], shape: tuple[int, ...], level: float) -> Float64:
    """Return the middle share ``level`` of what was drawn, [..., 2]; what is NaN was not drawn."""
    if not drawn:
        return np.full((*shape, 2), np.nan)
    every = np.concatenate(drawn)
    tails = [(1 - level) / 2, (1 + level) / 2]
    known = ~np.isnan(every).all(0)
    interval = np.full((*shape, 2), np.nan)
    if known.any():
        interval[known] = np.moveaxis(np.nanquantile(every[:, known], tails, axis=0), 0, -1)
    return interval
