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

from ..effects.areas import digest
from ..effects.stored import key_of
from ..generators import Generator
from ..metrics.extractors import Extractor
from ..metrics.gaussians import Float64
from ..metrics.kernels import KernelTarget, kernel_distance
from ..metrics.resampling import NORMAL, halves, times_of
from ..samples import Sampling
from ..tables import Tabled
from .ranking import Ranking, facts_of

STEPS = (0, 1, 2, 3, 5, 8, 12, 20, 30, 50)
RANDOM = 3
RESAMPLES = 400
ALPHA = 0.05  # how often no unit's absence helps, and it is said to
ROWS = 1024  # of the reference at a time
Progress = Any


@dataclass(frozen=True, eq=False, repr=False)
class Curve(Tabled):
    """The distance from the reference with the first ``steps`` units of an order taken away.

    Attributes:
        facts: strategy, layer, generator, extractor, the seeds, and digests of the ranking and the reference; JSON.
        steps: [T], ascending from 0. orders: of the ranking, and random ones, [1 + R, k].
        distance: kernel distance of N images, [1 + R, T]. low, high: 95% intervals over images, [1 + R, T].
        gain: how much nearer than with no unit, and than with the best of the random orders, the images are at least,
            [T, 2]: 95% bounds that hold for all steps together, for the best step is chosen. The same images are
            drawn for all, so this is far surer than the distances themselves.
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
    deviation, gain, worse = _spread(target, found, value, reference)
    floor = halves(kernel_distance, reference)
    facts = facts_of(
        generator, ranking.strategy, place.name, images=len(seeds), seeds=[int(seed) for seed in seeds],
        extractor=[extractor.name, extractor.sha256], reference=named, protocol="given seeds",
        ranking=key_of(ranking), steps=counts.tolist(), random=random,
        inputs=digest(orders, np.asarray(seeds, np.int64), [len(reference)]),
    )  # fmt: skip
    reach = NORMAL * deviation
    return Curve(facts, counts, orders, value, value - reach, value + reach, gain, worse, floor)


def activating(
    generator: Generator, units: Mapping[str, Sequence[int]], seeds: Sequence[int], count: int,
    sampling: Sampling | None = None, batch: int = 8,
) -> list[int]:  # fmt: skip
    """Return the ``count`` seeds whose images most activate some units, the strongest first.

    That is the paper's way to choose images. A unit's maximum in an image counts in units of its deviation over all of
    them.

    Args:
        units: layer -> its units. seeds: among which is chosen.
    """
    s, layers = sampling or Sampling(), {generator.layer(name).name: list(some) for name, some in units.items()}
    found = []
    for start in range(0, len(seeds), batch):
        codes = generator.sample(seeds[start : start + batch], s.classes, s.truncation, s.cutoff, s.noise)
        features = generator.features(codes, tuple(layers))
        maxima = [generator.layer(n).cropped(features[n][:, some]).flatten(2).amax(2) for n, some in layers.items()]
        found.append(torch.cat(maxima, 1).cpu().numpy())
    values = np.concatenate(found)
    deviation = values.std(0)
    score = ((values - values.mean(0)) / np.where(deviation > 0, deviation, 1)).sum(1)
    return [int(seeds[i]) for i in np.argsort(-score, kind="stable")[:count]]


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


def _spread(
    target: KernelTarget, found: Float64, value: Float64, reference: Float64
) -> tuple[Float64, Float64, Float64]:
    """Return deviations of distances [1 + R, T], lower ends of gains [T, 2] and of losses [T], by drawing images anew.

    For gains and losses the reference's images are drawn anew as well: it is a sample too, and a change may come nearer
    to what is peculiar to it.

    Args:
        found: features [1 + R, T, N, D]; one draw of images serves them all. value: their distances.
        reference: features [M, D].
    """
    state, count, others = np.random.RandomState(0), found.shape[2], len(reference)
    times = times_of(state.randint(0, count, (RESAMPLES, count)))
    again = times_of(state.randint(0, others, (RESAMPLES, others)))
    kept = np.array([[target.resampled(x, times) for x in row] for row in found]).transpose(2, 0, 1)
    moved = np.array([[_redrawn(x, reference, times, again) for x in row] for row in found]).transpose(2, 0, 1)
    drawn = kept + moved
    none = value[0, 0] - value[0], drawn[:, 0, :1] - drawn[:, 0]
    random = value[1:] - value[0], drawn[:, 1:] - drawn[:, :1]
    least = int(value[0].argmin())
    loss = value[0] - value[0, least], drawn[:, 0] - drawn[:, 0, least, None]
    worse = loss[0] - loss[1].std(0, ddof=1)
    return kept.std(0, ddof=1), np.stack([_least(*none), _least(*random).min(0)], 1), worse


def _least(value: Float64, drawn: Float64) -> Float64:
    """Return what values [..., T] are at least, all T of them together, in all but 5% of cases.

    From the largest deviation among them in each draw [R, ..., T], in units of their errors: what goes up and down
    together is not counted more than once (Westfall and Young, 1993).
    """
    error = drawn.std(0, ddof=1)
    most = ((drawn - drawn.mean(0)) / np.where(error > 0, error, 1)).max(-1)
    return value - np.quantile(most, 1 - ALPHA, axis=0)[..., None] * error


def _redrawn(x: Float64, y: Float64, times: NDArray[np.int64], again: NDArray[np.int64]) -> Float64:
    """Return by how much each draw's distance changes when the reference is drawn anew too, [R], up to a constant.

    The constant is what the reference's own pairs add: the same for all sets that are compared with it.

    Args:
        x, y: features [N, D] and [M, D]. times, again: how often each sample is in each draw, [R, N] and [R, M].
    """
    change = np.zeros(len(times))
    for start in range(0, len(y), ROWS):
        part = slice(start, start + ROWS)
        across = times @ (x @ y[part].T / x.shape[1] + 1) ** 3  # the kernel distance's, [R, rows]
        change -= 2 * (across * (again[:, part] - 1)).sum(1)
    return change / (len(x) * len(y))
