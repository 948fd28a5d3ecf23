"""A layer's map cut into square tiles: the places where units are taken away or put in, and where it is looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from segmodels import GanatomyError

USUAL = 16  # tiles a side: of a map of 8 x 8, as in Bau et al. (ICLR 2019), a cell each; of one of 64 x 64, 4 x 4 cells


@dataclass(frozen=True)
class Tiles:
    """A map of height x width cells in tiles of side x side cells; those at the right and lower edge may be smaller.

    Tiles are numbered row by row. Any other map of the same picture, such as a label map, is cut at the same places.
    ``margin`` cells of the layer's map lie beyond each edge; they are in no tile.
    """

    height: int
    width: int
    side: int
    margin: int = 0

    @classmethod
    def of(cls, height: int, width: int, side: int | None = None, margin: int = 0) -> Tiles:
        """Return the tiles of a map, its margin not included; by default 16 or more a side, of at least a cell.

        Raises:
            GanatomyError: for a map of one value, which has no places, or a side out of range.
        """
        if height * width <= 1:
            raise GanatomyError("this layer acts on the whole image and has no places; choose one with a map")
        chosen = max(1, min(height, width) // USUAL) if side is None else side
        if not 1 <= chosen <= max(height, width):
            raise GanatomyError(f"expected tiles of 1 to {max(height, width)} cells a side, got {side}")
        return cls(height, width, int(chosen), margin)

    @property
    def rows(self) -> int:
        """Number of tiles from top to bottom."""
        return -(-self.height // self.side)

    @property
    def columns(self) -> int:
        """Number of tiles from left to right."""
        return -(-self.width // self.side)

    @property
    def count(self) -> int:
        """Number of tiles T."""
        return self.rows * self.columns

    def masks(self, tiles: Sequence[int]) -> Tensor:
        """Return where each of some tiles is, float32 [n, 1, h, w] of zeros and ones; h and w with the margin."""
        masks = torch.zeros(len(tiles), 1, self.height, self.width)
        for row, tile in enumerate(tiles):
            top, left = (self.side * step for step in divmod(int(tile), self.columns))
            masks[row, :, top : top + self.side, left : left + self.side] = 1
        return F.pad(masks, (self.margin,) * 4)

    def means(self, maps: Tensor) -> Tensor:
        """Return the mean of maps [..., H, W] of the same picture over each tile's area, [..., T], with gradients."""
        down = torch.from_numpy(_shares(self.height, self.side, maps.shape[-2])).to(maps)
        across = torch.from_numpy(_shares(self.width, self.side, maps.shape[-1])).to(maps)
        return (down @ maps @ across.T).flatten(-2)

    def pixels(self, size: tuple[int, int], reach: int = 0) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which rows and columns of a label map are a tile's: bool [rows, H] and [columns, W].

        A pixel belongs to the tile that its middle lies in. ``reach`` tiles on each side are counted with it.
        """
        down = _members(self.height, self.side, size[0], reach)
        return down, _members(self.width, self.side, size[1], reach)


def _edges(length: int, side: int, target: int) -> NDArray[np.float64]:
    """Return where tiles begin and end, in pixels of a map of ``target`` pixels for ``length`` cells."""
    return np.append(np.arange(0, length, side), length) * (target / length)


def _shares(length: int, side: int, target: int) -> NDArray[np.float64]:
    """Return what share of each tile every pixel is, [tiles, target]; rows sum to 1."""
    edges, pixels = _edges(length, side, target), np.arange(target)
    low = np.maximum(edges[:-1, None], pixels[None])
    high = np.minimum(edges[1:, None], pixels[None] + 1)
    return np.clip(high - low, 0, None) / np.diff(edges)[:, None]


def _members(length: int, side: int, target: int, reach: int) -> NDArray[np.bool_]:
    own = np.searchsorted(_edges(length, side, target), np.arange(target) + 0.5, side="right") - 1
    return np.abs(own[None] - np.arange(-(-length // side))[:, None]) <= reach
