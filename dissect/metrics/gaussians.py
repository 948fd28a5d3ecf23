"""The Fréchet distance between Gaussians fitted to features: FID, and on areas of concepts the segmentation distance.

Survey, Eqs. 2 and 4; Heusel et al., NeurIPS 2017; Bau et al., ICCV 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segmodels import GanatomyError

Float64 = NDArray[np.float64]
PER_CENT = 100.0  # the segmentation distance is taken of areas in per cent of the image, as its reference code does


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Sums over samples from which mean and covariance follow; those of two sets of samples add up.

    Attributes:
        count: N. total: [D], sum of the features. product: [D, D], sum of their outer products about ``origin`` [D].
    """

    count: int
    total: Float64
    product: Float64
    origin: Float64

    @classmethod
    def of(cls, features: ArrayLike, origin: Float64 | None = None) -> Gaussian:
        """Return the Gaussian of features [N, D].

        Args:
            origin: about where products are taken; those that are to be merged need the same. Default: the mean.

        Raises:
            GanatomyError: for features that are not [N, D], fewer than two samples, numbers that are not finite.
        """
        x = as_features(features)
        centre = x.mean(0) if origin is None else np.asarray(origin, np.float64)
        y = x - centre
        return cls(len(x), y.sum(0), y.T @ y, centre)

    def __add__(self, other: Gaussian) -> Gaussian:
        if not np.array_equal(self.origin, other.origin):
            raise GanatomyError("only Gaussians about one origin can be merged")
        return Gaussian(self.count + other.count, self.total + other.total, self.product + other.product, self.origin)

    @property
    def mean(self) -> Float64:
        """Mean of the features, [D]."""
        return self.origin + self.total / self.count

    @property
    def covariance(self) -> Float64:
        """[D, D], unbiased (divided by N - 1)."""
        return (self.product - np.outer(self.total, self.total) / self.count) / (self.count - 1)


@dataclass(frozen=True)
class Frechet:
    """A Fréchet distance and its two parts: how far the ``mean`` is apart, and how unlike the ``covariance`` is."""

    mean: float
    covariance: float

    @property
    def value(self) -> float:
        """The distance (squared, as is the custom)."""
        return self.mean + self.covariance


def frechet(a: Gaussian, b: Gaussian) -> Frechet:
    """Return |m_a - m_b|^2 and Tr(S_a + S_b - 2 (S_a S_b)^(1/2)).

    The last trace is taken as the sum of the singular values of A^T B, where S_a = A A^T and S_b = B B^T: no root of a
    matrix that is not symmetric, hence nothing imaginary, and covariances of less than full rank are no special case.

    Raises:
        GanatomyError: for features of two lengths.
    """
    left, right = a.covariance, b.covariance
    if left.shape != right.shape:
        raise GanatomyError(f"expected features of one length, got {len(left)} and {len(right)}")
    apart = a.mean - b.mean
    cross = np.linalg.svd(root(left).T @ root(right), compute_uv=False).sum()
    spread = np.trace(left) + np.trace(right) - 2 * cross
    return Frechet(float(apart @ apart), max(0.0, float(spread)))


def frechet_of(features: ArrayLike, others: ArrayLike) -> Frechet:
    """Return :func:`frechet` of the Gaussians of features [N, D] and [M, D]; quicker than it where those are few."""
    return Target(others).distance(features)


def frechet_distance(features: ArrayLike, others: ArrayLike) -> float:
    """Return the value of :func:`frechet_of`."""
    return frechet_of(features, others).value


