"""How many units to take away, and whether it helped: distances from the reference, on seeds not used for ranking.

The distance is the kernel distance, which is unbiased. A Fréchet distance of few images falls with whatever takes
variety away, also with units that draw what is wanted.

Two protocols, since they say different things (Bau et al., ICLR 2019, measured the first): images chosen because they
activate the suspect units, and a plain sample. Beside both, as many random units, none of them a suspect one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from segmodels import GanatomyError

from ..generators import Generator
from ..metrics.extractors import Extractor
from ..metrics.gaussians import Float64
from ..metrics.kernels import KernelTarget, kernel_distance
from ..metrics.resampling import NORMAL, halves, times_of
from ..samples import Sampling
from .ranking import Ranking, facts_of

STEPS = (0, 1, 2, 3, 5, 8, 12, 20, 30, 50)
RANDOM = 3
RESAMPLES = 40
Progress = Any


@dataclass(frozen=True, eq=False)
class Curve:
    """The distance from the reference with the first ``steps`` units of an order taken away.

    Attributes:
        facts: strategy, layer, generator, extractor, seeds, reference; JSON.
        steps: [T], ascending from 0. orders: of the ranking, and random ones, [1 + R, k].
        distance: kernel distance of N images, [1 + R, T]. low, high: 95% intervals over images, [1 + R, T].
        gain: lower ends [T, 2] of the 95% intervals of how much nearer than with no unit, and than with the best of
            the random orders, the images are. The same images are drawn for all, so this is far surer than the
            distances themselves.
        worse: [T], how much farther than at the smallest distance they are, less one standard error, likewise.
        floor: the most that two halves of the reference give in ten splits.
    """

    kind: ClassVar[str] = "curve"

    facts: Mapping[str, Any]
    steps: NDArray[np.int64]
    orders: NDArray[np.int64]
    distance: Float64
    low: Float64
    high: Float64
    gain: Float64
    worse: Float64
    floor: float

    @property
    def best(self) -> int:
        """The smallest number of units that is within one standard error of the smallest distance."""
        return int(self.steps[np.flatnonzero(self.worse <= 0)[0]])

    @property
    def helps(self) -> bool:
        """Whether that many units bring images nearer than none, and than any of the random orders, beyond the error.

        Than their mean would not do: of units that a ranking knows nothing of, every second set is better than that.
        """
        at = int(np.flatnonzero(self.steps == self.best)[0])
        return bool(at and (self.gain[at] > 0).all())

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each number of units."""
        return [
            {
                "units": int(n), "distance": self.distance[0, t], "low": self.low[0, t], "high": self.high[0, t],
                "random": float(self.distance[1:, t].mean()) if len(self.orders) > 1 else None, "floor": self.floor,
            }
            for t, n in enumerate(self.steps)
        ]  # fmt: skip

    def header(self) -> dict[str, Any]:
        """Return what determined the result: JSON."""
        return {**self.facts, "floor": self.floor}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the numbers."""
        return {name: getattr(self, name) for name in ARRAYS}

    @classmethod
    def from_stored(cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """Return the result of what :meth:`header` and :meth:`arrays` returned."""
        facts = {name: value for name, value in header.items() if name != "floor"}
        return cls(facts, floor=float(header["floor"]), **{name: arrays[name] for name in ARRAYS})


ARRAYS = ("steps", "orders", "distance", "low", "high", "gain", "worse")


def curve(
    generator: Generator,
    ranking: Ranking,
    seeds: Sequence[int],
    reference: Float64,
    extractor: Extractor,
    *,
    steps: Sequence[int] = STEPS,
    random: int = RANDOM,
    sampling: Sampling | None = None,
    batch: int = 4,
    named: str = "",
    progress: Progress | None = None,
) -> Curve:
    """Measure the distance from the reference with 0 to k suspect units taken away.

    Args:
        seeds: of the images; not those that the ranking saw.
        reference: features [M, D]; ``named``: of what.
        steps: numbers of units, at most half of the layer: a control needs as many others. random: how many random
            orders, of units that are not taken away, are the control.

    Raises:
        GanatomyError: for steps beyond the units that can be judged, or fewer than four images.
    """
    counts = np.array(sorted({0, *(int(step) for step in steps)}), np.int64)
    judged = ranking.top(len(ranking.score))
    place = generator.layer(ranking.layer)
    counts = counts[counts <= min(len(judged), place.channels // 2)]
    if len(counts) < 2 or len(seeds) < 4 or random < 1:
        raise GanatomyError(
            f"expected steps up to the {len(judged)} units of the ranking, and half of the layer, 4 images, a control"
        )
    most = int(counts[-1])
    others = np.setdiff1d(np.arange(place.channels), judged[:most])
    drawn = [np.random.RandomState([r, 7]).permutation(others)[:most] for r in range(random)]
    orders = np.array([judged[:most], *drawn], np.int64)
    found = _features(generator, place.name, seeds, orders, counts, extractor, sampling or Sampling(), batch, progress)
    target = KernelTarget(reference)
    value = np.array([[target.distance(x) for x in row] for row in found])
    deviation, gain, worse = _spread(target, found, value)
    floor = halves(kernel_distance, reference)
    facts = facts_of(
        generator, ranking.strategy, place.name, images=len(seeds), first_seed=int(seeds[0]),
        extractor=[extractor.name, extractor.sha256], reference=named, protocol="given seeds",
    )  # fmt: skip
    reach = NORMAL * deviation
    return Curve(facts, counts, orders, value, value - reach, value + reach, gain, worse, floor)


def activating(
    generator: Generator, layer: str, units: Sequence[int], seeds: Sequence[int], count: int,
    sampling: Sampling | None = None, batch: int = 8,
) -> list[int]:  # fmt: skip
    """Return the ``count`` seeds whose images most activate some units: the paper's way to choose images.

    A unit's maximum in an image counts in units of its deviation over all of them.
    """
    s, place = sampling or Sampling(), generator.layer(layer)

    def maps(some: Sequence[int]) -> torch.Tensor:
        codes = generator.sample(some, s.classes, s.truncation, s.cutoff, s.noise)
        return place.cropped(generator.features(codes, place.name)[place.name][:, list(units)])

    maxima = np.concatenate(
        [maps(seeds[i : i + batch]).amax((2, 3)).cpu().numpy() for i in range(0, len(seeds), batch)]
    )
    deviation = maxima.std(0)
    score = ((maxima - maxima.mean(0)) / np.where(deviation > 0, deviation, 1)).sum(1)
    return [int(seeds[i]) for i in np.sort(np.argsort(-score, kind="stable")[:count])]


def _features(
    generator: Generator,
    layer: str,
    seeds: Sequence[int],
    orders: NDArray[np.int64],
    counts: NDArray[np.int64],
    extractor: Extractor,
    s: Sampling,
    batch: int,
    progress: Progress | None,
) -> NDArray[np.float64]:
    """Return features [orders, steps, N, D] with units set to zero; what comes before the layer is run once."""
    found = np.empty(0)
    for start in range(0, len(seeds), batch):
        some = list(seeds[start : start + batch])
        capture = generator.capture(generator.sample(some, s.classes, s.truncation, s.cutoff, s.noise), layer)
        features, plain = capture.features[layer], extractor(capture.images)
        if not start:
            found = np.empty((len(orders), len(counts), len(seeds), plain.shape[1]))
        stop = start + len(some)
        for o, units in enumerate(orders):
            for t, count in enumerate(counts):
                if not count:
                    found[o, t, start:stop] = plain
                    continue
                changed: torch.Tensor = features.clone()
                changed[:, units[:count].tolist()] = 0
                found[o, t, start:stop] = extractor(generator.resume(capture, layer, features=changed))
        if progress is not None:
            progress(start + len(some), len(seeds))
    return found


def _spread(target: KernelTarget, found: Float64, value: Float64) -> tuple[Float64, Float64, Float64]:
    """Return deviations of distances [1 + R, T], lower ends of gains [T, 2] and of losses [T], by drawing images anew.

    Args:
        found: features [1 + R, T, N, D]; one draw of images serves them all. value: their distances.
    """
    state, count = np.random.RandomState(0), found.shape[2]
    times = times_of(state.randint(0, count, (RESAMPLES, count)))
    drawn = np.array([[target.resampled(x, times) for x in row] for row in found]).transpose(2, 0, 1)
    none = value[0, 0] - value[0], drawn[:, 0, :1] - drawn[:, 0]
    random = value[1:] - value[0], drawn[:, 1:] - drawn[:, :1]
    least = int(value[0].argmin())
    loss = value[0] - value[0, least], drawn[:, 0] - drawn[:, 0, least, None]
    over_none, over_random = (mean - NORMAL * each.std(0, ddof=1) for mean, each in (none, random))
    worse = loss[0] - loss[1].std(0, ddof=1)
    return drawn.std(0, ddof=1), np.stack([over_none, over_random.min(0)], 1), worse
