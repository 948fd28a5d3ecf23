"""From a request to keys and values at one layer: which keys are meant, and what their values are to become."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from dissect import GanatomyError, Generator
from dissect.edit_values import mask_at
from dissect.edits import Edit
from dissect.generators.convolutions import Convolution
from dissect.generators.segments import Segment, segment
from segmodels import Segmenter
from segmodels.errors import unknown_name

from .memory import Memory
from .moments import Float64, keys_of
from .patches import Patches, Phase
from .request import Region, Request

AT_ONCE = 4  # images in one pass


@dataclass(frozen=True)
class Box:
    """Rows top..bottom-1 and columns left..right-1 of a map."""

    top: int
    left: int
    bottom: int
    right: int

    def of(self, maps: Tensor) -> Tensor:
        """Return the part of maps [..., H, W]."""
        return maps[..., self.top : self.bottom, self.left : self.right]

    @property
    def centre(self) -> tuple[int, int]:
        """The middle, rounded down."""
        return (self.top + self.bottom) // 2, (self.left + self.right) // 2


def box_of(mask: Tensor) -> Box:
    """Return the smallest box around where a mask [H, W] is above 0."""
    rows, columns = torch.nonzero(mask.amax(1)).flatten(), torch.nonzero(mask.amax(0)).flatten()
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


@dataclass(frozen=True, eq=False)
class Target:
    """What a map of one image is to become.

    Attributes:
        maps: [U, H, W], the map with what was pasted.
        weight: [H, W], how much each pixel counts; 0 is not asked for.
    """

    maps: Tensor
    weight: Tensor


def pasted(own: Tensor, theirs: Tensor, copy: Tensor, paste: Tensor) -> Target:
    """Return maps with a crop of others at the centre of a mask (as Bau et al., ECCV 2020, paste an object).

    Args:
        own, theirs: [U, H, W], what is pasted into, and what is copied from. copy, paste: masks [H, W].
    """
    crop, (row, column) = box_of(copy), box_of(paste).centre
    area, height, width = crop.of(copy), crop.bottom - crop.top, crop.right - crop.left
    top = min(max(row - height // 2, 0), own.shape[1] - height)
    left = min(max(column - width // 2, 0), own.shape[2] - width)
    place = Box(top, left, top + height, left + width)
    maps, weight = own.clone(), torch.zeros_like(copy)
    place.of(maps).copy_((1 - area) * place.of(own) + area * crop.of(theirs))
    place.of(weight).fill_(1.0)
    return Target(maps, weight)


def filled(own: Tensor, value: Tensor, paste: Tensor) -> Target:
    """Return maps that have one value, [U] or [U, H, W], where a mask is."""
    value = value if value.ndim == 3 else value[:, None, None].expand_as(own)
    return Target(torch.where(paste > 0, value, own), paste)


@dataclass(frozen=True, eq=False)
class Goal:
    """What one request means at one layer.

    Attributes:
        request, convolution: which.
        memory: of the convolution's keys.
        part: the pass of all images that are pasted into, in order, up to the convolution.
        masks: of the request's regions, [R, R] each, in the order of ``request.regions``.
        copied: the pass of the image that is copied from, or None.
        context: [n, keys] for each phase; counting: [keys] each, how much each key counts.
    """

    request: Request
    convolution: Convolution
    memory: Memory
    part: Segment
    masks: tuple[Tensor, ...]
    copied: Segment | None
    context: tuple[Float64, ...]
    counting: tuple[Float64, ...]

    @property
    def patches(self) -> Patches:
        """How the convolution cuts its input."""
        return Patches.of(self.convolution)

    @cached_property
    def keys(self) -> Tensor:
        """What enters the convolution in the images that are pasted into, [N, I, h, w]."""
        return self.part.keys()

    @cached_property
    def values(self) -> Tensor:
        """The convolution's own values there, [N, O, H, W], before demodulation, noise and bias."""
        return self._values(self.keys)

    def targets(self) -> list[Target]:
        """Return what the values of each image that is pasted into are to become."""
        theirs = None if self.copied is None else self._values(self.copied.keys())[0]
        mean = self._mean_values() if self.request.goal == "erase" else None
        return self._targets(self.values, theirs, mean, self.convolution.reading.margin_out)

    def seen_targets(self, features: Tensor) -> list[Target]:
        """Return what the observed layer's features [N, U, h, w] of these images are to become.

        ``erase`` has no such target: what comes after the convolution has no mean image.
        """
        theirs = None if self.copied is None else self.copied.features()[0]
        margin = self.part.generator.layer(self.convolution.observed).margin
        return [] if theirs is None else self._targets(features, theirs, None, margin)

    def _values(self, keys: Tensor) -> Tensor:
        return self.patches.values(keys.double(), self.convolution.tensor.detach().double())

    def _targets(self, own: Tensor, theirs: Tensor | None, mean: Tensor | None, margin: int) -> list[Target]:
        size = own.shape[2], own.shape[3]
        offset = 0 if self.request.copy is None else 1
        pastes = [_at(mask, size, own, margin) for mask in self.masks[offset : offset + len(self.request.paste)]]
        if theirs is None:
            assert mean is not None
            return [filled(one, mean.to(one), mask) for one, mask in zip(own, pastes, strict=True)]
        copy = _at(self.masks[0], size, own, margin)
        if self.request.goal == "crop":
            return [pasted(one, theirs, copy, mask) for one, mask in zip(own, pastes, strict=True)]
        value = self._phased_mean(theirs, copy) if size == tuple(self.values.shape[2:]) else _mean(theirs, copy)
        return [filled(one, value, mask) for one, mask in zip(own, pastes, strict=True)]

    def _phased_mean(self, maps: Tensor, mask: Tensor) -> Tensor:
        """Return the mean where a mask is, a map with the mean of each phase's own pixels: phases differ by design."""
        found = _mean(maps, mask)[:, None, None].expand_as(maps).clone()
        for phase in self.patches.phases:
            area = Patches.at(mask, phase)
            if area.any():
                Patches.at(found, phase).copy_(_mean(Patches.at(maps, phase), area)[:, None, None])
        return found

    def _mean_values(self) -> Tensor:
        """Return the values of the mean key, a map [O, H, W]."""
        patches, weight = self.patches, self.convolution.tensor.detach().double()
        found = torch.zeros(self.values.shape[1:], dtype=torch.float64, device=weight.device)
        for index, phase in enumerate(patches.phases):
            mean = self.memory.means[0 if self.memory.kind == "channel" else index]
            key = np.repeat(mean, len(phase.taps)) if self.memory.kind == "channel" else mean
            value = patches.matrix(weight, phase) @ torch.from_numpy(key).to(weight.device)
            Patches.at(found, phase).copy_(value[:, None, None])
        return found

    def errors(self, phase: Phase, targets: Sequence[Target]) -> tuple[Tensor, Tensor]:
        """Return what is missing to the targets in a phase, [O, m], and how much each pixel counts, [m]."""
        missing = torch.stack([Patches.at(t.maps, phase) for t in targets]) - Patches.at(self.values, phase)
        weight = torch.stack([Patches.at(t.weight, phase) for t in targets])
        chosen = weight > 0
        return missing.transpose(0, 1)[:, chosen], weight[chosen]