def resampled_frechet(features: ArrayLike, others: ArrayLike, counts: ArrayLike, again: ArrayLike) -> Float64:
    """Return [R]: :func:`frechet_distance` of sets with their samples repeated, or left out.

    Quicker than that of each pair of sets, since each sample counts once, however often it is there, covariances of
    full rank have triangular roots, and the sum of singular values is taken from the eigenvalues of C C^T. These lose
    half of the digits of singular values that are next to nothing, which together is less than 1e-6 of the distance's
    traces.

    Args:
        features, others: [N, D] and [M, D].
        counts, again: how often each sample is in each draw, [R, N] and [R, M]; at least two of each in all.
    """
    x, y = as_features(features), as_features(others)
    if x.shape[1] != y.shape[1]:
        raise GanatomyError(f"expected features of one length, got {x.shape[1]} and {y.shape[1]}")
    found = []
    for some, more in zip(np.asarray(counts, np.float64), np.asarray(again, np.float64), strict=True):
        (mean, own, spread), (other, theirs, wide) = _repeated(x, some), _repeated(y, more)
        apart, cross = mean - other, own @ theirs.T
        square = cross @ cross.T if len(own) <= len(theirs) else cross.T @ cross
        shared = np.sqrt(np.linalg.eigvalsh(square).clip(0)).sum()
        found.append(apart @ apart + max(0.0, spread + wide - 2 * shared))
    return np.array(found)


class Target:
    """A set that many others are compared with: what is its own is worked out once."""

    def __init__(self, features: ArrayLike) -> None:
        self._mean, self._root, self._spread = _fitted(as_features(features))

    def distance(self, features: ArrayLike) -> Frechet:
        """Return the Fréchet distance of features [N, D] and the set; GanatomyError for another D."""
        mean, own, spread = _fitted(as_features(features))
        if len(mean) != len(self._mean):
            raise GanatomyError(f"expected features of one length, got {len(mean)} and {len(self._mean)}")
        cross = np.linalg.svd(own.T @ self._root, compute_uv=False).sum()
        apart = mean - self._mean
        return Frechet(float(apart @ apart), max(0.0, float(spread + self._spread - 2 * cross)))


def _fitted(x: Float64) -> tuple[Float64, Float64, float]:
    """Return mean [D], a root A [D, r] of the covariance, and its trace.

    Few samples are themselves a root of their covariance, and no eigenvalues are needed.
    """
    mean = x.mean(0)
    centred = (x - mean) / np.sqrt(len(x) - 1)
    few = len(x) <= x.shape[1]
    return mean, centred.T if few else triangular(centred.T @ centred), float((centred**2).sum())


def _repeated(x: Float64, times: Float64) -> tuple[Float64, Float64, float]:
    """Return mean [D], B [r, D] with B^T B the covariance, and its trace, of x [N, D] with its samples repeated."""
    rows, times = x[times > 0], times[times > 0]
    mean = times @ rows / times.sum()
    factor = (rows - mean) * np.sqrt(times / (times.sum() - 1))[:, None]
    spread = float((factor**2).sum())
    return mean, factor if len(factor) <= x.shape[1] else triangular(factor.T @ factor).T, spread


def segmentation_distance(areas: ArrayLike, others: ArrayLike) -> Frechet:
    """Return the Fréchet segmentation distance of two sets of images.

    Args:
        areas, others: [N, C], share of the image of each concept, in [0, 1].
    """
    return frechet_of(PER_CENT * as_features(areas), PER_CENT * as_features(others))


def as_features(features: ArrayLike, least: int = 2) -> Float64:
    """Return features float64 [N, D]; GanatomyError unless they are finite and of ``least`` samples."""
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or not x.shape[1]:
        raise GanatomyError(f"expected features [N, D], got shape {list(x.shape)}")
    if len(x) < least:
        raise GanatomyError(f"expected at least {least} samples, got {len(x)}")
    if not np.isfinite(x).all():
        raise GanatomyError("features hold NaN or infinite numbers")
    return x


def root(covariance: Float64) -> Float64:
    """Return A [D, r] with A A^T the covariance; eigenvalues that are zero but for rounding are left out."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > max(values.max(initial=0.0), 0.0) * len(values) * np.finfo(np.float64).eps
    return vectors[:, kept] * np.sqrt(values[kept])


def triangular(covariance: Float64) -> Float64:
    """Return a root like :func:`root`'s, several times as quickly where the covariance has full rank."""
    try:
        lower = np.asarray(np.linalg.cholesky(covariance), np.float64)
    except np.linalg.LinAlgError:
        return root(covariance)
    return lower
