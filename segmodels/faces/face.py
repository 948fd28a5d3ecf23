"""Finding faces in what was seen: a nose, with eyes above it and a mouth below.

Everything is measured in sides of a **frame**: the square that a picture of this face alone would be, cropped as those
of ``mobilestylegan-ffhq`` are, on which the network was trained and at which it sees best.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from ..base import Concept

# In 400 pictures of ``mobilestylegan-ffhq``, the medians; areas are parts of the frame's.
EYES, NOSE, MOUTH = 0.0055, 0.019, 0.012
EYES_TO_MOUTH = 0.27  # between the middles of both
UP = 0.107  # how far the frame's middle is above the middle between eyes and mouth

# Where a part may lie from the middle of the nose: left, right, top, bottom.
EYES_NEAR = (-0.4, 0.4, -0.38, 0.08)
MOUTH_NEAR = (-0.32, 0.32, -0.02, 0.42)
LEAST_NOSE, MOST_NOSES = 4, 12  # pixels; how many are tried, the largest first
LEAST_APART = 3.0  # pixels between eyes and mouth: of fewer, nothing can be said
CORE = 0.2  # radius within which everything is face

# When one face fills a picture. Most pictures of face generators pass (99.5% of 400 and 98.5% of 2,000 of the two that
# were trained on), none of 40 with a face of a fifth of the side in other surroundings.
FILLING = 0.74  # sides of the picture to one of the frame, at least; eyes and mouth are as far apart as that
NOSE_LARGE = (0.3, 2.3)  # area over what the distance of eyes and mouth lets one expect
NOSE_WIDE = 0.4  # at most, of the distance: standard deviation of the nose's pixels
ASKEW = 0.5  # at most, of the distance downwards: from eyes to mouth sideways
COARSE = 2  # every second row and column will do for that

Points = NDArray[np.float64]
Box = tuple[slice, slice]


@dataclass(frozen=True)
class Roles:
    """Which concepts a segmenter has where; ``face`` are all those of a face."""

    background: int
    hair: int
    body: int
    eyes: int
    nose: int
    mouth: tuple[int, int]
    face: tuple[int, ...]

    @classmethod
    def of(cls, concepts: Sequence[Concept]) -> Roles:
        """Return the roles that concepts have by their names."""
        at = {concept.name: index for index, concept in enumerate(concepts)}
        face = tuple(at[name] for name in ("skin", "brows", "eyes", "nose", "lips", "mouth"))
        mouth = (at["lips"], at["mouth"])
        return cls(at["background"], at["hair"], at["body"], at["eyes"], at["nose"], mouth, face)


@dataclass(frozen=True)
class Face:
    """A face that was found in a map.

    Attributes:
        x, y: the middle of its frame, in pixels of the map.
        side: of its frame, in pixels of the map.
        likeness: in [0, 1], how much of what makes a face is there.
    """

    x: float
    y: float
    side: float
    likeness: float


def best_face(labels: NDArray[np.integer], roles: Roles) -> Face | None:
    """Return the face of greatest likeness in labels [h, w], or None."""
    return max(_faces(labels, roles), key=lambda face: face.likeness, default=None)


def fills(labels: Tensor, roles: Roles) -> Tensor:
    """Say, quickly, which label maps [N, h, w] show one face that fills the picture: bool [N].

    True only where eyes, nose and mouth are one face's; False says nothing.
    """
    coarse = labels[:, ::COARSE, ::COARSE]
    masks = [coarse == roles.eyes, (coarse == roles.mouth[0]) | (coarse == roles.mouth[1]), coarse == roles.nose]
    area, x, y, spread = _moments(torch.stack(masks))
    down = y[1] - y[0]  # NaN where either is missing, and then nothing below is true
    expected = NOSE * (down / EYES_TO_MOUTH) ** 2
    return (
        (down >= FILLING * EYES_TO_MOUTH)
        & ((x[1] - x[0]).abs() <= ASKEW * down)
        & (area[2] >= NOSE_LARGE[0] * expected)
        & (area[2] <= NOSE_LARGE[1] * expected)
        & (spread[2] <= NOSE_WIDE * down)
    )


def _moments(masks: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return area, middle (x, y) and standard deviation of masks [..., h, w], in parts of the picture, [...] each."""
    height, width = masks.shape[-2:]
    y = ((torch.arange(height, device=masks.device) + 0.5) / height)[:, None].expand(height, width)
    x = ((torch.arange(width, device=masks.device) + 0.5) / width).expand(height, width)
    sums = masks.flatten(-2).float() @ torch.stack([torch.ones_like(x), x, y, x**2 + y**2], -1).flatten(0, 1)
    count = sums[..., 0]
    x, y, square = (sums[..., i] / count for i in (1, 2, 3))
    return count / (height * width), x, y, (square - x**2 - y**2).clamp(min=0).sqrt()


def _faces(labels: NDArray[np.integer], roles: Roles) -> Iterator[Face]:
    pieces, count = ndimage.label(labels == roles.nose)
    areas = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    boxes = ndimage.find_objects(pieces)
    for index in np.argsort(-areas, kind="stable")[:MOST_NOSES]:
        if areas[index] < LEAST_NOSE:
            return
        if face := _face_round(_points(pieces, (index + 1,), boxes[index]), labels, roles):
            yield face


def _face_round(nose: Points, labels: NDArray[np.integer], roles: Roles) -> Face | None:
    """Return the face that a nose is in the middle of, or None if it has no eyes or no mouth."""
    middle, size = nose.mean(0), float(np.sqrt(len(nose) / NOSE))
    eyes = _points(labels, (roles.eyes,), _box(middle, size, EYES_NEAR))
    mouth = _points(labels, roles.mouth, _box(middle, size, MOUTH_NEAR))
    if not len(eyes) or not len(mouth):
        return None
    between = mouth.mean(0) - eyes.mean(0)
    apart = float(np.hypot(*between))
    if apart < LEAST_APART:
        return None
    side = apart / EYES_TO_MOUTH
    centre = (eyes.mean(0) + mouth.mean(0)) / 2
    face = _points(labels, roles.face, _box(centre, side, (-CORE, CORE, -CORE, CORE)))
    core = (np.hypot(*(face - centre).T) < CORE * side).sum() / (np.pi * (CORE * side) ** 2)
    there = [len(points) / (area * side**2) for points, area in ((eyes, EYES), (nose, NOSE), (mouth, MOUTH))]
    likeness = float(np.prod(np.minimum(there, 1)) ** (1 / 3) * min(core, 1))
    x, y = centre - UP * side * between / apart
    return Face(float(x), float(y), side, likeness)


def _box(middle: NDArray[np.float64], side: float, near: tuple[float, float, float, float]) -> Box:
    left, right, top, bottom = (value * side for value in near)
    ends = (middle[1] + top, middle[1] + bottom, middle[0] + left, middle[0] + right)
    first, stop, begin, end = (max(0, round(float(value))) for value in ends)
    return slice(first, stop), slice(begin, end)


def _points(labels: NDArray[np.integer], wanted: Sequence[int], box: Box) -> Points:
    """Return the middles of the pixels in a box that have one of certain labels, x and y, [N, 2]."""
    rows, columns = np.nonzero(np.isin(labels[box], wanted))
    return np.stack([columns + box[1].start + 0.5, rows + box[0].start + 0.5], 1)
