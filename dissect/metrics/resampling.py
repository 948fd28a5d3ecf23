"""How sure a number of samples is: its interval, and what two halves of the reference give.

Numbers of all samples are resampled by their counts: how often each sample is there. Distances that many resampled
sets can share work for have a quick way, which gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .gaussians import Float64, frechet_distance, resampled_frechet
from .kernels import kernel_distance, resampled_distances
from .neighbours import NEIGHBOUR, Coverage, coverages
from .sliced import resampled_sliced, sliced_distance

RESAMPLES = 50
SPLITS = 10  # of the reference into halves, for the noise floor
NORMAL = 1.96  # deviations of a normal distribution between which 95% of it lie
Int64: TypeAlias = NDArray[np.int64]
Measure: TypeAlias = Callable[[Float64, Float64], float]
Interval: TypeAlias = tuple[float, float]

QUICK: dict[Measure, Callable[[Float64, Float64, Int64, Int64], Float64]] = {
    frechet_distance: resampled_frechet, kernel_distance: resampled_distances, sliced_distance: resampled_sliced,
}  # fmt: skip


def interval(measure: Measure, x: Float64, y: Float64, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Return the 95% interval of ``measure(x, y)``: the number plus and minus 1.96 deviations of the bootstrap.

    A set that is drawn again from itself repeats images, which moves a distance upwards; so the resampled values tell
    how much the number varies, but not where it is.
    """
    return around(measure(x, y), deviation(measure, x, y, seed, resamples))


def deviation(measure: Measure, x: Float64, y: Float64, seed: int = 0, resamples: int = RESAMPLES) -> float:
    """Return the standard deviation of ``measure`` over sets drawn again from [N, D] and [M, D]; NaN of none."""
    if not resamples:
        return np.nan
    state = np.random.RandomState(seed)
    drawn = [(_again(len(x), state), _again(len(y), state)) for _ in range(resamples)]
    return float(np.std(_values(measure, x, y, *(times_of(rows) for rows in zip(*drawn, strict=True))), ddof=1))


def deviation_of(statistic: Callable[[Float64], float], x: Float64, seed: int = 0, resamples: int = RESAMPLES) -> float:
    """Return the standard deviation of a number of one set over sets drawn again from it, [N, ...]; NaN of none."""
    if not resamples:
        return np.nan
    state = np.random.RandomState(seed)
    return float(np.std([statistic(x[_again(len(x), state)]) for _ in range(resamples)], ddof=1))


def around(value: float, deviation: float) -> Interval:
    """Return the 95% interval of a number with that standard deviation."""
    return value - NORMAL * deviation, value + NORMAL * deviation


def halves(measure: Measure, y: Float64, seed: int = 0) -> float:
    """Return the most that two random halves of a set give in ten splits.

    One split would not do: the kernel distance of two halves is as often below zero as above.
    """
    first = some_of(len(y), SPLITS, np.random.RandomState(seed)).astype(np.int64)
    return float(_values(measure, y, y, first, 1 - first).max())


def coverage_intervals(
    real: Float64, generated: Float64, found: Coverage, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[Interval, Interval]:
    """Return the 95% intervals of precision and recall; NaN of no resamples, and of fewer than eight images a set.

    A bootstrap would not do: an image that is drawn twice is its own neighbour, at distance 0, and covers nothing.
    Random halves of both sets repeat none, and of what is a mean over N samples those of N/2 vary, about that of all
    N, just as much as that of all does about the truth. Keeping the cover fixed and resampling what is asked for is
    too sure: on Gaussian sets such intervals held the truth in 59 to 91 of a hundred cases, these in 94 to 99.

    A share that is 1 in all halves is not therefore sure: no interval is shorter than Wilson's for a share of N.
    """
    if not resamples or min(len(real), len(generated)) // 2 <= NEIGHBOUR:
        return (np.nan, np.nan), (np.nan, np.nan)
    state = np.random.RandomState(seed)
    some, more = some_of(len(real), resamples, state), some_of(len(generated), resamples, state)
    precision, recall = coverages(real, generated, some, more).std(0, ddof=1)
    return (
        _share(found.precision, float(precision), len(generated)),
        _share(found.recall, float(recall), len(real)),
    )


def coverage_floors(real: Float64, seed: int = 0) -> tuple[float, float]:
    """Return the least precision and recall that two random halves of a set give in ten splits; NaN of fewer than 8."""
    if len(real) // 2 <= NEIGHBOUR:
        return np.nan, np.nan
    first = some_of(len(real), SPLITS, np.random.RandomState(seed))
    precision, recall = coverages(real, real, first, ~first).min(0)
    return float(precision), float(recall)


def _share(value: float, deviation: float, count: int) -> Interval:
    """Return the interval of a share of ``count``: in [0, 1], and no shorter than Wilson's (1927)."""
    low, high = around(value, deviation)
    square = NORMAL**2 / count
    middle = (value + square / 2) / (1 + square)
    reach = np.sqrt(square * (value * (1 - value) + square / 4)) / (1 + square)
    return max(0.0, min(low, float(middle - reach))), min(1.0, max(high, float(middle + reach)))


def some_of(count: int, times: int, state: np.random.RandomState) -> NDArray[np.bool_]:
    """Return which of ``count`` samples are in each of ``times`` random halves, [times, count]."""
    halves = np.zeros((times, count), bool)
    for half in halves:
        half[state.permutation(count)[: count // 2]] = True
    return halves


def times_of(draws: Sequence[NDArray[Any]] | NDArray[Any]) -> Int64:
    """Return how often each of N samples is in each of R draws of N, [R, N]."""
    return np.array([np.bincount(rows, minlength=len(rows)) for rows in draws])


def _values(measure: Measure, x: Float64, y: Float64, counts: Int64, again: Int64) -> Float64:
    """Return ``measure`` of each pair of sets, in which samples are as often as counts [R, N] and again [R, M] say."""
    if (quick := QUICK.get(measure)) is not None:
        return quick(x, y, counts, again)
    return np.array([measure(np.repeat(x, a, 0), np.repeat(y, b, 0)) for a, b in zip(counts, again, strict=True)])


def _again(count: int, state: np.random.RandomState) -> NDArray[Any]:
    return state.randint(0, count, count)
