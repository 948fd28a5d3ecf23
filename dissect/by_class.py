"""What units do by class: how strongly each class drives them, and how much of them classes explain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segmodels import GanatomyError


@dataclass(frozen=True, eq=False)
class ByClass:
    """Units by class, from each sample's maximum. K classes, U units.

    Attributes:
        classes: int64 [K], those that samples have, ascending.
        samples: int64 [K], how many each has.
        maximum: float64 [K, U], the mean over a class's samples of a unit's maximum.
        share: float64 [U], the part of the maxima's variance that classes explain, less what as many groups of
            samples without a difference would (epsilon squared; Kelley, 1935): 0 or a little below where class says
            nothing, 1 where it says all. NaN for constant units, for one class, and for a sample a class.
    """

    classes: NDArray[np.int64]
    samples: NDArray[np.int64]
    maximum: NDArray[np.float64]
    share: NDArray[np.float64]


def by_class(maxima: ArrayLike, classes: ArrayLike) -> ByClass:
    """Return units by class.

    Args:
        maxima: [N, U], each sample's maximum per unit.
        classes: integers [N].

    Raises:
        GanatomyError: if there is not a class for each sample.
    """
    values, given = np.asarray(maxima, np.float64), np.asarray(classes)
    if values.ndim != 2 or given.shape != (len(values),) or given.dtype.kind not in "iu":
        raise GanatomyError(f"expected maxima [N, U] and classes [N], got {list(values.shape)} and {list(given.shape)}")
    names, index, count = np.unique(given, return_inverse=True, return_counts=True)
    maximum = np.zeros((len(names), values.shape[1]))
    np.add.at(maximum, index, values)
    maximum /= count[:, None]
    within = np.square(values - maximum[index]).sum(0)
    total = np.square(values - values.mean(0)).sum(0)
    free, all_free = len(values) - len(names), len(values) - 1
    share = np.full(values.shape[1], np.nan)
    if free > 0 and len(names) > 1:
        varies = total > 1e-12 * np.square(values).sum(0)  # what is left of a constant unit is rounding
        share[varies] = 1 - (within[varies] / free) / (total[varies] / all_free)
    return ByClass(names.astype(np.int64), count.astype(np.int64), maximum, share)
