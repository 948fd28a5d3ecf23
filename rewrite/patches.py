"""A convolution as a matrix: the patches of its input are the keys, its weight flattened is W, and v = W k everywhere.

A transposed convolution writes each output pixel from some taps only, and which depends on where the pixel lies within
the stride. So it is several matrices, one for each **phase**; a plain convolution has one phase with all taps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from dissect.generators.convolutions import Convolution, Pair, Reading


@dataclass(frozen=True)
class Phase:
    """The output pixels first, first + step, … of each axis, and the taps of the kernel that write them.

    Attributes:
        taps: (row, column) in the kernel, in its order.
        starts: for each tap, where in the input the first of these pixels reads; it may lie outside, where zeros are.
        reading: how far apart pixels read. first, step: which pixels of the output they are.
    """

    taps: tuple[Pair, ...]
    starts: tuple[Pair, ...]
    reading: Pair
    first: Pair
    step: Pair


@dataclass(frozen=True)
class Patches:
    """How a convolution cuts its input into keys.

    Attributes:
        reading: of the convolution. inputs: I. kernel: (height, width).
    """

    reading: Reading
    inputs: int
    kernel: Pair

    @classmethod
    def of(cls, convolution: Convolution) -> Patches:
        """Return those of a convolution."""
        return cls(convolution.reading, convolution.inputs, convolution.kernel)

    def of_channels(self, inputs: int) -> Patches:
        """Return the same cuts of an input with another number of channels."""
        return Patches(self.reading, inputs, self.kernel)

    @cached_property
    def phases(self) -> tuple[Phase, ...]:
        """The phases; those that no tap writes have none."""
        rows, columns = (self._axis(axis) for axis in (0, 1))
        return tuple(
            Phase(
                tuple((r, c) for r, _ in down for c, _ in across),
                tuple((r, c) for _, r in down for _, c in across),
                (row_reading, column_reading),
                (row_first, column_first),
                (row_step, column_step),
            )
            for down, row_reading, row_first, row_step in rows
            for across, column_reading, column_first, column_step in columns
        )

    def _axis(self, axis: int) -> list[tuple[list[Pair], int, int, int]]:
        """Return the phases of one axis: ((tap, start), how far apart pixels read, first pixel, step)."""
        r = self.reading
        size, stride, padding, dilation = self.kernel[axis], r.stride[axis], r.padding[axis], r.dilation[axis]
        if not r.upsampling:
            return [([(tap, tap * dilation - padding) for tap in range(size)], stride, 0, 1)]
        # Output pixel y is the sum over taps t of W[t] x[(y + padding - t * dilation) / stride], where that is whole.
        found = []
        for first in range(stride):
            read = [(tap, first + padding - tap * dilation) for tap in range(size)]
            taps = [(tap, position // stride) for tap, position in read if position % stride == 0]
            if taps:
                found.append((taps, 1, first, stride))
        return found

    def size(self, height: int, width: int) -> Pair:
        """Return the size of the values' map of an input of this size."""
        r, found = self.reading, []
        for axis, side in enumerate((height, width)):
            reach = r.dilation[axis] * (self.kernel[axis] - 1)
            if r.upsampling:
                found.append((side - 1) * r.stride[axis] - 2 * r.padding[axis] + reach + 1 + r.output_padding[axis])
            else:
                found.append((side + 2 * r.padding[axis] - reach - 1) // r.stride[axis] + 1)
        return found[0], found[1]

    def keys(self, x: Tensor, phase: Phase) -> Tensor:
        """Return the patches [N, I * taps, H', W'] that the pixels of a phase are made of, of an input [N, I, h, w]."""
        height, width = self.pixels(self.size(x.shape[2], x.shape[3]), phase)
        (up, down), (left, right) = (
            _margins([start[axis] for start in phase.starts], phase.reading[axis], count, x.shape[2 + axis])
            for axis, count in ((0, height), (1, width))
        )
        wide = F.pad(x, (left, right, up, down))
        cut = [
            wide[
                :, :,
                top + up : top + up + phase.reading[0] * (height - 1) + 1 : phase.reading[0],
                side + left : side + left + phase.reading[1] * (width - 1) + 1 : phase.reading[1],
            ]
            for top, side in phase.starts
        ]  # fmt: skip
        return torch.stack(cut, 2).flatten(1, 2)

    @staticmethod
    def pixels(size: Pair, phase: Phase) -> Pair:
        """Return how many rows and columns of a map of values a phase has."""
        height, width = (
            max(0, -(-(side - first) // step)) for side, first, step in zip(size, phase.first, phase.step, strict=True)
        )
        return height, width

    @staticmethod
    def at(maps: Tensor, phase: Phase) -> Tensor:
        """Return the pixels of a phase, [..., H', W'], of maps [..., H, W] of values."""
        return maps[..., phase.first[0] :: phase.step[0], phase.first[1] :: phase.step[1]]

    def matrix(self, weight: Tensor, phase: Phase) -> Tensor:
        """Return W of a phase, [O, I * taps], of the convolution's tensor."""
        ours = weight.transpose(0, 1) if self.reading.swapped else weight
        return ours[:, :, [r for r, _ in phase.taps], [c for _, c in phase.taps]].flatten(1)

    def placed(self, rows: Tensor, phase: Phase) -> Tensor:
        """Return rows [R, I * taps] of a phase's matrix at their places in the kernel, [R, I, kh, kw]."""
        whole = rows.new_zeros(len(rows), self.inputs, *self.kernel)
        whole[:, :, [r for r, _ in phase.taps], [c for _, c in phase.taps]] = rows.reshape(
            len(rows), self.inputs, len(phase.taps)
        )
        return whole

    def values(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return v = W k at every pixel, [N, O, H, W], without a bias."""
        r = self.reading
        if r.upsampling:
            ours = weight if r.swapped else weight.transpose(0, 1)
            return F.conv_transpose2d(x, ours, None, r.stride, r.padding, r.output_padding, 1, r.dilation)
        return F.conv2d(x, weight, None, r.stride, r.padding, r.dilation)


def _margins(starts: list[int], reading: int, count: int, side: int) -> Pair:
    """Return how many zeros are needed before and after an axis."""
    last = max(starts) + reading * (count - 1)
    return max(0, -min(starts)), max(0, last - side + 1)
