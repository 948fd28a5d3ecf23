"""Numbers of two sets of images, each with its interval, the noise floor and what it was made from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segmodels import GanatomyError, Segmenter

from ..effects.areas import pixels_of
from .extractors import Extractor
from .gaussians import Float64, frechet_of, segmentation_distance
from .imagesets import ImageSet
from .kernels import kernel_distance, resampled_distances
from .neighbours import coverage
from .posteriors import inception_score
from .sliced import sliced_distance

RESAMPLES = 50
SPLITS = 10  # of the reference into halves, for the noise floor
EACH = 10  # images at least in a part of the inception score: of one image it is always 1
NORMAL = 1.96  # deviations of a normal distribution between which 95% of it lie
Progress = Callable[[int, int], None]
Measure = Callable[[Float64, Float64], float]


@dataclass(frozen=True)
class Score:
    """A number of two sets of images.

    Attributes:
        metric: its name; it is "fid" only of Inception's features.
        value: of the first set against the second, the reference.
        low, high: the 95% interval over images (bootstrap); NaN where a metric has none.
        floor: the most that two halves of the reference give in ten splits: what is not more than this means nothing.
        extractor, sha256: what the features are of.
        samples, reference: how many images each set has.
        parts: what the number is made of, by name.
    """

    metric: str
    value: float
    low: float
    high: float
    floor: float
    extractor: str
    sha256: str
    samples: int
    reference: int
    parts: tuple[tuple[str, float], ...] = ()

    def row(self) -> dict[str, object]:
        """Return it as a row of a table."""
        return {
            "metric": self.metric, "value": self.value, "low": self.low, "high": self.high, "floor": self.floor,
            "extractor": self.extractor, "sha256": self.sha256[:12], "n": self.samples, "n_reference": self.reference,
            **dict(self.parts),
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Looks:
    """What is kept of a set of images: features [N, D], posteriors [N, K] or None, areas [N, C] or None."""

    features: Float64
    posteriors: Float64 | None = None
    areas: Float64 | None = None

    def __len__(self) -> int:
        return len(self.features)


def look(
    images: ImageSet,
    extractor: Extractor,
    segmenter: Segmenter | None = None,
    batch: int = 8,
    progress: Progress | None = None,
) -> Looks:
    """Extract what the metrics need, a batch of images at a time."""
    features, posteriors, areas, done = [], [], [], 0
    for some in images.batches(batch):
        features.append(extractor(some))
        if (found := extractor.posteriors(some)) is not None:
            posteriors.append(found)
        if segmenter is not None:
            labels = segmenter(some)
            areas.append(pixels_of(labels, len(segmenter.concepts)) / labels[0, 0].numel())
        done += len(some)
        if progress is not None:
            progress(done, len(images))
    return Looks(
        np.concatenate(features),
        np.concatenate(posteriors) if posteriors else None,
        np.concatenate(areas) if areas else None,
    )


def compare(
    ours: Looks,
    reference: Looks,
    extractor: Extractor,
    segmenter: Segmenter | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    only: Collection[str] = (),
) -> list[Score]:
    """Return every metric that the features allow.

    Args:
        only: the names of those of Fréchet, kernel and sliced distance that are wanted, and no other; default: all.
        seed: of the resampling, the halves and the sliced distance's directions.
        resamples: of the images, for the intervals; 0 for none.

    Raises:
        GanatomyError: for fewer than four images in a set.
    """
    if min(len(ours), len(reference)) < 4:
        raise GanatomyError(f"expected at least 4 images in each set, got {len(ours)} and {len(reference)}")

    def score(name: str, measure: Measure, x: Float64, y: Float64, of: tuple[str, str], **parts: float) -> Score:
        low, high = interval(measure, x, y, seed, resamples)
        return Score(
            name, measure(x, y), low, high, halves(measure, y, seed), *of, len(x), len(y), tuple(parts.items())
        )

    of = (extractor.name, extractor.sha256)
    x, y = ours.features, reference.features
    name = "fid" if extractor.inception else "frechet"
    scores = []
    if not only or name in only:
        parts = frechet_of(x, y)
        split = {"mean": parts.mean, "covariance": parts.covariance}
        scores.append(score(name, lambda a, b: frechet_of(a, b).value, x, y, of, **split))
    for name, measure in (("kernel", kernel_distance), ("sliced", sliced_distance)):
        if not only or name in only:
            scores.append(score(name, measure, x, y, of))
    if only:
        return scores
    found = coverage(y, x)
    for name, value in (("precision", found.precision), ("recall", found.recall)):
        scores.append(Score(name, value, np.nan, np.nan, np.nan, *of, len(x), len(y)))
    if ours.posteriors is not None:
        # Pictures come sorted by name, and so perhaps by class: each part is to have all of them.
        mixed = ours.posteriors[np.random.RandomState(seed).permutation(len(x))]
        splits = inception_score(mixed, max(1, min(10, len(x) // EACH)))
        spread = float(splits.std())
        scores.append(
            Score("inception score", float(splits.mean()), np.nan, np.nan, np.nan, *of, len(x), 0, (("sd", spread),))
        )
    if segmenter is not None and ours.areas is not None and reference.areas is not None:
        apart = segmentation_distance(ours.areas, reference.areas)
        scores.append(
            score(
                "segmentation", lambda a, b: segmentation_distance(a, b).value, ours.areas, reference.areas,
                (segmenter.name, segmenter.sha256), mean=apart.mean, covariance=apart.covariance,
            )
        )  # fmt: skip
    return scores


def interval(
    measure: Measure, x: Float64, y: Float64, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Return the 95% interval of ``measure(x, y)``: the number plus and minus 1.96 deviations of the bootstrap.

    A set that is drawn again from itself repeats images, which moves a distance upwards; so the resampled values tell
    how much the number varies, but not where it is.
    """
    if not resamples:
        return np.nan, np.nan
    state = np.random.RandomState(seed)
    drawn = [(_again(x, state), _again(y, state)) for _ in range(resamples)]
    if measure is kernel_distance:
        found = resampled_distances(x, y, *(times_of(rows) for rows in zip(*drawn, strict=True)))
    else:
        found = np.array([measure(x[a], y[b]) for a, b in drawn])
    value, reach = measure(x, y), NORMAL * float(np.std(found, ddof=1))
    return value - reach, value + reach


def halves(measure: Measure, y: Float64, seed: int = 0) -> float:
    """Return the most that two random halves of a set give in ten splits.

    One split would not do: the kernel distance of two halves is as often below zero as above.
    """
    state, middle = np.random.RandomState(seed), len(y) // 2
    orders = [state.permutation(len(y)) for _ in range(SPLITS)]
    if measure is kernel_distance:
        first = np.array([np.bincount(order[:middle], minlength=len(y)) for order in orders])
        return float(resampled_distances(y, y, first, 1 - first).max())
    return max(measure(y[order[:middle]], y[order[middle:]]) for order in orders)


def times_of(draws: Sequence[NDArray[Any]] | NDArray[Any]) -> NDArray[np.int64]:
    """Return how often each of N samples is in each of R draws of N, [R, N]."""
    return np.array([np.bincount(rows, minlength=len(rows)) for rows in draws])


def _again(x: Float64, state: np.random.RandomState) -> NDArray[np.int64]:
    return state.randint(0, len(x), len(x))
