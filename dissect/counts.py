"""The joint counts: how many pixels fall into each bin of each unit under each concept.

``count_reference`` defines them in NumPy. :class:`Counter` is the CPU kernel, bit-identical to it however the
samples are cut into batches. What makes it quick: a sample's pixels are counted per *combination* of its label planes,
in a table small enough for the first-level cache, which is then added to the rows of the combination's concepts; and
everything before that goes line by line through loops that the compiler can vectorise, whose only gathers are from a
table from activation to level, with an exact last step of one or two comparisons.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .kernels import GUIDE, count, fold, slots
from .label_kernels import encode
from .resample import Float32, Taps, resample, taps

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


@dataclass(frozen=True, eq=False)
class Coded:
    """The labels of samples, each pixel by the number of its combination of planes, which are numbered per sample.

    Attributes:
        numbers: uint32 [N, H, W].
        rows: the label of each plane in each combination, int16 [N, M, K]; M is the most that a sample has.
        found: how many combinations a sample has, int64 [N].
        pixels: how many pixels have each, int64 [N, M].
    """

    numbers: NDArray[np.uint32]
    rows: NDArray[np.int16]
    found: NDArray[np.int64]
    pixels: NDArray[np.int64]

    @staticmethod
    def of(labels: Labels) -> Coded:
        """Return the combinations of labels [N, K, H, W], in order of first sight."""
        samples, planes, height, width = labels.shape
        flat = np.ascontiguousarray(labels).reshape(samples, planes, height * width)
        numbers = np.empty((samples, height * width), np.uint32)
        each = [encode(image, out) for image, out in zip(flat, numbers)]
        found = np.array([len(first) for first, _ in each], np.int64)
        rows = np.zeros((samples, found.max(initial=0), planes), np.int16)
        pixels = np.zeros(rows.shape[:2], np.int64)
        for index, (first, area) in enumerate(each):
            rows[index, : len(first)] = flat[index][:, first].T
            pixels[index, : len(area)] = area
        return Coded(numbers.reshape(samples, height, width), rows, found, pixels)

    def areas(self, concepts: int) -> Counts:
        """Return the pixels of each concept in each sample, int64 [N, C]; concept 0 is plane 0's unlabelled."""
        result = np.zeros((len(self.rows), concepts), np.int64)
        for out, rows, pixels in zip(result, self.rows, self.pixels):
            for plane in range(rows.shape[1]):
                known = rows[:, plane] > 0 if plane else slice(None)
                np.add.at(out, rows[known, plane], pixels[known])
        return result

    @cached_property
    def concepts(self) -> NDArray[np.int64]:
        """Which concepts occur, ascending; 0 among them if plane 0 leaves something unlabelled."""
        known = np.arange(self.rows.shape[1]) < self.found[:, None]
        first, others = self.rows[..., 0][known], self.rows[..., 1:][known]
        return np.unique(np.concatenate([first, others[others > 0]])).astype(np.int64)

    @cached_property
    def downwards(self) -> NDArray[np.uint32]:
        """The numbers with x before y, [N, W, H]."""
        return np.ascontiguousarray(self.numbers.transpose(0, 2, 1))


