"""The joint counts in plain torch, on whatever device the features are: they need not be copied to the CPU.

:class:`TorchCounter` gives the integers of :func:`~dissect.counts.count_reference` and of
:class:`~dissect.counts.Counter`, bit for bit, on every device and however it is cut. Four things make it so: the
resampling is that of ``resample.py``, a product and a sum to an operation; a value's bin is found by comparisons
alone; only integers are added up, so the order does not matter; and no number of pixels is too large for its table.
"""

from __future__ import annotations

from concurrent.futures import Executor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .counts import ROOM, Counts
from .resample import Float32, Taps, taps

MOST_VALUES = 1 << 22  # resampled values, or entries of a table, worked on at a time
MOST_INT32 = 2**31 - 1  # pixels that an int32 table surely holds

Numbers = NDArray[np.int32] | Tensor


class TorchCounter:
    """Joint counts of one layer, real and by chance, accumulated on a device over the samples of an atom.

    What is held on the device, in bytes, with room for M combinations: ``8 * U * M * (B + 1)`` for the tables (twice
    that from 2^31 pixels on). While a batch is added, ``32 * N * H * W`` and ``12 * max(MOST_VALUES, v)``, where one
    map of one unit has ``v = max(h * w, H * w, H * W)`` values on its way; while tables are expanded,
    ``16 * max(MOST_VALUES, (M + C + 1) * (B + 1))``.

    Args:
        levels: float32 [U, B].
        shape: (h, w) of the features.
        size: (H, W) of the labels.
        device: where the features are.
    """

    def __init__(
        self, levels: Float32, shape: tuple[int, int], size: tuple[int, int], device: torch.device | str = "cpu"
    ) -> None:
        self.levels = np.ascontiguousarray(levels, np.float32)
        self._levels = torch.tensor(self.levels, device=device)
        self.device = self._levels.device
        self._shape, self._size = shape, size
        self._rows, self._columns = (_tap_major(taps(*axis), self.device) for axis in zip(shape, size))
        self._pixels = 0
        self._tables = [self._empty(ROOM), self._empty(ROOM)]

    def _empty(self, room: int, dtype: torch.dtype = torch.int32) -> Tensor:
        units, levels = self.levels.shape
        return torch.zeros((units, room, levels + 1), dtype=dtype, device=self.device)

    def reserve(self, combinations: int) -> None:
        """Make room for at least that many combinations."""
        room = self._tables[0].shape[1]
        if combinations > room:
            for kind, table in enumerate(self._tables):
                self._tables[kind] = self._empty(max(combinations, room * 3 // 2), table.dtype)
                self._tables[kind][:, :room] = table

    @torch.no_grad()
    def add(
        self, features: Tensor, real: Numbers, chance: Numbers, pool: Executor | None = None, parts: int = 1
    ) -> None:
        """Count features against combinations, their own and those of the next sample.

        Args:
            features: float32 [N, U, h, w] on the counter's device, finite.
            real, chance: int32 [N, H * W], smaller than what was reserved; tensors may already be on the device.
            pool, parts: for Counter's sake; torch cuts the work by itself.

        Raises:
            ValueError: if anything is not as it should be; nothing is counted then.
        """
        numbers = [torch.as_tensor(kind, device=self.device) for kind in (real, chance)]
        if not self._check(features, numbers):
            return
        samples, units = features.shape[:2]
        self._widen_for(samples * self._size[0] * self._size[1])
        bins = self.levels.shape[1] + 1
        offsets = [kind.long() * bins for kind in numbers]
        unit_step, sample_step = self._steps(samples)
        for first in range(0, units, unit_step):
            levels = self._levels[first : first + unit_step]
            tables = [table[first : first + unit_step].view(len(levels), -1) for table in self._tables]
            for start in range(0, samples, sample_step):
                part = slice(start, start + sample_step)
                bin_ = self._bins(features[part, first : first + unit_step], levels)
                for table, offset in zip(tables, offsets):
                    _count(table, bin_, offset[part].reshape(1, -1))

    def _check(self, features: Tensor, numbers: list[Tensor]) -> bool:
        """Refuse what cannot be counted; return whether there is anything to count."""
        units, (height, width) = len(self.levels), self._size
        if features.dtype != torch.float32 or features.device != self.device:
            raise ValueError(f"features are {features.dtype} on {features.device}, not float32 on {self.device}")
        if features.ndim != 4 or features.shape[1:] != (units, *self._shape):
            raise ValueError(f"features have shape {tuple(features.shape)}, not [N, {units}, {self._shape}]")
        if any(kind.shape != (len(features), height * width) for kind in numbers):
            raise ValueError(f"combinations have shape {[tuple(k.shape) for k in numbers]}, not [N, {height * width}]")
        if not features.numel():
            return False
        # Both checks wait for the device at once, the only time that adding does.
        finite = torch.stack(torch.aminmax(features)).isfinite().all()  # a NaN anywhere is the least and the largest
        largest = torch.maximum(numbers[0].max(), numbers[1].max())
        finite_, largest_ = torch.stack((finite.long(), largest.long())).tolist()
        if not finite_:
            raise ValueError("features hold NaN or infinite values")
        if largest_ >= self._tables[0].shape[1]:
            raise ValueError(f"combination {largest_} occurs, but no room was reserved for it")
        return True

    def _widen_for(self, pixels: int) -> None:
        """Give the tables int64 entries before one could overflow: none exceeds the number of pixels added."""
        self._pixels += pixels
        if self._pixels > MOST_INT32:
            for kind, table in enumerate(self._tables):
                self._tables[kind] = table.long()

    def _steps(self, samples: int) -> tuple[int, int]:
        """Return how many units, and how many samples of them, are resampled at a time."""
        (h, w), (height, width) = self._shape, self._size
        maps = max(1, MOST_VALUES // max(h * w, height * w, height * width))
        return max(1, maps // samples), min(maps, samples)

    def _bins(self, features: Tensor, levels: Tensor) -> Tensor:
        """Return how many levels each pixel exceeds, int32 [U, N * H * W], for features [N, U, h, w]."""
        values = _along(_along(features.transpose(0, 1), *self._rows, 2), *self._columns, 3)
        return torch.searchsorted(levels, values.view(len(levels), -1), out_int32=True, right=False)

    # Tables are expanded on the device: concepts are far fewer than combinations can be, so less has to be copied,
    # and it takes one integer sum per plane. Bin 0 is in the tables, other than Counter's: to leave pixels out one
    # would have to wait for their number, and to count them costs no more than to count nothing in their place.
    @torch.no_grad()
    def expand(
        self,
        rows: NDArray[np.int16],
        pixels: NDArray[np.int64],
        coarse: NDArray[np.int64],
        counts: tuple[Counts, Counts],
        blocks: tuple[NDArray, NDArray],
        pool: Executor | None = None,
        parts: int = 1,
    ) -> None:
        """Add what was counted to ``counts`` and ``blocks`` and begin again from zero.

        Args:
            rows: int16 [M, K], the combinations.
            pixels: int64 [2, M], for Counter's sake, as are ``pool`` and ``parts``.
            coarse: int64 [Q], indices of the coarse levels.
            counts: real and chance, int64 [U, C, B + 1].
            blocks: real and chance, [U, C, Q + 1], the bins between the coarse levels.
        """
        concepts, bins = counts[0].shape[1:]
        concept = rows.T.astype(np.int64)
        concept[1:][concept[1:] == 0] = concepts  # past the last: unlabelled counts in plane 0 only
        planes = torch.as_tensor(concept, device=self.device)
        bin_to_coarse = torch.as_tensor(np.searchsorted(coarse, np.arange(bins), side="left"), device=self.device)
        step = max(1, MOST_VALUES // ((len(rows) + concepts + 1) * bins))
        for table, fine, block in zip(self._tables, counts, blocks):
            for start in range(0, len(table), step):
                units = slice(start, start + step)
                entries = table[units, : len(rows)].long()
                sums = entries.new_zeros(len(entries), concepts + 1, bins)
                for plane in planes:
                    sums.index_add_(1, plane, entries)
                merged = sums.new_zeros(*sums.shape[:2], block.shape[2]).index_add_(2, bin_to_coarse, sums)
                fine[units] += sums.cpu().numpy()[:, :concepts]
                block[units] += merged.cpu().numpy()[:, :concepts].astype(block.dtype)
        self._begin_again()

    def _begin_again(self) -> None:
        for kind, table in enumerate(self._tables):
            self._tables[kind] = table.zero_() if table.dtype == torch.int32 else self._empty(table.shape[1])
        self._pixels = 0


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
