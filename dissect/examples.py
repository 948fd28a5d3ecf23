"""Examples of what a unit does over its whole range, not only at the top: a few samples from each band of its maxima.

Which samples may become examples is drawn beforehand, by a hash of their seeds, so it depends on nothing that is
measured: of a job's N samples, those of smallest hash, the same for every unit and layer. The first ``RANKED`` of them
are ranked by their maximum; the first ``POOL`` also keep their feature maps. When the file is written, each unit sorts
its pool into bands by rank and keeps, of every band, the few of smallest hash. Parts only gather what was drawn, so the
result is the same bits however the job was cut, resumed or merged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .resample import Float32
from .statistics import first_maximum, pooled

BANDS, EACH = 5, 3  # bands of equal share, and the most examples of each
RANKED = 4096  # samples that are ranked: all of smaller jobs; of larger ones the edges of a band are within 1%
POOL = 48  # that keep their maps: with fewer, bands would often lack examples (one in 500 holds fewer than three)
LARGEST_EXAMPLE = 32  # maps are averaged down to this side at most
PARTS = ("ranked", "pool", "maxima", "yx", "feature")  # of a layer in a part
NAMES = ("seed", "value", "quantile", "yx", "feature")


@dataclass(frozen=True)
class Example:
    """A sample from a band of a unit's maxima.

    Attributes:
        seed: of the sample; value: the unit's maximum in it; y, x: where that is, in native cells.
        quantile: share of samples whose maximum is smaller, its own counted half; equal maxima go by seed.
        feature: the whole map in float16, averaged down to at most 32 x 32.
    """

    seed: int
    value: float
    quantile: float
    y: int
    x: int
    feature: NDArray[np.float16]


@dataclass(frozen=True)
class Band:
    """Samples whose maximum lies between two shares of all: ``low`` 0.8 and ``high`` 1.0 is the highest fifth.

    Attributes:
        samples: at most three, drawn blindly from the band's; the weakest first.
    """

    low: float
    high: float
    samples: tuple[Example, ...]


def described(samples: int) -> dict[str, int]:
    """Return what the manifest says of the examples of a job of N samples."""
    return {
        "bands": BANDS, "each": EACH, "ranked": min(RANKED, samples), "pool": min(POOL, samples),
        "side": LARGEST_EXAMPLE,
    }  # fmt: skip


def scattered(seeds: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return a hash of each seed, without collisions: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = seeds.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True, eq=False)
class Drawn:
    """Which of some consecutive samples are drawn.

    Attributes:
        ranked, pool: int64 seeds [R], [P], in the order of the samples. The pool is a part of the ranked.
        ranked_slot, pool_slot: int32, for each of the samples its place in these, or -1.
    """

    ranked: NDArray[np.int64]
    pool: NDArray[np.int64]
    ranked_slot: NDArray[np.int32]
    pool_slot: NDArray[np.int32]

    @staticmethod
    def of(seeds: NDArray[np.int64], first: int, stop: int) -> Drawn:
        """Return what is drawn of a job's samples first..stop-1.

        Args:
            seeds: int64 [N], of the whole job, all different.
        """
        order = np.argsort(scattered(seeds))
        found = []
        for count in (RANKED, POOL):
            chosen = np.sort(order[:count])
            here = chosen[(chosen >= first) & (chosen < stop)] - first
            slot = np.full(stop - first, -1, np.int32)
            slot[here] = np.arange(len(here))
            found.append((seeds[first:stop][here].astype(np.int64), slot))
        (ranked, ranked_slot), (pool, pool_slot) = found
        return Drawn(ranked, pool, ranked_slot, pool_slot)


class Gathered:
    """What a layer keeps of the drawn: maxima [R, U] of the ranked, positions and maps [P, U, ...] of the pool.

    Sample by sample, since memory that is filled from one end to the other costs far less than memory touched all over.
    """

    def __init__(self, units: int, height: int, width: int, drawn: Drawn) -> None:
        self.drawn = drawn
        self.size = (min(height, LARGEST_EXAMPLE), min(width, LARGEST_EXAMPLE))
        self.maxima = np.zeros((len(drawn.ranked), units), np.float32)
        self.yx = np.zeros((len(drawn.pool), units, 2), np.int32)
        self.feature = np.full((len(drawn.pool), units, *self.size), 0, np.float16)  # filled at once: see above

    def add(self, features: torch.Tensor, maxima: Float32, rows: slice) -> None:
        """Offer a batch; offering a sample twice changes nothing.

        Args:
            features: float32 [N, U, h, w]; maxima: its spatial maxima [N, U].
            rows: which of the part's samples these are.
        """
        slots = self.drawn.ranked_slot[rows]
        ranked = slots >= 0
        self.maxima[slots[ranked]] = maxima[ranked]
        slots = self.drawn.pool_slot[rows]
        for index in np.flatnonzero(slots >= 0):
            maps, slot = features[index].cpu().numpy(), slots[index]
            self.yx[slot] = first_maximum(maps)
            self.feature[slot] = pooled(maps, self.size)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what a part must keep."""
        return dict(zip(PARTS, (self.drawn.ranked, self.drawn.pool, self.maxima, self.yx, self.feature), strict=True))

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over what :meth:`arrays` returned; ValueError if that is of other samples."""
        for name, drawn in (("ranked", self.drawn.ranked), ("pool", self.drawn.pool)):
            if not np.array_equal(arrays[name], drawn):
                raise ValueError("the examples are of other samples")
        for name in ("maxima", "yx", "feature"):
            getattr(self, name)[:] = arrays[name]


def examples_of(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the examples of a layer from what its parts gathered (:meth:`Gathered.arrays`), in any order.

    Returns:
        seed, value, quantile [U, BANDS, EACH], yx [U, BANDS, EACH, 2], feature [U, BANDS, EACH, h, w]; bands from the
        lowest, the weakest sample first; seed is -1, and the others 0, where a band lacks examples.
    """
    ranked, pool = (np.concatenate([part[name] for part in parts]) for name in ("ranked", "pool"))
    by_seed = np.argsort(ranked)
    maxima = np.concatenate([part["maxima"] for part in parts])[by_seed]
    by_hash = np.argsort(scattered(pool))
    of_pool = np.searchsorted(ranked, pool[by_hash], sorter=by_seed)
    value, rank = maxima[of_pool].T, _ranks(maxima, of_pool)
    picked, missing = _picked(rank, len(ranked))
    units = np.arange(len(value))[:, None, None]
    yx, feature = (_rows([part[name] for part in parts], by_hash[picked], missing) for name in ("yx", "feature"))
    return {
        "seed": np.where(missing, -1, pool[by_hash][picked]),
        "value": np.where(missing, np.float32(0), value[units, picked]),
        "quantile": np.where(missing, 0, (rank[units, picked] + 0.5) / len(ranked)).astype(np.float32),
        "yx": yx, "feature": feature,
    }  # fmt: skip


