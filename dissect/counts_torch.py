"""The joint counts in plain torch, on whatever device the features are: they need not be copied to the CPU.

:class:`TorchCounter` gives the integers of :func:`~dissect.counts.count_reference` and of
:class:`~dissect.counts.Counter`, bit for bit, on every device and however it is cut. Three things make it so: the
resampling is that of ``resample.py``, a product and a sum to an operation; a value's bin is found by comparisons
alone; and only integers are added up, so the order does not matter.
"""

from __future__ import annotations

from concurrent.futures import Executor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .counts import Coded
from .resample import Float32, Taps, taps

MOST_VALUES = 1 << 22  # resampled values, or entries of a table, worked on at a time


class TorchCounter:
    """Joint counts of one layer, real and by chance, accumulated on a device over the samples of an atom.

    What is held on the device, in bytes: ``8 * U * (C + 1) * (B + 1)`` for the counts. While a batch is added,
    ``32 * N * H * W`` and ``16 * max(MOST_VALUES, v, M * (B + 1))``, where one map of one unit has
    ``v = max(h * w, H * w, H * W)`` values on its way and the samples have M combinations together.

    Args:
        levels: float32 [U, B].
        shape: (h, w) of the features.
        size: (H, W) of the labels.
        concepts: C.
        device: where the features are.
    """

    def __init__(
        self, levels: Float32, shape: tuple[int, int], size: tuple[int, int], concepts: int,
        device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        self.levels = np.ascontiguousarray(levels, np.float32)
        self._levels = torch.tensor(self.levels, device=device)
        self.device = self._levels.device
        self._shape, self._size = shape, size
        self._rows, self._columns = (_tap_major(taps(*axis), self.device) for axis in zip(shape, size))
        units, bins = self.levels.shape
        # One concept more than there are takes what other planes than the first leave unlabelled.
        self._counts = torch.zeros((2, units, concepts + 1, bins + 1), dtype=torch.int32, device=self.device)

    @property
    def nbytes(self) -> int:
        """What it takes on the device."""
        return self._counts.nbytes

    @torch.no_grad()
    def add(self, features: Tensor, labels: Coded, pool: Executor | None = None, parts: int = 1) -> None:
        """Count features against the labels of their own samples, and of the next ones.

        Args:
            features: float32 [N, U, h, w] on the counter's device, finite.
            labels: of N + 1 samples.
            pool, parts: for Counter's sake; torch cuts the work by itself.

        Raises:
            ValueError: if anything is not as it should be; nothing is counted then.
        """
        if not self._check(features, labels):
            return
        samples, units = features.shape[:2]
        bins = self._counts.shape[3]
        combinations = labels.rows.shape[1]
        first = combinations * np.arange(samples + 1)[:, None]
        numbers = torch.as_tensor(labels.numbers.reshape(samples + 1, -1).astype(np.int64) + first, device=self.device)
        offsets = (numbers[:-1] * bins, (numbers[1:] - combinations) * bins)
        planes = self._planes(labels)
        entries = samples * combinations * bins
        unit_step, sample_step = self._steps(samples)
        unit_step = max(1, min(unit_step, MOST_VALUES // entries))
        for start in range(0, units, unit_step):
            levels = self._levels[start : start + unit_step]
            tables = [levels.new_zeros((len(levels), entries), dtype=torch.int32) for _ in offsets]
            for sample in range(0, samples, sample_step):
                part = slice(sample, sample + sample_step)
                bin_ = self._bins(features[part, start : start + unit_step], levels)
                for table, offset in zip(tables, offsets):
                    _count(table, bin_, offset[part].reshape(1, -1))
            for counts, table, later in zip(self._counts, tables, (0, 1)):
                rows = planes[:, later : later + samples].reshape(len(planes), -1)
                for plane in rows:
                    counts[start : start + unit_step].index_add_(1, plane, table.view(len(levels), -1, bins))

    def _planes(self, labels: Coded) -> Tensor:
        """Return the concept of each plane in each combination, int64 [K, N + 1, M], past the last for none."""
        concept = labels.rows.transpose(2, 0, 1).astype(np.int64)
        concept[1:][concept[1:] == 0] = self._counts.shape[2] - 1
        return torch.as_tensor(concept, device=self.device)

    def _check(self, features: Tensor, labels: Coded) -> bool:
        """Refuse what cannot be counted; return whether there is anything to count."""
        units, size = len(self.levels), self._size
        if features.dtype != torch.float32 or features.device != self.device:
            raise ValueError(f"features are {features.dtype} on {features.device}, not float32 on {self.device}")
        if features.ndim != 4 or features.shape[1:] != (units, *self._shape):
            raise ValueError(f"features have shape {tuple(features.shape)}, not [N, {units}, {self._shape}]")
        if labels.numbers.shape != (len(features) + 1, *size):
            raise ValueError(f"labels have shape {labels.numbers.shape}, not {(len(features) + 1, *size)}")
        if not features.numel():
            return False
        # A NaN anywhere is the least and the largest.
        if not torch.stack(torch.aminmax(features)).isfinite().all():
            raise ValueError("features hold NaN or infinite values")
        return True

    def _steps(self, samples: int) -> tuple[int, int]:
        """Return how many units, and how many samples of them, are resampled at a time."""
        (h, w), (height, width) = self._shape, self._size
        maps = max(1, MOST_VALUES // max(h * w, height * w, height * width))
        return max(1, maps // samples), min(maps, samples)

    def _bins(self, features: Tensor, levels: Tensor) -> Tensor:
        """Return how many levels each pixel exceeds, int32 [U, N * H * W], for features [N, U, h, w]."""
        values = _along(_along(features.transpose(0, 1), *self._rows, 2), *self._columns, 3)
        return torch.searchsorted(levels, values.view(len(levels), -1), out_int32=True, right=False)

    @torch.no_grad()
    def fold(
        self,
        coarse: NDArray[np.int64],
        counts: tuple[NDArray, NDArray],
        blocks: tuple[NDArray, NDArray],
        pool: Executor | None = None,
        parts: int = 1,
    ) -> None:
        """Add what was counted to ``counts`` and ``blocks``, on the CPU, and begin again from zero.

        Args:
            coarse: int64 [Q], indices of the coarse levels.
            counts: real and chance, [U, C, B + 1].
            blocks: real and chance, [U, C, Q + 1], the bins between the coarse levels.
            pool, parts: for Counter's sake.
        """
        concepts = counts[0].shape[1]
        edges = np.concatenate([[0], coarse + 1])  # where the bins of a block begin
        for fresh, fine, block in zip(self._counts, counts, blocks):
            new = fresh[:, :concepts].cpu().numpy()
            fine += new.astype(fine.dtype)
            block += np.add.reduceat(new, edges, axis=2).astype(block.dtype)
        self._counts.zero_()


def _tap_major(axis: Taps, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return index int64 and weight float32 [T, out], so that a tap's entries follow each other."""
    index, weight = axis.index.T.astype(np.int64, order="C"), np.ascontiguousarray(axis.weight.T)
    return torch.tensor(index, device=device), torch.tensor(weight, device=device)


def _along(maps: Tensor, index: Tensor, weight: Tensor, axis: int) -> Tensor:
    """Resample one axis of maps [U, N, ., .] as ``resample.py`` does; the result is contiguous."""

    # Products and sums stay operations of their own: fused, they would be rounded once instead of twice.
    def term(tap: int) -> Tensor:
        return maps.index_select(axis, index[tap]).mul_(weight[tap].view(-1, 1) if axis == 2 else weight[tap])

    total = term(0)
    for tap in range(1, len(index)):
        total.add_(term(tap))
    return total


def _count(table: Tensor, bins: Tensor, offset: Tensor) -> None:
    """Add one at ``offset + bins`` in each unit's row: table [U, M * (B + 1)], bins int32 [U, P], offset [1, P]."""
    where = offset + bins
    table.scatter_add_(1, where, table.new_ones(()).expand_as(where))
