"""Precision and recall: which generated images could be real, and which real ones could be generated.

Kynkäänniemi et al., NeurIPS 2019: a set covers what lies within the distance of its k-th neighbour from one of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segmodels import GanatomyError

from .gaussians import Float64, as_features

NEIGHBOUR = 3  # k of the paper
ROWS = 1024  # of the matrix of distances at a time
NEAREST = 64  # neighbours that are kept of each sample: that fewer than 3 of them are in a half has a chance of 1e-16
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Coverage:
    """Shares in [0, 1].

    Attributes:
        precision: of the generated within the real set's cover. recall: of the real within the generated set's.
    """

    precision: float
    recall: float


def coverage(real: ArrayLike, generated: ArrayLike, neighbour: int = NEIGHBOUR) -> Coverage:
    """Return precision and recall of features [N, D] and [M, D]; GanatomyError for sets of ``neighbour`` or fewer."""
    x, y = as_features(real, neighbour + 1), as_features(generated, neighbour + 1)
    ((precision, recall),) = coverages(x, y, np.ones((1, len(x)), bool), np.ones((1, len(y)), bool), neighbour)
    return Coverage(float(precision), float(recall))


def coverages(real: ArrayLike, generated: ArrayLike, some: Bools, more: Bools, neighbour: int = NEIGHBOUR) -> Float64:
    """Return precision and recall of parts of two sets, [R, 2].

    Args:
        real, generated: features [N, D] and [M, D].
        some, more: which samples are in each part, [R, N] and [R, M]: more than ``neighbour`` of each. They may be in
            or out but not repeated, for a sample's copy is its nearest neighbour.
    """
    x, y = as_features(real, neighbour + 1), as_features(generated, neighbour + 1)
    if x.shape[1] != y.shape[1]:
        raise GanatomyError(f"expected features of one length, got {x.shape[1]} and {y.shape[1]}")
    if min(some.sum(1).min(), more.sum(1).min()) <= neighbour:
        raise GanatomyError(f"expected at least {neighbour + 1} samples in each part")
    return np.stack([_within(y, x, more, some, neighbour), _within(x, y, some, more, neighbour)], 1)


def _within(points: Float64, cover: Float64, asked: Bools, taken: Bools, neighbour: int) -> Float64:
    """Return [R]: the share of the points asked for [R, N] that are within the radius of one of the cover's [R, M]."""
    radius = np.where(taken, _radii(cover, taken, neighbour), -1)  # no distance is below it
    hits, start = np.zeros(len(asked)), 0
    for distances in _distances(points, cover):
        rows = slice(start, start + len(distances))
        for r, within in enumerate(radius):
            hits[r] += np.count_nonzero((distances <= within).any(1) & asked[r, rows])
        start = rows.stop
    return hits / asked.sum(1)


def _radii(cover: Float64, taken: Bools, neighbour: int) -> Float64:
    """Return [R, M]: how far each sample's k-th neighbour is among those taken [R, M]; itself is the 0-th."""
    kept, found = min(max(NEAREST, 2 * neighbour), len(cover)), []
    for distances in _distances(cover, cover):
        near = np.argpartition(distances, kept - 1, 1)[:, :kept] if kept < len(cover) else np.arange(kept)[None]
        order = np.argsort(values := np.take_along_axis(distances, near, 1), 1)
        near = np.take_along_axis(np.broadcast_to(near, order.shape), order, 1)
        values = np.take_along_axis(values, order, 1)
        counted = taken[:, near].cumsum(2, dtype=np.int32) > neighbour  # [R, rows, kept]
        last = np.where(counted.any(2), counted.argmax(2), kept - 1)
        found.append(np.take_along_axis(values, last.T, 1).T)
    return np.concatenate(found, 1)


def _distances(x: Float64, y: Float64) -> Iterator[Float64]:
    """Yield squared distances, some rows of [N, M] at a time."""
    squares = (y * y).sum(1)
    for start in range(0, len(x), ROWS):
        some = x[start : start + ROWS]
        yield np.maximum((some * some).sum(1)[:, None] + squares - 2 * some @ y.T, 0)
