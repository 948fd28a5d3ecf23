"""Bringing feature maps to the size at which pixels are counted. The arithmetic is fixed, and NumPy defines it.

Each axis has taps: for every output position a few source positions with weights. Upwards they are bilinear
(``align_corners=False``), downwards averages by area. Rows are combined first, then columns; each product and each
sum is rounded to float32, in the order of the taps, with no fused multiply-add. So the CPU kernel, NumPy and any
other device give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Taps:
    """Resampling of one axis: ``out[o] = sum_t weight[o, t] * x[index[o, t]]``, int32 and float32 [out, T]."""

    index: NDArray[np.int32]
    weight: Float32


def taps(source: int, target: int) -> Taps:
    """Return the taps that bring ``source`` positions to ``target``.

    Up: two taps at ``(o + 0.5) * source / target - 0.5``, clamped to the ends. Down: every source cell that the
    output cell overlaps, weighted by the overlap. Equal: one tap of weight 1.
    """
    if source == target:
        return Taps(np.arange(target, dtype=np.int32)[:, None], np.ones((target, 1), np.float32))
    if target > source:
        centre = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, None)
        low = np.floor(centre).astype(np.int32)
        t = (centre - low).astype(np.float32)
        index = np.stack([low, np.minimum(low + 1, source - 1)], 1)
        return Taps(np.ascontiguousarray(index, np.int32), np.stack([np.float32(1) - t, t], 1))
    overlap = area_matrix(source, target)
    index = np.stack([np.flatnonzero(row)[0] + np.arange(int((overlap > 0).sum(1).max())) for row in overlap])
    index = np.minimum(index, source - 1)
    weight = np.take_along_axis(overlap, index, 1)
    repeated = np.zeros_like(weight, bool)
    repeated[:, 1:] = index[:, 1:] == index[:, :-1]
    weight[repeated] = 0
    return Taps(index.astype(np.int32), weight.astype(np.float32))


def area_matrix(source: int, target: int) -> NDArray[np.float64]:
    """Return [target, source]: which share of each target cell every source cell covers; rows sum to 1."""
    edges = np.arange(target + 1) * source / target
    cells = np.arange(source)
    low = np.maximum(edges[:-1, None], cells[None])
    high = np.minimum(edges[1:, None], cells[None] + 1)
    return np.clip(high - low, 0, None) * (target / source)


def resample(maps: Float32, height: int, width: int) -> Float32:
    """Bring maps float32 [..., h, w] to [..., height, width]: the definition that every kernel must match."""
    return _along(_along(maps, taps(maps.shape[-2], height), -2), taps(maps.shape[-1], width), -1)


def _along(maps: Float32, axis_taps: Taps, axis: int) -> Float32:
    shape = [1] * maps.ndim
    shape[axis] = -1
    total = None
    for tap in range(axis_taps.index.shape[1]):
        term = np.take(maps, axis_taps.index[:, tap], axis) * axis_taps.weight[:, tap].reshape(shape)
        total = term if total is None else total + term
    assert total is not None
    return total.astype(np.float32, copy=False)