def _ranks(maxima: Float32, chosen: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return the ranks [U, P] of the chosen [P] among maxima [R, U], from 0 for the smallest; equal ones in order."""
    result = np.empty((maxima.shape[1], len(chosen)), np.int64)
    rank = np.empty(len(maxima), np.int64)
    for unit, values in enumerate(maxima.T):
        rank[np.argsort(values, kind="stable")] = np.arange(len(values))
        result[unit] = rank[chosen]
    return result


def _picked(rank: NDArray[np.int64], samples: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Choose from a pool in drawing order with ranks [U, P] among ``samples``.

    Returns:
        [U, BANDS, EACH] places in the pool, those of a band by rank, and which of these are missing.
    """
    band = (2 * rank + 1) * BANDS // (2 * samples)
    places, missing = [], []
    for b in range(BANDS):
        inside = band == b
        first = inside & (np.cumsum(inside, 1) <= EACH)
        key = np.where(first, rank, samples)
        place = np.argsort(key, 1, kind="stable")[:, :EACH]
        places.append(place)
        missing.append(np.take_along_axis(key, place, 1) == samples)
    return np.stack(places, 1), np.stack(missing, 1)


def _rows(parts: Sequence[np.ndarray], index: NDArray[np.intp], missing: NDArray[np.bool_]) -> np.ndarray:
    """Return of each unit the rows ``index`` [U, ...] of arrays [P, U, ...] that follow each other, 0 where missing."""
    result = np.zeros((*index.shape, *parts[0].shape[2:]), parts[0].dtype)
    start = 0
    for part in parts:  # without putting all the maps together
        here = (index >= start) & (index < start + len(part)) & ~missing
        units = np.nonzero(here)[0]
        result[here] = part[index[here] - start, units]
        start += len(part)
    return result
