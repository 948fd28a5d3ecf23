"""What is kept beside the counts: moments of the features, concept means, the top samples of each unit, maxima.

Sums are taken in float64 within an atom and then added in the order of the atoms, so a resumed run has the same
bits. The top samples are a total order (value down, seed up, y up, x up): adding a sample twice changes nothing.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from .label_kernels import count_cells
from .resample import Float32, area_matrix, resample

Float64 = NDArray[np.float64]
LARGEST_STORED_MAP = 64  # the maps of the top samples are averaged down to this side at most
CHUNK_VALUES = 1 << 23  # float64 values converted at a time
BLOCK = 64  # units; the second moment is symmetric, and blocks below the diagonal are copies


class Sums:
    """Float sums of one layer over an atom: moments over native pixels, and features weighted by concept.

    Attributes:
        pixels: number of native pixels seen.
        feature: [U]; product: [U, U]; concept: [C, U]; weight: [C], native cells by area share.
    """

    def __init__(self, units: int, concepts: int) -> None:
        self.pixels = 0
        self.feature = np.zeros(units)
        self.product = np.zeros((units, units))
        self.concept = np.zeros((concepts, units))
        self.weight = np.zeros(concepts)

    def add(self, features: torch.Tensor, shares: list[tuple[NDArray[np.intp], Float64]], most: int) -> None:
        """Add features float32 [N, U, h, w].

        Args:
            features: one batch.
            shares: per sample, the concepts present and their share of each native cell, [P] and [P, h * w].
            most: samples that are summed at a time.
        """
        samples, units = features.shape[:2]
        cells = features.shape[2] * features.shape[3]
        step = min(most, max(1, CHUNK_VALUES // (units * cells)))
        for start in range(0, samples, step):
            chunk = features[start : start + step].reshape(-1, units, cells).transpose(0, 1)
            values = torch.empty(chunk.shape, dtype=torch.float64, device=chunk.device).copy_(chunk).view(units, -1)
            self.feature += values.sum(1).cpu().numpy()
            _add_product(self.product, values)
            for offset, (present, share) in enumerate(shares[start : start + step]):
                columns = values[:, offset * cells : (offset + 1) * cells]
                self.concept[present] += (torch.from_numpy(share).to(columns.device) @ columns.T).cpu().numpy()
                self.weight[present] += share.sum(1)
        self.pixels += samples * cells

    def merge(self, other: Sums) -> None:
        """Add another atom's sums."""
        self.pixels += other.pixels
        for name in ("feature", "product", "concept", "weight"):
            getattr(self, name).__iadd__(getattr(other, name))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what a checkpoint must keep."""
        return {
            "pixels": np.array([self.pixels]), "feature": self.feature, "product": self.product,
            "concept": self.concept, "weight": self.weight,
        }  # fmt: skip

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what :meth:`arrays` returned."""
        self.pixels = int(arrays["pixels"][0])
        for name in ("feature", "product", "concept", "weight"):
            setattr(self, name, np.array(arrays[name], np.float64))


def _add_product(total: Float64, values: torch.Tensor) -> None:
    """Add values @ values.T, float64 [U, n] -> [U, U], computing only the blocks on and above the diagonal."""
    units = len(values)
    for i in range(0, units, BLOCK):
        rows = values[i : i + BLOCK]
        part = (rows @ values[i:].T).cpu().numpy()
        total[i : i + BLOCK, i:] += part
        total[i + BLOCK :, i : i + BLOCK] += part[:, BLOCK:].T


