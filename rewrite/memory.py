"""What a convolution remembers, as far as its keys go: their second moment, factored, and what follows from it.

C = E[k k^T] says which keys are common. Changing W along C^-1 k* changes the value of k* and disturbs the others least,
in the mean over all images (survey, Eq. 9; Bau et al., ECCV 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg
import scipy.sparse.linalg
import torch

from dissect import GanatomyError

from .moments import Float64, Moments

COLUMNS = 768  # of a factor, in one product: 0.09 s for 512 x 4,608 numbers where the whole took 0.15
RIDGE = 1e-4  # of the mean variance of a channel: keys of ReLUs have channels that are nearly always zero
ILL = 1e12  # a condition number above which solves keep less than four digits


@dataclass(frozen=True, eq=False)
class Memory:
    """Second moments with a ridge, and their Cholesky factors L: C + ridge * mean(diag C) * I = L L^T.

    Attributes:
        moments: of which.
        ridge: relative.
        factors: L for each phase, [n, n], lower; zeros above.
        conditions: estimate of the condition number of each factored matrix, in the 1-norm.
    """

    moments: Moments
    ridge: float
    factors: tuple[Float64, ...]
    conditions: tuple[float, ...]

    @classmethod
    def of(cls, moments: Moments, ridge: float = RIDGE) -> Memory:
        """Factor moments.

        Raises:
            GanatomyError: if a second moment is singular: too few images for the size of a key, and no ridge.
        """
        if not (np.isfinite(ridge) and ridge >= 0):
            raise GanatomyError(f"expected a ridge >= 0, got {ridge}")
        found = [_factored(moments, index, ridge) for index in range(len(moments.count))]
        return cls(moments, float(ridge), tuple(f for f, _ in found), tuple(c for _, c in found))

    @property
    def kind(self) -> str:
        """``patch`` or ``channel``."""
        return self.moments.kind

    @property
    def condition(self) -> float:
        """The worst of the phases."""
        return max(self.conditions)

    @cached_property
    def means(self) -> tuple[Float64, ...]:
        """The mean key of each phase, [n]."""
        return tuple(total / count for total, count in zip(self.moments.total, self.moments.count, strict=True))

    def second(self, phase: int) -> Float64:
        """Return C of a phase, [n, n], without the ridge."""
        return self.moments.second[phase] / self.moments.count[phase]

    def whiten(self, keys: Float64, phase: int) -> Float64:
        """Return L^-1 k of keys [n, m]: in the mean over all images their second moment is the identity."""
        return scipy.linalg.solve_triangular(self.factors[phase], keys, lower=True)

    def unwhiten(self, directions: Float64, phase: int) -> Float64:
        """Return L^-T q of directions [n, m] among whitened keys."""
        return scipy.linalg.solve_triangular(self.factors[phase], directions, lower=True, trans="T")

    def solve(self, keys: Float64, phase: int) -> Float64:
        """Return C^-1 k of keys [n, m], the ridge included."""
        return self.unwhiten(self.whiten(keys, phase), phase)

    def energy(self, matrix: Float64, phase: int) -> float:
        """Return E |M k|^2 of a matrix [m, n] over the keys of a phase, the ridge included."""
        factor, found = self.factors[phase], 0.0
        for left in range(0, len(factor), COLUMNS):  # above the diagonal there is nothing: half the work
            found += float(np.square(matrix[:, left:] @ factor[left:, left : left + COLUMNS]).sum())
        return found

    def directions(self, keys: Float64, weights: Float64, rank: int, how: str, phase: int) -> Float64:
        """Return the directions along which weights change for some keys, rows [rank, n] of norm 1.

        Args:
            keys: [n, m] of the context. weights: [m], how much each counts.
            rank: how many; fewer come back if the keys span less.
            how: ``mean`` is C^-1 of the weighted mean key, alone. ``singular`` are the leading right singular vectors
                of the weighted, whitened keys, taken back (as zca in the original).

        Raises:
            GanatomyError: for keys that are all zero.
        """
        if not (keys * weights).any():
            raise GanatomyError("the keys of the context are zero everywhere: no direction can tell them from others")
        mean = keys @ weights / weights.sum()
        if how == "mean":
            found = self.solve(mean[:, None], phase)
        else:
            found = self.unwhiten(_leading(self.whiten(keys, phase) * weights, rank), phase)
            found = found * np.where(mean @ found < 0, -1.0, 1.0)
        return (found / np.linalg.norm(found, axis=0)).T


def _leading(keys: Float64, rank: int) -> Float64:
    """Return the leading left singular vectors [n, rank] of keys [n, m], without those of singular value 0."""
    size, count = keys.shape
    if min(size, count) <= max(64, 4 * rank):
        left, values, _ = np.linalg.svd(keys, full_matrices=False)
    else:
        start = np.random.RandomState(0).randn(min(size, count))  # so that it is the same each time
        left, values, _ = scipy.sparse.linalg.svds(keys, k=rank, v0=start)
        left, values = left[:, ::-1], values[::-1]
    return left[:, :rank][:, values[:rank] > 1e-12 * values[0]]


def _factored(moments: Moments, phase: int, ridge: float) -> tuple[Float64, float]:
    count, size = int(moments.count[phase]), moments.sizes[phase]
    matrix = moments.second[phase] / count
    scale = float(np.trace(matrix)) / size
    matrix[np.diag_indices(size)] += ridge * scale
    few = (
        f"the second moment of {count} keys of {size} numbers is singular; ask for more images (seeds, "
        f"--memory-samples) or a ridge above {ridge:g} (ridge, --ridge)"
    )
    if scale == 0:
        raise GanatomyError(f"the keys of layer {moments.facts['layer']!r} are zero in all images")
    if ridge == 0 and count < size:
        raise GanatomyError(few)
    # SciPy's took seven times as long (4,608 numbers, 7.5 s against 1.0).
    lower, failed = torch.linalg.cholesky_ex(torch.from_numpy(matrix))
    if int(failed):
        raise GanatomyError(few)
    factor = lower.numpy()
    norm = float(np.abs(matrix).sum(0).max())
    reciprocal, _ = scipy.linalg.lapack.dpocon(factor, norm, uplo="L")
    return factor, float(1 / reciprocal) if reciprocal > 0 else float("inf")
