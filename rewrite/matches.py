"""Which places of other images a request's context means: how strongly each pixel's key lies along its directions.

The rule that a solved edit changes holds wherever ``d . k`` is large, d being the directions of the context. Seeing
them on images that the request does not name shows what else will change, before anything is solved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dissect import Codes, GanatomyError, Generator
from dissect.edits import Edit
from dissect.generators.codes import check_seeds
from dissect.generators.convolutions import convolution_of
from dissect.generators.segments import keys_of as entering
from dissect.samples import Sampling
from segmodels import Segmenter

from .basis import spans
from .goal import goal_of
from .memory import Memory
from .moments import BATCH, Float64, keys_of
from .patches import Patches
from .request import Request
from .solve import DIRECTIONS

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Matches:
    """How strongly a context is meant in N images.

    Attributes:
        layer: whose convolution reads the keys. kind: of keys.
        seeds: of the images, N.
        maps: float32 [N, h, w], |d . k| of each pixel (of several directions: the root of the sum of squares), in units
            of its root mean square over typical images: 1 is usual. Pixels are those that the convolution makes
            (``patch``) or reads (``channel``).
        context: the mean of the same over the context's own keys; as strong as that is what the request means.
    """

    layer: str
    kind: str
    seeds: tuple[int, ...]
    maps: NDArray[np.float32]
    context: float

    @property
    def shares(self) -> NDArray[np.float32]:
        """The maps in units of the context: 1 is as strongly as there."""
        return self.maps / np.float32(self.context or 1.0)


def matches(
    generator: Generator,
    request: Request,
    layer: str,
    seeds: Sequence[int],
    memory: Memory,
    *,
    rank: int = 1,
    direction: str | None = None,
    segmenter: Segmenter | None = None,
    edits: Sequence[Edit] | Edit = (),
    progress: Progress | None = None,
) -> Matches:
    """Return how strongly each pixel of some images is meant by a request's context.

    Args:
        generator, request, layer, rank, direction, segmenter, edits: as for :func:`rewrite.solve`.
        seeds: of the images to look at.
        memory: of the keys of the layer's convolution.
        progress: called with (images done, all).

    Raises:
        GanatomyError: as :func:`rewrite.solve`; for what are no seeds.
    """
    chosen = check_seeds(seeds)
    direction = direction or ("mean" if rank == 1 else "singular")
    if direction not in DIRECTIONS or rank < 1:
        raise GanatomyError(f"expected a rank of 1 or more and a direction of {', '.join(DIRECTIONS)}")
    active = generator.check_edits(edits)
    convolution = convolution_of(generator, layer)
    goal = goal_of(generator, request, convolution, memory, segmenter, active)
    rows = spans([goal], int(rank), direction)
    usual = [_typical(memory, index, one) for index, one in enumerate(rows)]
    patches, maps = goal.patches, []
    for start in range(0, len(chosen), BATCH):
        some = chosen[start : start + BATCH]
        (inputs,) = entering(generator, _codes(generator, request.sampling, some), [convolution], active)
        maps += [_map(patches, memory.kind, image[None], rows, usual) for image in inputs]
        if progress is not None:
            progress(min(start + BATCH, len(chosen)), len(chosen))
    meant = [_strength(row, keys, typical) for row, keys, typical in zip(rows, goal.context, usual, strict=True)]
    total = sum(float(counting.sum()) for counting in goal.counting)
    context = sum(float(m @ counting) for m, counting in zip(meant, goal.counting, strict=True)) / total
    return Matches(layer, memory.kind, chosen, np.stack(maps), context)


def _codes(generator: Generator, s: Sampling, seeds: Sequence[int]) -> Codes:
    return generator.sample(seeds, s.classes, s.truncation, s.cutoff, s.noise)


def _typical(memory: Memory, phase: int, rows: Float64) -> float:
    """Return the root mean square of |d . k| over typical keys of a phase."""
    return float(np.sqrt(np.einsum("rn,nm,rm->", rows, memory.second(phase), rows)))


def _strength(rows: Float64, keys: Float64, typical: float) -> Float64:
    """Return |d . k| of keys [n, m] in units of what is typical, [m]."""
    return np.linalg.norm(rows @ keys, axis=0) / (typical or 1.0)


def _map(
    patches: Patches, kind: str, image: Tensor, rows: Sequence[Float64], usual: Sequence[float]
) -> NDArray[np.float32]:
    """Return the map of one image's input [1, I, h, w]."""
    height, width = int(image.shape[2]), int(image.shape[3])
    found = [
        torch.from_numpy(_strength(row, keys.double().cpu().numpy(), typical))
        for row, keys, typical in zip(rows, keys_of(patches, kind, image), usual, strict=True)
    ]
    if kind == "channel":
        return found[0].reshape(height, width).float().numpy()
    size = patches.size(height, width)
    whole = torch.zeros(size, dtype=torch.float64)
    for phase, values in zip(patches.phases, found, strict=True):
        Patches.at(whole, phase).copy_(values.reshape(patches.pixels(size, phase)))
    return whole.float().numpy()