def goal_of(
    generator: Generator, request: Request, convolution: Convolution, memory: Memory,
    segmenter: Segmenter | None = None, edits: Sequence[Edit] | Edit = (),
) -> Goal:  # fmt: skip
    """Return what a request means at a layer.

    Args:
        memory: of the convolution. segmenter: for regions that are given by a concept.
        edits: that are active already.

    Raises:
        GanatomyError: if the request is of another resolution, a region is nowhere, or a concept needs a segmenter.
    """
    if request.resolution != generator.resolution:
        raise GanatomyError(
            f"the request is for images of {request.resolution} x {request.resolution} pixels, {generator.name} draws "
            f"{generator.resolution} x {generator.resolution}"
        )
    if memory.moments.facts["weight"] != convolution.weight:
        raise GanatomyError(f"the memory is of {memory.moments.facts['weight']}, not of {convolution.weight}")
    active = generator.check_edits(edits)
    masks = masks_of(generator, request, segmenter, active)
    offset = 0 if request.copy is None else 1
    part = _part(generator, request, [region.seed for region in request.paste], convolution, active)
    copied = None if request.copy is None else _part(generator, request, [request.copy.seed], convolution, active)
    chosen = request.context or request.paste
    given = masks[offset + len(request.paste) :] or masks[offset:]
    context, counting = _context(generator, request, convolution, memory, chosen, given, active)
    return Goal(request, convolution, memory, part, tuple(masks), copied, context, counting)


