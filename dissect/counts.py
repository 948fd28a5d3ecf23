"""The joint counts: how many pixels fall into each bin of each unit under each concept.

``count_reference`` defines them in NumPy. :class:`Counter` is the CPU kernel, bit-identical to it however the
samples are cut into batches. What makes it quick: pixels are counted per *combination* of label planes, and a
combination is expanded into its concepts once per atom; pixels at or under the lowest level are not looked up, since
their number follows from the rest; a table from activation to level leaves an exact last step of one or two
comparisons.
"""

from __future__ import annotations

from concurrent.futures import Executor
from itertools import pairwise
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .resample import Float32, Taps, resample, taps

GUIDE = 1024  # entries of a unit's table from activation to level
ROOM = 64  # combinations for which there is room at first
MOST_COMBINATIONS = 4096  # beyond this the tables are expanded and begun again

Labels = NDArray[np.int16]
Counts = NDArray[np.int64]


def count_reference(features: Float32, labels: Labels, levels: Float32, concepts: int) -> Counts:
    """Count in plain NumPy: the definition.

    Args:
        features: float32 [N, U, h, w], finite.
        labels: int16 [N, K, H, W]; a pixel has one concept in every plane, 0 is unlabelled.
        levels: float32 [U, B], ascending along B.
        concepts: C.

    Returns:
        int64 [U, B + 1, C]: bin b holds the pixels whose activation exceeds exactly b of the levels. Concept 0
        counts the pixels that *plane 0* leaves unlabelled, so that plane 0's concepts and it sum to all pixels.

    Raises:
        ValueError: if a feature is not finite.
    """
    if not np.isfinite(features).all():
        raise ValueError("features hold NaN or infinite values")
    units, bins = levels.shape[0], levels.shape[1] + 1
    values = resample(features, *labels.shape[-2:])
    counts = np.zeros((units, bins, concepts), np.int64)
    for unit in range(units):
        bin_of = np.searchsorted(levels[unit], values[:, unit], side="left")
        for plane in range(labels.shape[1]):
            flat = np.bincount((bin_of * concepts + labels[:, plane]).ravel(), minlength=bins * concepts).reshape(
                bins, concepts
            )
            if plane:
                flat[:, 0] = 0
            counts[unit] += flat
    return counts


class Combinations:
    """Numbers for the combinations of labels that occur at a pixel, in the order of first sight."""

    def __init__(self, planes: int, concepts: int) -> None:
        self._concepts = concepts
        self._number: dict[bytes, int] = {}
        self._rows: list[NDArray[np.int16]] = []
        self._planes = planes

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> NDArray[np.int16]:
        """The label of each plane in each combination, int16 [M, K]."""
        return np.array(self._rows, np.int16).reshape(-1, self._planes)

    def encode(self, labels: Labels) -> NDArray[np.int32]:
        """Return the combination of every pixel, int32 [N, H * W], for labels [N, K, H, W]."""
        planes = labels.reshape(labels.shape[0], labels.shape[1], -1)
        key = planes[:, 0].astype(np.int64)
        for plane in range(1, planes.shape[1]):
            if key.max(initial=0) > 2**62 // self._concepts - 1:
                key = np.unique(key, return_inverse=True)[1].reshape(key.shape)
            key = key * self._concepts + planes[:, plane]
        _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        rows = planes.transpose(0, 2, 1).reshape(-1, self._planes)[first]
        numbers = np.empty(len(rows), np.int32)
        for index, row in enumerate(rows):
            name = row.tobytes()
            if name not in self._number:
                self._number[name] = len(self._rows)
                self._rows.append(row.copy())
            numbers[index] = self._number[name]
        return numbers[inverse].reshape(key.shape).astype(np.int32, copy=False)

    def clear(self) -> None:
        """Forget all numbers."""
        self._number.clear()
        self._rows.clear()


