"""Perceptual path length: how much the image changes along a short step between latents (Karras et al., CVPR 2019)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from segmodels import GanatomyError
from segmodels.errors import unknown_name

from ..generators import Codes, Generator
from ..generators.codes import NO_NOISE
from ..samples import Sampling

EPSILON = 1e-4
OUTER = 0.01  # share of the values that is left out at each end, as in the paper
SIDE = 256  # images are averaged down to it
Distance = Callable[[Tensor, Tensor], Tensor]  # images [N, 3, H, W] twice -> [N]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class PathLengths:
    """Squared step lengths of paths, ``each`` [N], and their mean without the outermost in a hundred at either end."""

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
    seeds: Sequence[int] = range(2000),
    distance: Distance = squared_difference,
    space: str = "w",
    at_ends: bool = False,
    epsilon: float = EPSILON,
    sampling: Sampling | None = None,
    seed: int = 0,
    batch: int = 4,
    progress: Progress | None = None,
) -> PathLengths:
    """Measure ``d(G(t), G(t + epsilon)) / epsilon^2`` along paths between random latents.

    Args:
        seeds: of the latents: the first path goes from the first to the second, the next from the third to the fourth;
            both ends have the class of the first. An odd one is left out.
        space: ``"w"`` goes straight between intermediate latents, ``"z"`` along a great circle between latents.
        at_ends: t = 0 instead of anywhere between.
        sampling: classes (one, or one a seed), truncation and noise. In ``"z"`` the latents on the way are truncated
            as those at the ends are.
        seed: of t.
        batch: paths at a time.

    Raises:
        GanatomyError: for ``space="w"`` of a generator without intermediate latents; for fewer than two seeds.
    """
    if space not in ("w", "z"):
        raise unknown_name("space", space, ["w", "z"])
    count = len(seeds) // 2
    if count < 1 or not epsilon > 0 or batch < 1:
        raise GanatomyError(
            f"expected two seeds at least, epsilon > 0, and a batch of at least 1, got {len(seeds)}, {epsilon}, {batch}"
        )
    places = np.random.RandomState(seed).uniform(size=count) * (0.0 if at_ends else 1.0)
    found = []
    for start in range(0, count, batch):
        stop = min(start + batch, count)
        first, second = _ends(generator, seeds[2 * start : 2 * stop], sampling or Sampling(), 2 * start)
        t = torch.from_numpy(places[start:stop])[:, None]
        images = [
            F.adaptive_avg_pool2d(generator(codes), min(SIDE, generator.resolution))
            for codes in (_between(generator, first, second, at, space) for at in (t, t + epsilon))
        ]
        found.append(distance(images[0], images[1]).double().cpu().numpy() / epsilon**2)
        if progress is not None:
            progress(stop, count)
    return PathLengths(np.concatenate(found))


def _ends(generator: Generator, seeds: Sequence[int], sampling: Sampling, offset: int) -> tuple[Codes, Codes]:
    """Return the codes of every second seed from the first on, and of those after them; ``offset``: seeds before."""
    s = sampling
    given = s.classes[offset : offset + len(seeds) : 2] if isinstance(s.classes, tuple) else s.classes
    first = generator.sample(seeds[::2], given, s.truncation, s.cutoff, s.noise)
    classes = None if first.classes is None else first.classes.tolist()
    return first, generator.sample(seeds[1::2], classes, s.truncation, s.cutoff, s.noise)


def _between(generator: Generator, first: Codes, second: Codes, t: Tensor, space: str) -> Codes:
    """Return codes at ``t`` [N, 1] between two, with the noise of the first."""
    noise: str | list[int] = "const" if first.noise is None else first.noise.tolist()
    if first.noise is not None and bool((first.noise == NO_NOISE).all()):
        noise = "none"
    if space == "w":
        if first.w is None or second.w is None:
            raise GanatomyError(f"{generator.name} ({generator.family}) has no intermediate latents; use space='z'")
        return generator.codes(first.w.lerp(second.w, t[..., None].to(first.w)), noise)
    assert first.z is not None
    assert second.z is not None
    z = great_circle(first.z, second.z, t)
    return generator.map(z, first.classes, first.truncation, first.cutoff, noise)


def great_circle(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Return latents [N, D] at ``t`` [N, 1] of the way from a to b: along the great circle, lengths in proportion."""
    one, two, t = a.double(), b.double(), t.double()
    length, other = one.norm(dim=1, keepdim=True), two.norm(dim=1, keepdim=True)
    one, two = one / length, two / other
    across = two - (one * two).sum(1, keepdim=True) * one
    angle = t * torch.arccos((one * two).sum(1, keepdim=True).clamp(-1, 1))
    direction = one * angle.cos() + across / across.norm(dim=1, keepdim=True).clamp_min(1e-12) * angle.sin()
    return (direction * length.lerp(other, t)).float()
