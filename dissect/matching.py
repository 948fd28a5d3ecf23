"""Which units of two layers are the same or alike: pure functions of arrays.

Two runs have no feature map in common in their files, so units are compared by what both files know of them: every
sample's maximum, where both kept it for the same seeds, else the mean activation on each concept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

LEAST_CONCEPTS = 5  # a correlation over fewer says nothing


@dataclass(frozen=True, eq=False)
class Matches:
    """The best partner of every unit of the first layer.

    Attributes:
        partner: [A], index in the second layer, -1 if there is none; r: [A], their correlation, NaN if there is none.
        mutual: [A], whether the first is also the partner's best.
    """

    partner: NDArray[np.intp]
    r: Float64
    mutual: NDArray[np.bool_]


def correlate(a: NDArray, b: NDArray) -> Float64:
    """Return Pearson's r [A, B] of the columns of two tables [N, A] and [N, B]; NaN for constant columns.

    Rows in which a column is NaN are left out of that column's pairs.
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if np.isnan(x).any() or np.isnan(y).any():
        return _correlate_with_gaps(x, y)
    x, y = _standard(x), _standard(y)
    return np.clip(x.T @ y, -1, 1)


def _standard(x: Float64) -> Float64:
    centred = x - x.mean(0)
    norm = np.sqrt((centred**2).sum(0))
    flat = norm <= 1e-9 * np.abs(x).max(0, initial=0) * np.sqrt(len(x))
    return np.where(flat, np.nan, centred / np.where(flat, 1, norm))


def _correlate_with_gaps(x: Float64, y: Float64) -> Float64:
    """Sums over the rows that both columns have, all pairs at once."""
    here, there = ~np.isnan(x), ~np.isnan(y)
    x, y = np.where(here, x, 0), np.where(there, y, 0)
    x, y = x - x.sum(0) / np.maximum(here.sum(0), 1) * here, y - y.sum(0) / np.maximum(there.sum(0), 1) * there
    n = here.T.astype(float) @ there
    safe = np.maximum(n, 1)
    sx, sy = x.T @ there, here.T.astype(float) @ y
    covariance = x.T @ y - sx * sy / safe
    vx, vy = (x**2).T @ there - sx**2 / safe, here.T.astype(float) @ (y**2) - sy**2 / safe
    scale = np.sqrt(np.maximum(vx, 0) * np.maximum(vy, 0))
    good = (n >= 3) & (scale > 1e-12 * (1 + np.abs(covariance)))
    return np.clip(np.divide(covariance, scale, out=np.full_like(scale, np.nan), where=good), -1, 1)


def concept_profile(concept_mean: Float64, mean: Float64, second_moment: Float64) -> Float64:
    """Return how far each concept moves each unit from its mean, in standard deviations, [C, U].

    Args:
        concept_mean: mean activation where a concept is, [C, U]; NaN where it never is.
        mean: [U], over all native pixels; second_moment: [U, U], uncentred.
    """
    variance = np.diag(second_moment) - mean**2
    varies = variance > 1e-12 * np.diag(second_moment)
    deviation = np.sqrt(np.where(varies, variance, 1))
    return np.where(varies, (concept_mean - mean) / deviation, np.nan)


def best(r: Float64) -> Matches:
    """Return every row's best column of a table of correlations [A, B]."""
    if not r.size:
        return Matches(np.full(len(r), -1), np.full(len(r), np.nan), np.zeros(len(r), bool))
    filled = np.where(np.isnan(r), -np.inf, r)
    partner, back = filled.argmax(1), filled.argmax(0)
    value = filled[np.arange(len(r)), partner]
    found = np.isfinite(value)
    mutual = found & (back[partner] == np.arange(len(r)))
    return Matches(np.where(found, partner, -1), np.where(found, value, np.nan), mutual)


def identity(r: Float64) -> Matches:
    """Return every unit with the unit of the same index, and their correlation."""
    units = np.arange(min(r.shape))
    found = best(r)
    same = np.full(len(r), -1)
    same[units] = units
    value = np.full(len(r), np.nan)
    value[units] = r[units, units]
    return Matches(same, value, (found.partner == same) & found.mutual)
