"""Colour names and lightness: a segmenter that needs no network, no weights and no training.

It is the control for every other segmenter (a unit that "is sky" may only be blue) and works on images of
any kind.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from skimage.color import rgb2lab
from torch import Tensor

from .base import UNLABELLED, Concept, Segmenter, resize_images
from .pixels import unit_images

LARGEST_SIDE = 256
"""Larger images are averaged down to this side: a colour needs no finer pixels, and labels stay small."""

STEPS = 64
"""Levels per channel. 64**3 colours fit in a table; the error (at most 2 of 255) is below what naming resolves."""

TERMS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "black": ((0, 0, 0), (18, 18, 18), (22, 14, 10), (10, 14, 26)),
    "white": ((255, 255, 255), (244, 244, 244), (250, 246, 236), (238, 246, 252)),
    "red": ((255, 0, 0), (205, 20, 35), (150, 5, 15), (105, 0, 12), (222, 62, 58), (190, 60, 65)),
    "green": (
        *((0, 255, 0), (0, 128, 0), (0, 80, 25), (15, 45, 20), (60, 165, 65), (125, 205, 95), (150, 225, 150)),
        *((0, 165, 110), (45, 135, 90), (150, 205, 50), (180, 245, 60), (118, 128, 30), (80, 100, 45), (52, 62, 28)),
        *((130, 165, 105), (0, 118, 100), (195, 225, 165), (100, 235, 185), (0, 55, 48)),
    ),
    "yellow": ((255, 255, 0), (245, 215, 35), (255, 232, 120), (255, 246, 175), (205, 180, 35), (238, 222, 130)),
    "blue": (
        *((0, 0, 255), (0, 0, 140), (0, 20, 75), (18, 32, 58), (30, 80, 200), (65, 105, 225), (70, 130, 185)),
        *((135, 200, 235), (180, 216, 234), (0, 185, 250), (0, 130, 175), (0, 235, 250), (110, 155, 230)),
        *((60, 90, 130), (70, 60, 225), (0, 150, 165), (150, 180, 215), (25, 25, 112), (28, 60, 85), (0, 50, 65)),
    ),
    "brown": (
        *((139, 69, 19), (100, 65, 32), (160, 85, 45), (70, 40, 20), (45, 26, 16), (120, 88, 60), (150, 112, 78)),
        *((205, 135, 70), (188, 145, 105), (208, 178, 138), (62, 48, 38), (120, 45, 30), (165, 110, 30)),
    ),
    "purple": (
        *((128, 0, 128), (160, 32, 240), (75, 0, 130), (148, 0, 211), (186, 85, 211), (147, 112, 219), (90, 50, 120)),
        *((200, 165, 222), (60, 20, 70), (225, 0, 230), (140, 60, 130), (120, 100, 150), (36, 12, 48), (235, 130, 240)),
    ),
    "pink": (
        *((255, 192, 203), (255, 105, 180), (255, 20, 147), (240, 150, 170), (219, 112, 147), (255, 220, 226)),
        *(
            (205, 60, 125),
            (248, 135, 130),
            (250, 214, 200),
            (240, 192, 172),
            (240, 125, 195),
            (212, 150, 150),
            (252, 216, 178),
        ),
    ),
    "orange": (
        (255, 165, 0),
        (255, 135, 0),
        (255, 100, 15),
        (232, 118, 30),
        (255, 182, 92),
        (255, 130, 75),
        (255, 160, 115),
    ),
    "grey": (
        *((52, 52, 52), (75, 75, 75), (100, 100, 100), (128, 128, 128), (160, 160, 160), (190, 190, 190)),
        *((215, 215, 215), (112, 126, 140), (52, 66, 70), (128, 120, 110), (180, 172, 164), (170, 182, 192)),
    ),
}
"""Prototypes in sRGB, 0..255, of the eleven basic colour terms (Berlin & Kay, Basic Color Terms, 1969).

