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