class Counter:
    """Joint counts of one layer, real and by chance, over the samples of an atom.

    Args:
        levels: float32 [U, B].
        shape: (h, w) of the features.
        size: (H, W) of the labels.
        concepts: C.
    """

    def __init__(self, levels: Float32, shape: tuple[int, int], size: tuple[int, int], concepts: int) -> None:
        self.levels = np.ascontiguousarray(levels, np.float32)
        self._columns_first = shape[1] < size[1]  # then the only gathers are those of a small map
        self._axes = (*_tap_major(taps(shape[0], size[0])), *_tap_major(taps(shape[1], size[1])))
        self._guides = _guides(self.levels)
        self._counts = np.zeros((len(levels), concepts, 2 * (levels.shape[1] + 1)), np.uint32)
        self._met: set[int] = set()

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return self._counts.nbytes + self.levels.nbytes

    def add(self, features: Float32 | Tensor, labels: Coded, pool: Executor, parts: int) -> None:
        """Count features [N, U, h, w] on the CPU against the labels of N + 1 samples: their own and the next ones'."""
        entries, areas = self._counts.shape[2], labels.areas(self._counts.shape[1])
        numbers = labels.downwards if self._columns_first else labels.numbers
        largest = max(labels.rows.shape[1] * entries, numbers[0].size)  # of what offsets and a sample's table hold
        offsets = (numbers * np.uint32(entries)).astype(np.uint16 if largest < 2**16 else np.uint32, copy=False)
        arguments: tuple[Any, ...] = (
            np.asarray(features), self._columns_first, *self._axes, *self._guides, offsets, labels.rows, labels.found,
            labels.concepts, np.stack([areas[:-1].sum(0), areas[1:].sum(0)]), self._counts,
        )  # fmt: skip
        jobs = [
            pool.submit(count, *arguments, start, stop)  # type: ignore[call-arg]
            for start, stop in _ranges(len(self.levels), parts)
        ]
        self._met.update(labels.concepts.tolist())
        for job in jobs:
            job.result()

    def fold(
        self,
        coarse: NDArray[np.int64],
        counts: tuple[NDArray, NDArray],
        blocks: tuple[NDArray, NDArray],
        pool: Executor,
        parts: int,
    ) -> None:
        """Add what was counted to ``counts`` and ``blocks`` and begin again from zero.

        Args:
            coarse: int64 [Q], indices of the coarse levels.
            counts: real and chance, [U, C, B + 1] (concept-major: a concept's bins are added as a run).
            blocks: real and chance, [U, C, Q + 1], the bins between the coarse levels.
        """
        bin_to_coarse = np.searchsorted(coarse, np.arange(self.levels.shape[1] + 1), side="left")
        met = np.array(sorted(self._met), np.int64)
        arguments: tuple[Any, ...] = (self._counts, met, bin_to_coarse, *counts, *blocks)
        jobs = [
            pool.submit(fold, *arguments, start, stop)  # type: ignore[call-arg]
            for start, stop in _ranges(len(self.levels), parts)
        ]
        for job in jobs:
            job.result()
        self._met.clear()


def _tap_major(axis: Taps) -> tuple[NDArray[np.uint32], Float32]:
    """Return index and weight [T, out], so that a tap's entries follow each other."""
    return np.ascontiguousarray(axis.index.T, np.uint32), np.ascontiguousarray(axis.weight.T)


def _ranges(units: int, parts: int) -> list[tuple[int, int]]:
    edges = np.linspace(0, units, parts + 1).astype(int).tolist()
    return list(pairwise(edges))


Guides = tuple[Float32, Float32, Float32, NDArray[np.uint16], NDArray[np.int64]]


def _guides(levels: Float32) -> Guides:
    """Return (levels and infinity after them, lowest level, scale, table, steps) per unit.

    ``table[u, i]`` levels lie surely below a value of slot i, since slots are monotone in the value; the kernel
    compares with the rest of the slot's levels, of which there are at most ``steps[u]``.
    """
    low, high = levels[:, 0].copy(), levels[:, -1]
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        scale = np.float32(GUIDE - 1) / (high - low)
    usable = np.isfinite(scale) & (scale > 0)
    scale = np.where(usable, scale, 0).astype(np.float32)
    guide = np.zeros((len(levels), GUIDE), np.uint16)
    steps = np.full(len(levels), levels.shape[1], np.int64)
    for unit in np.flatnonzero(usable):
        slot = slots(levels[unit], low[unit], scale[unit])
        guide[unit] = np.searchsorted(slot, np.arange(GUIDE), side="left")
        steps[unit] = np.bincount(slot).max()
    endless = np.concatenate([levels, np.full((len(levels), 1), np.inf, np.float32)], 1)
    return endless, low, scale, guide, steps