class Counter:
    """Joint counts of one layer, real and by chance, accumulated over the samples of an atom.

    Args:
        levels: float32 [U, B].
        shape: (h, w) of the features.
        size: (H, W) of the labels.
    """

    def __init__(self, levels: Float32, shape: tuple[int, int], size: tuple[int, int]) -> None:
        self.levels = np.ascontiguousarray(levels, np.float32)
        self._axes = (*_tap_major(taps(shape[0], size[0])), *_tap_major(taps(shape[1], size[1])))
        self._low, self._scale, self._guide = _guides(self.levels)
        self._tables = self._empty(ROOM)

    def _empty(self, room: int) -> NDArray[np.uint32]:
        units, bins = self.levels.shape
        return np.zeros((2, units, room * bins), np.uint32)

    def reserve(self, combinations: int) -> None:
        """Make room for at least that many combinations."""
        bins = self.levels.shape[1]
        used = self._tables.shape[2]
        if combinations * bins > used:
            grown = self._empty(max(combinations, used // bins * 3 // 2))
            grown[:, :, :used] = self._tables
            self._tables = grown

    def add(
        self, features: Float32, real: NDArray[np.int32], chance: NDArray[np.int32], pool: Executor, parts: int
    ) -> None:
        """Count features [N, U, h, w] against combinations [N, H * W], their own and those of the next sample."""
        bins = np.uint32(self.levels.shape[1])
        offsets = (real.astype(np.uint32) * bins, chance.astype(np.uint32) * bins)
        unit = (self.levels, self._low, self._scale, self._guide)
        arguments: tuple[Any, ...] = (features, *self._axes, *unit, *offsets, *self._tables)
        jobs = [
            pool.submit(_count, *arguments, start, stop)  # type: ignore[call-arg]
            for start, stop in _ranges(len(self.levels), parts)
        ]
        for job in jobs:
            job.result()

    def expand(
        self,
        rows: NDArray[np.int16],
        pixels: NDArray[np.int64],
        coarse: NDArray[np.int64],
        counts: tuple[Counts, Counts],
        blocks: tuple[NDArray, NDArray],
        pool: Executor,
        parts: int,
    ) -> None:
        """Add what was counted to ``counts`` and ``blocks`` and begin again from zero.

        Args:
            rows: int16 [M, K], the combinations.
            pixels: int64 [2, M], how many pixels had each combination (real, chance).
            coarse: int64 [Q], indices of the coarse levels.
            counts: real and chance, int64 [U, C, B + 1] (concept-major: a combination's bins are added as a run).
            blocks: real and chance, [U, C, Q + 1], the bins between the coarse levels.
        """
        bin_to_coarse = np.searchsorted(coarse, np.arange(self.levels.shape[1] + 1), side="left")
        jobs = [
            pool.submit(
                _expand, self._tables[kind], rows, pixels[kind], bin_to_coarse, counts[kind], blocks[kind], start, stop
            )
            for kind in (0, 1)
            for start, stop in _ranges(len(self.levels), parts)
        ]  # fmt: skip
        for job in jobs:
            job.result()


def _tap_major(axis: Taps) -> tuple[NDArray[np.uint32], Float32]:
    """Return index and weight [T, out], so that a tap's entries follow each other."""
    return np.ascontiguousarray(axis.index.T, np.uint32), np.ascontiguousarray(axis.weight.T)


def _ranges(units: int, parts: int) -> list[tuple[int, int]]:
    edges = np.linspace(0, units, parts + 1).astype(int).tolist()
    return list(pairwise(edges))


def _guides(levels: Float32) -> tuple[Float32, Float32, NDArray[np.uint16]]:
    """Return (lowest level, scale, table) per unit; ``table[u, i]`` levels lie surely below a value of slot i.

    Slots are monotone in the value, so every level in a lower slot is below it; the kernel steps over the rest.
    """
    low, high = levels[:, 0].copy(), levels[:, -1]
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        scale = np.float32(GUIDE - 1) / (high - low)
    usable = np.isfinite(scale) & (scale > 0)
    scale = np.where(usable, scale, 0).astype(np.float32)
    guide = np.zeros((len(levels), GUIDE), np.uint16)
    for unit in np.flatnonzero(usable):
        slot = _slots(levels[unit], low[unit], scale[unit])
        guide[unit] = np.searchsorted(slot, np.arange(GUIDE), side="left")
    return low, scale, guide


@numba.njit(nogil=True, cache=True)
def _slots(values, low, scale):  # type: ignore[no-untyped-def]
    out = np.empty(values.shape[0], np.int64)
    for i in range(values.shape[0]):
        at = (values[i] - low) * scale
        out[i] = np.int64(at) if at < np.float32(GUIDE - 1) else GUIDE - 1
    return out


# Indices are unsigned: numba then need not ask whether one is negative, which makes the loops twice as fast.


@numba.njit(nogil=True, cache=True)
def _resample_row(image, y, row_index, row_weight, column_index, column_weight, row, values):  # type: ignore[no-untyped-def]
    """Write row y of the resampled image into ``values``: rows, then columns, each operation rounded."""
    first, a = image[row_index[0, y]], row_weight[0, y]
    if row_index.shape[0] == 2:
        second, b = image[row_index[1, y]], row_weight[1, y]
        for x in range(row.shape[0]):
            row[x] = a * first[x] + b * second[x]
    else:
        for x in range(row.shape[0]):
            row[x] = a * first[x]
        for t in range(1, row_index.shape[0]):
            second, b = image[row_index[t, y]], row_weight[t, y]
            for x in range(row.shape[0]):
                row[x] += b * second[x]
    left, left_weight = column_index[0], column_weight[0]
    if column_index.shape[0] == 2:
        right, right_weight = column_index[1], column_weight[1]
        for x in range(values.shape[0]):
            values[x] = left_weight[x] * row[left[x]] + right_weight[x] * row[right[x]]
    else:
        for x in range(values.shape[0]):
            values[x] = left_weight[x] * row[left[x]]
        for t in range(1, column_index.shape[0]):
            for x in range(values.shape[0]):
                values[x] += column_weight[t, x] * row[column_index[t, x]]


@numba.njit(nogil=True, cache=True)
def _count_row(values, level, low, scale, guide, real, chance, real_table, chance_table, where):  # type: ignore[no-untyped-def]
    """Count one row of one unit: each pixel above the lowest level, in its bin, under its two combinations."""
    last, bins, one = np.float32(GUIDE - 1), np.uint32(level.shape[0]), np.uint32(1)
    kept = np.uint32(0)  # a list without branches: about half of the pixels stay
    for x in range(values.shape[0]):
        where[kept] = np.uint32(x)
        kept += np.uint32(values[x] > low)
    for k in range(kept):
        x = where[k]
        value = values[x]
        at = (value - low) * scale
        bin_ = np.uint32(guide[np.uint32(at) if at < last else np.uint32(GUIDE - 1)])
        while bin_ < bins and value > level[bin_]:
            bin_ += one
        if bin_:
            real_table[real[x] + bin_ - one] += one
            chance_table[chance[x] + bin_ - one] += one


@numba.njit(nogil=True, cache=True)
def _count(features, row_index, row_weight, column_index, column_weight, levels, lows, scales, guides, real, chance, real_table, chance_table, start, stop):  # type: ignore[no-untyped-def]  # noqa: E501  # fmt: skip
    """Count units start..stop-1 of a batch into tables [U, M * B]; real and chance are offsets into them."""
    height, width = row_index.shape[1], column_index.shape[1]
    row = np.empty(features.shape[3], np.float32)
    values = np.empty(width, np.float32)
    where = np.empty(width, np.uint32)
    for unit in range(start, stop):
        for sample in range(features.shape[0]):
            for y in range(height):
                _resample_row(
                    features[sample, unit], y, row_index, row_weight, column_index, column_weight, row, values
                )
                pixels = slice(y * width, (y + 1) * width)
                _count_row(
                    values, levels[unit], lows[unit], scales[unit], guides[unit], real[sample, pixels],
                    chance[sample, pixels], real_table[unit], chance_table[unit], where,
                )  # fmt: skip


@numba.njit(nogil=True, cache=True)
def _expand(table, rows, pixels, bin_to_coarse, counts, blocks, start, stop):  # type: ignore[no-untyped-def]
    """Add table [U, M * B] to counts [U, C, B + 1] and blocks [U, C, Q + 1]; then zero it."""
    bins = counts.shape[2] - 1
    coarse = np.empty(blocks.shape[2], np.int64)
    for unit in range(start, stop):
        for m in range(rows.shape[0]):
            entries = table[unit, m * bins : (m + 1) * bins]
            coarse[:] = 0
            for b in range(bins):
                coarse[bin_to_coarse[b + 1]] += entries[b]
            on = coarse.sum()
            rest = pixels[m] - on
            coarse[0] += rest
            for plane in range(rows.shape[1]):
                concept = rows[m, plane]
                if concept == 0 and plane > 0:
                    continue
                counts[unit, concept, 0] += rest
                for q in range(coarse.shape[0]):
                    blocks[unit, concept, q] += coarse[q]
                if on:
                    fine = counts[unit, concept]
                    for b in range(bins):
                        fine[b + 1] += entries[b]
            if on:
                entries[:] = 0
