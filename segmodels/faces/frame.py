"""A square piece of a picture: how it is cut out to be looked at, and how what was seen goes back into the map."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..base import resize_images

RAMP = 0.08  # of a look's side, from each edge inwards, over which its word grows from none to all


@dataclass(frozen=True)
class Frame:
    """A square of a picture; it may reach over the picture's edge.

    Attributes:
        x, y: its middle, in pixels of the picture.
        side: in pixels of the picture.
    """

    x: float
    y: float
    side: float

    def cut(self, picture: Tensor, size: int) -> Cut:
        """Cut the square out of a picture [1, C, H, W], at ``size`` pixels a side.

        Beyond the picture, its border is drawn out.
        """
        height, width = picture.shape[-2:]
        across, down = _span(self.x, self.side, width, size), _span(self.y, self.side, height, size)
        piece = picture[..., down.first : down.stop, across.first : across.stop]
        piece = resize_images(piece, down.cells, across.cells)
        before_after = (
            across.offset,
            size - across.offset - across.cells,
            down.offset,
            size - down.offset - down.cells,
        )
        return Cut(F.pad(piece, before_after, mode="replicate"), self.side / size, across, down)

    def scaled(self, factor: float) -> Frame:
        """Return the square with the same middle whose side is so many times as long."""
        return Frame(self.x, self.y, self.side * factor)

    def holds(self, height: int, width: int) -> bool:
        """Say whether the square reaches to all edges of a picture."""
        reach = self.side / 2
        return reach >= max(self.x, width - self.x, self.y, height - self.y)


@dataclass(frozen=True)
class Span:
    """A stretch of a picture's row or column, and the stretch of a look that shows it.

    Attributes:
        first, stop: in pixels of the picture, which has ``length`` of them.
        offset, cells: of the ``size`` pixels of the look, which begin to show it and how many do.
    """

    first: int
    stop: int
    length: int
    offset: int
    cells: int
    size: int

    def position(self, index: float) -> float:
        """Return where in the picture a place of the look is; both count from the left edge of the first pixel."""
        return self.first + (index - self.offset) * (self.stop - self.first) / self.cells

    def shares(self, count: int) -> Tensor:
        """Return what part of each of ``count`` cells of the picture each pixel of the look covers, [count, size].

        A row sums to one where the look covers the whole cell.
        """
        cell, step = self.length / count, (self.stop - self.first) / self.cells
        low = torch.arange(count, dtype=torch.float64)[:, None] * cell
        begin = self.first + torch.arange(self.cells, dtype=torch.float64)[None] * step
        overlap = torch.minimum(low + cell, begin + step) - torch.maximum(low, begin)
        shares = torch.zeros(count, self.size)
        shares[:, self.offset : self.offset + self.cells] = (overlap.clamp(min=0) / cell).float()
        return shares

    def ramp(self) -> Tensor:
        """Return the weight of a look's pixels, [size]: less towards the edges, except where the picture ends."""
        places = (torch.arange(self.size) + 0.5) / (RAMP * self.size)
        weight = torch.ones(self.size)
        if self.first > 0:
            weight = torch.minimum(weight, places)
        if self.stop < self.length:
            weight = torch.minimum(weight, places.flip(0))
        return weight


@dataclass(frozen=True, eq=False)
class Cut:
    """A piece of a picture.

    Attributes:
        pixels: [1, C, size, size].
        step: pixels of the picture to one of the piece.
        across, down: where its columns and rows come from.
    """

    pixels: Tensor
    step: float
    across: Span
    down: Span

    def frame(self, x: float, y: float, side: float) -> Frame:
        """Return a square of the piece as one of the picture."""
        return Frame(self.across.position(x), self.down.position(y), side * self.step)

    def paint(self, seen: Tensor, map_: Tensor) -> Tensor:
        """Return a map of the whole picture [C, h, w] with what was ``seen`` in the piece [C, size, size] put into it.

        Each cell gets the mean over its own area, so that probabilities stay probabilities.
        """
        columns = (self.across.shares(map_.shape[-1]) * self.across.ramp()).to(map_)
        rows = (self.down.shares(map_.shape[-2]) * self.down.ramp()).to(map_)
        weight = (rows.sum(1)[:, None] * columns.sum(1)[None]).clamp(max=1)
        return rows @ seen.to(map_) @ columns.T + (1 - weight) * map_


def _span(middle: float, side: float, length: int, size: int) -> Span:
    begin, end = middle - side / 2, middle + side / 2
    first = min(max(0, round(begin)), length - 1)
    stop = max(min(length, round(end)), first + 1)
    offset = min(max(0, round((first - begin) / side * size)), size - 1)
    cells = min(max(1, round((stop - first) / side * size)), size - offset)
    return Span(first, stop, length, offset, cells, size)