def _part(
    generator: Generator, request: Request, seeds: list[int], convolution: Convolution, edits: Sequence[Edit]
) -> Segment:
    s = request.sampling
    return segment(generator, generator.sample(seeds, s.classes, s.truncation, s.cutoff, s.noise), convolution, edits)


def masks_of(
    generator: Generator, request: Request, segmenter: Segmenter | None, edits: Sequence[Edit] = ()
) -> list[Tensor]:
    """Return the mask of each region, [R, R], on the CPU; concepts are looked up in the images as they are."""
    found = []
    images: dict[int, Tensor] = {}
    s = request.sampling
    for region in request.regions:
        side = request.resolution
        mask = torch.ones(side, side) if region.mask is None else torch.tensor(region.mask)
        if region.concept is not None:
            if segmenter is None:
                raise GanatomyError(f"the request names the concept {region.concept!r}; say which segmenter finds it")
            if region.seed not in images:
                codes = generator.sample([region.seed], s.classes, s.truncation, s.cutoff, s.noise)
                images[region.seed] = segmenter(generator(codes, edits), [region.seed])[0]
            mask = mask * _where(segmenter, images[region.seed], region, side)
        found.append(mask)
    first = len(request.regions) - len(request.context)  # by place: the same region may also be pasted into
    for region, mask in zip(request.regions[:first], found[:first], strict=True):
        if not mask.any():
            raise GanatomyError(f"seed {region.seed} shows no {region.concept!r} where the request looks for it")
    chosen = found[first:]
    if chosen and not any(mask.any() for mask in chosen):
        named = sorted({str(region.concept) for region in request.context if region.concept is not None})
        raise GanatomyError(f"the context matches nothing: none of its images shows {', '.join(named)} there")
    return found


def _where(segmenter: Segmenter, labels: Tensor, region: Region, side: int) -> Tensor:
    names = [concept.name for concept in segmenter.concepts]
    if region.concept not in names:
        raise unknown_name("concept", str(region.concept), names[1:])
    index = names.index(region.concept)
    found = (labels[segmenter.concepts[index].plane] == index).float().cpu()
    return torch.nn.functional.interpolate(found[None, None], (side, side), mode="nearest")[0, 0]


def _context(
    generator: Generator, request: Request, convolution: Convolution, memory: Memory, regions: Sequence[Region],
    masks: Sequence[Tensor], edits: Sequence[Edit],
) -> tuple[tuple[Float64, ...], tuple[Float64, ...]]:  # fmt: skip
    """Return the keys where the context is, [n, keys], and how much each counts, [keys], for each phase."""
    patches = Patches.of(convolution)
    keys: list[list[Float64]] = [[] for _ in memory.moments.count]
    counting: list[list[Float64]] = [[] for _ in memory.moments.count]
    shown = [(region, mask) for region, mask in zip(regions, masks, strict=True) if mask.any()]
    for some in _batches(shown):
        x = _part(generator, request, [region.seed for region, _ in some], convolution, edits).keys()
        for image, (_, mask) in zip(x, some, strict=True):
            for index, (found, area) in enumerate(_keyed(patches, memory.kind, image, mask)):
                keys[index].append(found[:, area > 0].double().cpu().numpy())
                counting[index].append(area[area > 0].double().cpu().numpy())
    return tuple(np.concatenate(k, 1) for k in keys), tuple(np.concatenate(c) for c in counting)


def _keyed(patches: Patches, kind: str, image: Tensor, mask: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the keys of an image [I, h, w] for each phase, [n, keys], and how much of each the mask covers, [keys]."""
    height, width = int(image.shape[1]), int(image.shape[2])
    size = (height, width) if kind == "channel" else patches.size(height, width)
    margin = patches.reading.margin if kind == "channel" else patches.reading.margin_out
    area = _at(mask, size, image, margin)
    for index, found in enumerate(keys_of(patches, kind, image[None])):
        yield found, (area if kind == "channel" else Patches.at(area, patches.phases[index])).flatten()


def _batches(items: Sequence[tuple[Region, Tensor]]) -> Iterator[Sequence[tuple[Region, Tensor]]]:
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]


def _at(mask: Tensor, size: tuple[int, int], like: Tensor, margin: int) -> Tensor:
    """Return a picture's mask at a map's size; beyond the picture there is nothing to copy or to change."""
    return mask_at(mask.to(like), *size, margin, "constant")


def _mean(maps: Tensor, mask: Tensor) -> Tensor:
    """Return the mean [U] of maps [U, H, W] where a mask is."""
    return (maps * mask).sum((1, 2)) / mask.sum()
