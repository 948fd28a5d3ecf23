"""Numbers of two sets of images, each with its interval, the noise floor and what it was made from."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from segmodels import GanatomyError, Segmenter

from ..effects.areas import pixels_of
from .extractors import Extractor
from .gaussians import PER_CENT, Float64, frechet_distance, frechet_of
from .imagesets import ImageSet
from .kernels import kernel_distance
from .neighbours import coverage
from .pairs import Pairs
from .paths import PathLengths
from .perceptual import Distance
from .posteriors import inception_score
from .resampling import (
    RESAMPLES,
    Measure,
    around,
    coverage_floors,
    coverage_intervals,
    deviation,
    deviation_of,
    halves,
)
from .sliced import sliced_distance

EACH = 10  # images at least in a part of the inception score: of one image it is always 1
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Score:
    """A number of two sets of images.

    Attributes:
        metric: its name; it is "fid" only of Inception's features.
        value: of the first set against the second, the reference.
        low, high: the 95% interval over images (:mod:`.resampling`); NaN without resamples.
        floor: what two halves of the reference give in ten splits, the most of a distance, the least of precision and
            recall: what is not beyond it means nothing. NaN of what has no reference: inception score, path length.
        extractor, sha256: what the features are of.
        samples, reference: how many images each set has, or how many paths there are; 0 where there is no reference.
        parts: what the number is made of, or to be seen beside, by name.
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
            "extractor": self.extractor, "sha256": self.sha256[:12], "n": self.samples,
            "n_reference": self.reference or None, **dict(self.parts),
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
        found, classes = extractor.both(some)
        features.append(found)
        if classes is not None:
            posteriors.append(classes)
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

    def score(name: str, measure: Measure, x: Float64, y: Float64, of: tuple[str, str]) -> Score:
        parts: tuple[tuple[str, float], ...] = ()
        if measure is frechet_distance:
            found = frechet_of(x, y)
            value, parts = found.value, (("mean", found.mean), ("covariance", found.covariance))
        else:
            value = measure(x, y)
        ends = around(value, deviation(measure, x, y, seed, resamples))
        return Score(name, value, *ends, halves(measure, y, seed), *of, len(x), len(y), parts)

    of = (extractor.name, extractor.sha256)
    x, y = ours.features, reference.features
    measures: dict[str, Measure] = {
        "fid" if extractor.inception else "frechet": frechet_distance, "kernel": kernel_distance,
        "sliced": sliced_distance,
    }  # fmt: skip
    scores = [score(name, measure, x, y, of) for name, measure in measures.items() if not only or name in only]
    if only:
        return scores
    scores += _covering(x, y, of, seed, resamples)
    if ours.posteriors is not None:
        scores.append(_inception(ours.posteriors, reference.posteriors, of, seed, resamples))
    if segmenter is not None and ours.areas is not None and reference.areas is not None:
        # In per cent, as in `segmentation_distance`.
        areas, others, named = PER_CENT * ours.areas, PER_CENT * reference.areas, (segmenter.name, segmenter.sha256)
        scores.append(score("segmentation", frechet_distance, areas, others, named))
    return scores


def path_score(found: PathLengths, space: str, distance: Distance, seed: int = 0, resamples: int = RESAMPLES) -> Score:
    """Return a path length with its interval over paths; it is of one generator, so that nothing is a reference."""
    ends = around(found.value, deviation_of(lambda each: PathLengths(each).value, found.each, seed, resamples))
    name = f"path length in {space}"
    return Score(name, found.value, *ends, np.nan, distance.name, distance.sha256, len(found.each), 0)


def pair_score(pairs: Pairs, distance: Distance, seed: int = 0, resamples: int = RESAMPLES) -> Score:
    """Return the mean distance of pairs with its interval over pairs; beside it that of images that are no pairs."""
    value, n = float(pairs.each.mean()), len(pairs.each)
    ends = around(value, deviation_of(lambda some: float(some.mean()), pairs.each, seed, resamples))
    parts = (("unrelated", float(pairs.unrelated.mean())),) if len(pairs.unrelated) else ()
    return Score(distance.metric, value, *ends, np.nan, distance.name, distance.sha256, n, n, parts)


def _covering(x: Float64, y: Float64, of: tuple[str, str], seed: int, resamples: int) -> list[Score]:
    """Return precision and recall of features [N, D] and a reference's [M, D]."""
    found = coverage(y, x)
    ends, floors = coverage_intervals(y, x, found, seed, resamples), coverage_floors(y, seed)
    values = (("precision", found.precision), ("recall", found.recall))
    return [
        Score(name, value, *ends[i], floors[i], *of, len(x), len(y)) for i, (name, value) in enumerate(values)
    ]  # fmt: skip


def _inception(p: Float64, others: Float64 | None, of: tuple[str, str], seed: int, resamples: int) -> Score:
    """Return the inception score of posteriors [N, K], with the deviation of its parts and the reference's own."""

    def parts_of(some: Float64) -> Float64:
        return inception_score(some, max(1, min(10, len(some) // EACH)))

    def mean(some: Float64) -> float:
        return float(parts_of(some).mean())

    # Pictures come sorted by name, and so perhaps by class: each part is to have all of them.
    ours, *more = (some[np.random.RandomState(seed).permutation(len(some))] for some in (p, others) if some is not None)
    low, high = around(mean(ours), deviation_of(mean, ours, seed, resamples))
    told = (("sd", float(parts_of(ours).std())), *(("reference", mean(some)) for some in more))
    return Score("inception score", mean(ours), low, high, np.nan, *of, len(p), sum(map(len, more)), told)