def concept_shares(
    labels: NDArray[np.int16], concepts: int, height: int, width: int
) -> tuple[NDArray[np.intp], Float64]:
    """Return which concepts occur in a sample and their share of each native cell.

    Args:
        labels: [K, H, W].
        concepts: C.
        height, width: of the native map.

    Returns:
        [P] concept indices, [P, height * width] shares. Concept 0 is plane 0's unlabelled.
    """
    planes, tall, wide = labels.shape
    areas = np.stack([np.bincount(image.ravel(), minlength=concepts) for image in labels])
    areas[1:, 0] = 0
    plane, present = np.nonzero(areas)
    if tall % height or wide % width:
        maps = np.stack([labels[k] == c for k, c in zip(plane, present, strict=True)]).astype(np.float64)
        share = area_matrix(tall, height) @ maps @ area_matrix(wide, width).T
        return present, share.reshape(len(share), -1)
    # Whole pixels in every cell: counted, which is far cheaper than a product of matrices.
    number = np.full((planes, concepts), -1)
    number[plane, present] = np.arange(len(present))
    counted = np.zeros((len(present), height, width), np.int64)
    count_cells(labels, number, tall // height, wide // width, counted)
    return present, counted.reshape(len(present), -1) / (tall // height * (wide // width))


class Top:
    """The k samples with the highest activation of each unit of a layer, with their feature maps."""

    def __init__(self, units: int, keep: int, height: int, width: int) -> None:
        self.size = (min(height, LARGEST_STORED_MAP), min(width, LARGEST_STORED_MAP))
        self.seed = np.full((units, keep), -1, np.int64)
        self.value = np.full((units, keep), -np.inf, np.float32)
        self.yx = np.zeros((units, keep, 2), np.int32)
        self.feature = np.zeros((units, keep, *self.size), np.float16)

    def add(self, features: torch.Tensor, maxima: Float32, seeds: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Offer a batch.

        Args:
            features: float32 [N, U, h, w]; maxima: its spatial maxima [N, U]; seeds: [N].

        Returns:
            Which samples entered for at least one unit, bool [N].
        """
        entered = np.zeros(len(features), bool)
        for index, seed in enumerate(seeds):
            worst = self._worst()
            rows = np.arange(len(worst))
            value, holder = self.value[rows, worst], self.seed[rows, worst]
            new = maxima[index]
            better = (new > value) | ((new == value) & ((holder < 0) | (seed < holder)))
            units = np.flatnonzero(better & ~(self.seed == seed).any(1))
            if not len(units):
                continue
            entered[index] = True
            maps = features[index, torch.from_numpy(units)].cpu().numpy()
            slot = worst[units]
            self.seed[units, slot] = seed
            self.value[units, slot] = new[units]
            self.yx[units, slot] = first_maximum(maps)
            self.feature[units, slot] = pooled(maps, self.size)
        return entered

    def _worst(self) -> NDArray[np.intp]:
        """Return the slot of each unit that would go first: an empty one, the lowest value, the highest seed."""
        lowest = self.value == self.value.min(1, keepdims=True)
        rank = np.where(self.seed < 0, np.iinfo(np.int64).max, self.seed)
        return np.where(lowest, rank, -1).argmax(1)

    def ordered(self) -> dict[str, np.ndarray]:
        """Return seed, value, yx, feature with each unit's samples in order, the best first."""
        return best_of([{name: getattr(self, name) for name in ("seed", "value", "yx", "feature")}])

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what :meth:`ordered` returned."""
        for name in ("seed", "value", "yx", "feature"):
            setattr(self, name, np.array(arrays[name]))


def best_of(tops: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the best of what several :meth:`Top.ordered` returned for disjoint samples, in the same order."""
    keep = max(top["seed"].shape[1] for top in tops)
    every = {name: np.concatenate([top[name] for top in tops], 1) for name in tops[0]}
    missing = np.where(every["seed"] < 0, np.iinfo(np.int64).max, every["seed"])
    order = np.lexsort((missing, -every["value"]), axis=1)[:, :keep]
    rows = np.arange(len(order))[:, None]
    return {name: value[rows, order] for name, value in every.items()}


def first_maximum(maps: Float32) -> NDArray[np.intp]:
    """Return (y, x) of the maximum of each of maps [U, h, w], int [U, 2]; among equals the smallest y, then x."""
    return np.stack(np.divmod(maps.reshape(len(maps), -1).argmax(1), maps.shape[2]), 1)


def pooled(maps: Float32, size: tuple[int, int]) -> NDArray[np.float16]:
    """Return maps [U, h, w] averaged down to ``size``, in float16."""
    return half(maps if maps.shape[1:] == size else resample(maps, *size))


def half(values: Float32) -> NDArray[np.float16]:
    """Return values in float16, rounded to even and clipped to its range. torch does it 15 times as fast as NumPy."""
    limit = float(np.finfo(np.float16).max)
    return torch.from_numpy(values).clamp(-limit, limit).half().numpy()
