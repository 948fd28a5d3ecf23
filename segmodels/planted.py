"""The companion of the planted generators: reads the drawn shapes and colours back from the pixels, exactly.

A planted pixel is ``(BASE + (colour bits * FULL + shape code) * STEP)`` per channel. Shape codes are odd, so a
shape painted at half strength is no shape; a colour at half strength lies halfway between two levels, so it is no
colour. Whatever does not decode is unlabelled in that plane.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from .base import UNLABELLED, Concept, Segmenter

SHAPES = ("circle", "square", "cross", "diamond", "frame", "stripes")
COLOURS = ("red", "green", "blue", "yellow", "magenta", "cyan")
COLOUR_BITS = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1))
CODES = (1, 3, 5, 7, 9, 11)  # of the shapes, in steps
FULL = 32  # steps by which a colour bit raises its channel
HALF = FULL // 2
STEP = 1 / 32
BASE = -0.5  # the background

# Of the soft labels. Where a concept's weight 1 / (1 + (distance / spread)^2) equals NOTHING, it is as likely as
# unlabelled: at 0.43 steps from a shape's code, since half-painted ones lie 0.5 away, and at 6.9 steps from a colour,
# of which half-painted ones lie 13 away. The weight falls off slowly, so that there are gradients everywhere.
NOTHING = 0.25
SHAPE_SPREAD = 0.25  # steps
COLOUR_SPREAD = 4.0


class Planted(Segmenter):
    """Segmenter with six shapes (plane 0) and six colours (plane 1), valid for every planted generator."""

    concurrent = True

    def __init__(self) -> None:
        shapes = [Concept(name, "shape", 0) for name in SHAPES]
        colours = [Concept(name, "colour", 1) for name in COLOURS]
        table = repr((SHAPES, COLOURS, COLOUR_BITS, CODES, FULL, STEP, BASE))
        super().__init__("planted", [UNLABELLED, *shapes, *colours], hashlib.sha256(table.encode()).hexdigest())
        shape_of = torch.zeros(HALF, dtype=torch.int16)
        for index, code in enumerate(CODES):
            shape_of[code] = 1 + index
        colour_of = torch.zeros(8, dtype=torch.int16)
        for index, (red, green, blue) in enumerate(COLOUR_BITS):
            colour_of[red + 2 * green + 4 * blue] = 1 + len(SHAPES) + index
        self._shape_of, self._colour_of = shape_of, colour_of

    def segment(self, images: Tensor, keys: Sequence[int | str] | None) -> Tensor:
        """Decode labels [N, 2, H, W] from exact pixel values."""
        steps = (images.cpu() - BASE) / STEP
        level = torch.floor(steps / HALF)
        code = steps - HALF * level
        valid = (level >= 0) & (level <= 2)
        whole = code == torch.floor(code)
        one_code = (code == code[:, :1]) & whole & valid
        index = torch.where(one_code.all(1), code[:, 0], torch.zeros(())).long()
        shapes = self._shape_of[index]
        full = ((level == 0) | (level == 2)).all(1)
        bits = (level == 2).long()
        pattern = bits[:, 0] + 2 * bits[:, 1] + 4 * bits[:, 2]
        colours = self._colour_of[torch.where(full, pattern, torch.zeros_like(pattern))]
        return torch.stack([shapes, colours], 1)

    def probabilities(self, images: Tensor) -> Tensor:
        """Return soft labels float32 [N, 13, H, W]: the nearer a pixel is to a concept's exact code, the likelier.

        The likeliest of a plane is what the planted generators draw there, half-painted concepts (none) included. Of
        images that no planted generator draws, labels accept a wider range of colours.
        """
        self._check_images(images)
        steps = (images - BASE) / STEP
        levels = torch.arange(3, device=steps.device, dtype=steps.dtype)[:, None, None, None, None] * HALF
        shapes = [_weight((steps - levels - code).square().amin(0).sum(1), SHAPE_SPREAD) for code in CODES]
        colours = []
        for bits in COLOUR_BITS:
            rest = steps - steps.new_tensor(bits)[:, None, None] * FULL  # the shape's code, if it is this colour
            code = rest.mean(1, keepdim=True).clamp(0, HALF - 1)
            colours.append(_weight((rest - code).square().sum(1), COLOUR_SPREAD))
        by_shape, by_colour = torch.stack(shapes, 1), torch.stack(colours, 1)
        total = NOTHING + by_shape.sum(1, keepdim=True)
        return torch.cat([NOTHING / total, by_shape / total, by_colour / (NOTHING + by_colour.sum(1, keepdim=True))], 1)


def _weight(squared: Tensor, spread: float) -> Tensor:
    return 1 / (1 + squared / spread**2)
