"""Perceptual path length: how much the image changes along a short step between latents (Karras et al., CVPR 2019)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from segmodels import GanatomyError
from segmodels.errors import unknown_name

from ..generators import Codes, Generator

EPSILON = 1e-4
OUTER = 0.01  # share of the values that is left out at each end, as in the paper
SIDE = 256  # images are averaged down to it
Distance = Callable[[Tensor, Tensor], Tensor]  # images [N, 3, H, W] twice -> [N]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class PathLengths:
    """The squared step lengths of N pairs, [N], and their mean without the outermost in a hundred at either end."""

    each: NDArray[np.float64]

    @property
    def value(self) -> float:
        """The perceptual path length."""
        low, high = np.quantile(self.each, [OUTER, 1 - OUTER])
        return float(self.each[(self.each >= low) & (self.each <= high)].mean())


def squared_difference(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean squared difference of images [N, 3, H, W], [N]: a distance that needs no network."""
    return ((a - b) ** 2).flatten(1).mean(1)


def path_length(
    generator: Generator,
    samples: int = 1000,
    distance: Distance = squared_difference,
    space: str = "w",
    at_ends: bool = False,
    epsilon: float = EPSILON,
    seed: int = 0,
    batch: int = 4,
    progress: Progress | None = None,
) -> PathLengths:
    """Measure ``d(G(t), G(t + epsilon)) / epsilon^2`` over random pairs of latents.

    Args:
        space: ``"w"`` goes straight between intermediate latents, ``"z"`` along a great circle between latents.
        at_ends: t = 0 instead of anywhere between.
        seed: of the pairs and of t; pair i has seeds of its own.

    Raises:
        GanatomyError: for ``space="w"`` of a generator without intermediate latents.
    """
    if space not in ("w", "z"):
        raise unknown_name("space", space, ["w", "z"])
    if samples < 1 or not epsilon > 0:
        raise GanatomyError(f"expected at least one sample and epsilon > 0, got {samples} and {epsilon}")
    places = np.random.RandomState(seed).uniform(size=samples) * (0.0 if at_ends else 1.0)
    found = []
    for start in range(0, samples, batch):
        stop = min(start + batch, samples)
        seeds = [(seed + 2 * i) % 2**32 for i in range(start, stop)]
        first = generator.sample(seeds)
        classes = None if first.classes is None else first.classes.tolist()
        second = generator.sample([(s + 1) % 2**32 for s in seeds], classes)
        t = torch.from_numpy(places[start:stop])[:, None]
        images = [
            F.adaptive_avg_pool2d(generator(codes), min(SIDE, generator.resolution))
            for codes in (_between(generator, first, second, at, space) for at in (t, t + epsilon))
        ]
        found.append(distance(images[0], images[1]).double().cpu().numpy() / epsilon**2)
        if progress is not None:
            progress(stop, samples)
    return PathLengths(np.concatenate(found))


def _between(generator: Generator, first: Codes, second: Codes, t: Tensor, space: str) -> Codes:
    """Return codes at ``t`` [N, 1] between two, with the noise of the first."""
    noise = "const" if first.noise is None else first.noise.tolist()
    if space == "w":
        if first.w is None or second.w is None:
            raise GanatomyError(f"{generator.name} ({generator.family}) has no intermediate latents; use space='z'")
        return generator.codes(first.w.lerp(second.w, t[..., None].to(first.w)), noise)
    assert first.z is not None
    assert second.z is not None
    return generator.map(great_circle(first.z, second.z, t), first.classes, noise=noise)


def great_circle(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Return latents [N, D] at ``t`` [N, 1] of the way from a to b: along the great circle, lengths in proportion."""
    one, two, t = a.double(), b.double(), t.double()
    length, other = one.norm(dim=1, keepdim=True), two.norm(dim=1, keepdim=True)
    one, two = one / length, two / other
    across = two - (one * two).sum(1, keepdim=True) * one
    angle = t * torch.arccos((one * two).sum(1, keepdim=True).clamp(-1, 1))
    direction = one * angle.cos() + across / across.norm(dim=1, keepdim=True).clamp_min(1e-12) * angle.sin()
    return (direction * length.lerp(other, t)).float()