The first of each term is its focal colour; the others make the cell of nearest neighbours follow how people use the
word (brown is dark orange, pink is light red, skin is pink or brown, never orange).
"""

BANDS = ("very dark", "dark", "medium", "light", "very light")
"""Names of the lightness bands, from L* = 0 to L* = 100."""

BAND_EDGES = (20.0, 40.0, 60.0, 80.0)
"""CIE L* at which the next band begins (inclusive)."""

BAND_MIDDLES = (10.0, 30.0, 50.0, 70.0, 90.0)

SPREAD = 10.0
"""CIELAB units by which colours of one name differ, in soft labels."""

# IEC 61966-2-1 and CIE 15, the numbers of skimage: from linear sRGB to XYZ, and the white point D65.
XYZ_OF_RGB = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
WHITE = (0.95047, 1.0, 1.08883)


class Colors(Segmenter):
    """Plane 0 names the colour of every pixel, plane 1 its lightness; no pixel is unlabelled.

    The name is that of the nearest prototype in CIELAB (D65, Euclidean distance, i.e. CIE76), the band that of L*.
    Images are clamped to [-1, 1], averaged down to :data:`LARGEST_SIDE` where larger, and rounded to :data:`STEPS`
    levels per channel; the rest is one table lookup, so a label depends on its own pixel alone, never on the batch or
    the number of threads.
    """

    concurrent = True

    def __init__(self) -> None:
        table = _table()
        concepts = [UNLABELLED]
        concepts += [Concept(term, "colour", 0) for term in TERMS]
        concepts += [Concept(band, "lightness", 1) for band in BANDS]
        digest = hashlib.sha256(repr([(c.name, LARGEST_SIDE) for c in concepts]).encode())
        digest.update(table.tobytes())  # the table itself: it is all that determines a label
        super().__init__("colors", concepts, digest.hexdigest())
        self._table = torch.from_numpy(table)

    def segment(self, images: Tensor, keys: Sequence[int | str] | None) -> Tensor:
        """Label images [N, 3, H, W]: int16 [N, 2, h, w] with max(h, w) <= 256; ``keys`` are not used."""
        levels = unit_images(_small(images), self.name).mul_(STEPS - 1).round_().to(torch.int32)
        index = (levels[:, 0] * STEPS + levels[:, 1]) * STEPS + levels[:, 2]
        if self._table.device != images.device:
            self._table = self._table.to(images.device)
        names = self._table[index.flatten()].view(*index.shape, 2)
        return names.permute(0, 3, 1, 2).contiguous()

    def probabilities(self, images: Tensor) -> Tensor:
        """Return soft labels float32 [N, 17, h, w]: the nearer a colour is to a term's or a band's, the likelier.

        Each plane's are the posterior of equal Gaussians, of standard deviation :data:`SPREAD`, round the nearest
        prototype of each term, and round the middle of each band of L*. Their maxima are the labels, but for the
        rounding of colours to the table's levels.
        """
        self._check_images(images)
        lab = lab_of(unit_images(_small(images), self.name))
        terms = []
        for prototypes in TERMS.values():
            points = torch.from_numpy(rgb2lab(np.array(prototypes) / 255.0)).to(lab)
            terms.append(torch.stack([(lab - point[:, None, None]).square().sum(1) for point in points]).amin(0))
        bands = [(lab[:, 0] - middle).square() for middle in BAND_MIDDLES]
        planes = [(-torch.stack(plane, 1) / (2 * SPREAD**2)).softmax(1) for plane in (terms, bands)]
        return torch.cat([torch.zeros_like(lab[:, :1]), *planes], 1)


def lab_of(pixels: Tensor) -> Tensor:
    """Return CIELAB (D65, 2 degrees) of sRGB pixels [N, 3, H, W] in [0, 1], as skimage does, with gradients."""
    linear = torch.where(pixels > 0.04045, ((pixels.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4, pixels / 12.92)
    xyz = torch.einsum("ij,njhw->nihw", linear.new_tensor(XYZ_OF_RGB), linear)
    scaled = xyz / linear.new_tensor(WHITE)[:, None, None]
    f = torch.where(scaled > 0.008856, scaled.clamp(min=0.008856) ** (1 / 3), 7.787 * scaled + 16 / 116)
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def _small(images: Tensor) -> Tensor:
    """Return images [N, 3, H, W] averaged down to :data:`LARGEST_SIDE` where they are larger."""
    height, width = images.shape[-2:]
    if max(height, width) <= LARGEST_SIDE:
        return images
    scale = LARGEST_SIDE / max(height, width)
    return resize_images(images, max(1, round(height * scale)), max(1, round(width * scale)))


@functools.cache
def _table() -> np.ndarray:
    """Return the labels of every colour, int16 [STEPS**3, 2], red slowest; about 0.3 s, once per process."""
    steps = np.arange(STEPS) / (STEPS - 1)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, STEPS, 3)
    # Rounded, because the matrix product inside rgb2lab may differ in the last bits from one machine to another,
    # and a colour halfway between two prototypes must not change its name for that.
    lab = rgb2lab(grid).reshape(-1, 3).round(6)
    nearest = np.full(len(lab), np.inf)
    label = np.zeros(len(lab), dtype=np.int16)
    for index, prototypes in enumerate(TERMS.values(), start=1):
        for L, a, b in rgb2lab(np.array(prototypes) / 255.0).round(6):
            distance = (lab[:, 0] - L) ** 2 + (lab[:, 1] - a) ** 2 + (lab[:, 2] - b) ** 2
            closer = distance < nearest
            nearest[closer] = distance[closer]
            label[closer] = index
    band = 1 + len(TERMS) + np.searchsorted(np.array(BAND_EDGES), lab[:, 0], side="right")
    return np.stack([label, band.astype(np.int16)], axis=1)
