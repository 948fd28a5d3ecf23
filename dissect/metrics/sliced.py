"""Sliced Wasserstein distances: sets are compared along random directions, where it is a matter of sorting.

Survey, Eq. 3. On patches of a Laplacian pyramid (Karras et al., ICLR 2018) it needs no network at all.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from segmodels import GanatomyError

from .gaussians import Float64, as_features

DIRECTIONS = 512
BLOCK = 64  # directions at a time
PATCH = 7  # pixels a side
PATCHES = 128  # of an image at each level
COARSEST = 16  # pixels a side of the last level
KERNEL = np.array([1, 4, 6, 4, 1]) / 16  # Burt and Adelson 1983


def sliced_distance(
    features: ArrayLike, others: ArrayLike, directions: int = DIRECTIONS, power: int = 2, seed: int = 0
) -> float:
    """Return the mean over random unit directions of the projections' Wasserstein distance, to the ``power``-th power.

    Args:
        features, others: [N, D] and [M, D]; where N and M differ, quantiles are compared.
        power: 2 for mean squared differences of sorted projections, 1 for mean absolute ones.
        seed: of the directions.

    Raises:
        GanatomyError: for features of two lengths, another power, or no direction.
    """
    if power not in (1, 2) or directions < 1:
        raise GanatomyError(f"expected power 1 or 2 and at least one direction, got {power} and {directions}")
    projected = _projected(features, others, directions, seed)
    return sum(float(_between(x, y, power).sum()) for x, y in projected) / directions


def resampled_sliced(features: ArrayLike, others: ArrayLike, counts: ArrayLike, again: ArrayLike) -> Float64:
    """Return [R]: :func:`sliced_distance` of sets with their samples repeated, or left out, along the same directions.

    Args:
        features, others: [N, D] and [M, D].
        counts, again: how often each sample is in each draw, integers [R, N] and [R, M].
    """
    a, b = np.asarray(counts, np.int64), np.asarray(again, np.int64)
    total = np.zeros(len(a))
    for x, y in _projected(features, others, DIRECTIONS, 0):
        total += [_between(np.repeat(x, s, 0), np.repeat(y, t, 0), 2).sum() for s, t in zip(a, b, strict=True)]
    return total / DIRECTIONS


def pyramid_distances(
    images: NDArray, others: NDArray, patches: int = PATCHES, directions: int = DIRECTIONS, seed: int = 0
) -> dict[int, float]:
    """Return for each level of a Laplacian pyramid, by its pixels a side, the distance (power 1) of its patches.

    Patches of 7 x 7 from random places, each channel brought to mean 0 and deviation 1 over all patches of its set.

    Args:
        images, others: [N, 3, H, H], any range, H a power of two of at least 16.

    Raises:
        GanatomyError: for images of another shape.
    """
    if images.shape[1:] != others.shape[1:] or images.ndim != 4 or images.shape[2] != images.shape[3]:
        raise GanatomyError(f"expected square images of one size, got {list(images.shape)} and {list(others.shape)}")
    side = images.shape[2]
    if side < COARSEST or side & (side - 1):
        raise GanatomyError(f"expected images of a power of two of at least {COARSEST} pixels a side, got {side}")
    state = np.random.RandomState(seed)
    ours, theirs = _patches(images, patches, state), _patches(others, patches, state)
    return {
        size: sliced_distance(_standard(ours[size]), _standard(theirs[size]), directions, power=1, seed=seed)
        for size in ours
    }


def pyramid(image: Float64) -> list[Float64]:
    """Return the Laplacian pyramid of an image [3, H, H], finest first; the last level is what remains."""
    levels, current = [], np.asarray(image, np.float64)
    while current.shape[1] > COARSEST:
        smaller = _smoothed(current)[:, ::2, ::2]
        levels.append(current - expanded(smaller))
        current = smaller
    return [*levels, current]


def expanded(image: Float64) -> Float64:
    """Return an image [3, h, h] at twice the size."""
    larger = np.zeros((image.shape[0], 2 * image.shape[1], 2 * image.shape[2]))
    larger[:, ::2, ::2] = 4 * image
    return _smoothed(larger)


def _smoothed(image: Float64) -> Float64:
    for axis in (1, 2):
        image = ndimage.correlate1d(image, KERNEL, axis=axis, mode="mirror")
    return image


def _projected(features: ArrayLike, others: ArrayLike, directions: int, seed: int) -> Iterator[tuple[Float64, Float64]]:
    """Yield projections [N, L] and [M, L] of features [N, D] and [M, D], some directions at a time."""
    x, y = as_features(features, least=1), as_features(others, least=1)
    if x.shape[1] != y.shape[1]:
        raise GanatomyError(f"expected features of one length, got {x.shape[1]} and {y.shape[1]}")
    state = np.random.RandomState(seed)
    for start in range(0, directions, BLOCK):
        unit = state.randn(x.shape[1], min(BLOCK, directions - start))
        unit /= np.linalg.norm(unit, axis=0)
        yield x @ unit, y @ unit


def _patches(images: NDArray, each: int, state: np.random.RandomState) -> dict[int, Float64]:
    """Return patches [N * each, 3, 7, 7] of each level."""
    found: dict[int, list[Float64]] = {}
    for image in images:
        for level in pyramid(image):
            side = level.shape[1]
            y, x = state.randint(0, side - PATCH + 1, (2, each))
            windows = np.lib.stride_tricks.sliding_window_view(level, (PATCH, PATCH), axis=(1, 2))
            found.setdefault(side, []).append(windows[:, y, x].swapaxes(0, 1))
    return {side: np.concatenate(parts) for side, parts in found.items()}


def _standard(patches: Float64) -> Float64:
    mean, deviation = patches.mean((0, 2, 3), keepdims=True), patches.std((0, 2, 3), keepdims=True)
    return ((patches - mean) / np.where(deviation > 0, deviation, 1)).reshape(len(patches), -1)


def _between(x: Float64, y: Float64, power: int) -> Float64:
    """Return [L]: the Wasserstein distance, to the ``power``-th power, of each column of x [N, L] and y [M, L]."""
    x, y = np.sort(x, 0), np.sort(y, 0)
    if len(x) == len(y):
        return (np.abs(x - y) ** power).mean(0)
    # Quantile functions are steps. Between neighbouring edges of either, in units of 1 / (N M), both are constant.
    whole = len(x) * len(y)
    edges = np.unique(np.concatenate([np.arange(1, len(x)) * len(y), np.arange(1, len(y)) * len(x), [whole]]))
    shares = np.diff(edges, prepend=0)
    begins = edges - shares
    return (shares / whole) @ np.abs(x[begins // len(y)] - y[begins // len(x)]) ** power
