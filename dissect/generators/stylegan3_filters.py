"""Filters of StyleGAN3: upsampling, leaky ReLU and downsampling as one step, a few channels at a time.

Karras et al., NeurIPS 2021, section 3.1: what a nonlinearity adds above the band is filtered away at a higher rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

DENSE = 128  # cells up to which an axis is one product of matrices
BLOCK = 64  # outputs of each product where it is longer: wide enough for BLAS, and not much wider than a filter
# Maps at the higher rate that are alive at once: of all of a 1,024 px network's layer they would take gigabytes.
# Sixteen are the fewest that a depthwise convolution is good at; of seven at a time each took half as long again.
BYTES, FEWEST = 1 << 26, 16


@dataclass(frozen=True)
class Rates:
    """How a layer goes up and down: whole factors, and how many zeros lie before and after its map at the high rate.

    Attributes:
        up, down: factors. before: zeros before the map; negative is a crop. wide: length at the high rate, after the
            upsampling filter. size: length of the result.
    """

    up: int
    down: int
    before: int
    wide: int
    size: int

    @classmethod
    def of(cls, inputs: int, size: int, up: int, down: int, up_taps: int, down_taps: int) -> Rates:
        """Return those of maps of ``inputs`` cells that become maps of ``size`` cells with the same middle."""
        total = (size - 1) * down + 1 - inputs * up + up_taps + down_taps - 2
        return cls(up, down, (total + up) // 2, (size - 1) * down + down_taps, size)


def filtered_leaky_relu(x: Tensor, up: Tensor, down: Tensor, rates: Rates, gain: float, clamp: float | None) -> Tensor:
    """Return maps [N, C, size, size] of x [N, C, h, w].

    Args:
        up: filter [taps]; down: filter [taps], for rows and columns, or [taps, taps].
        gain: of the leaky ReLU, whose slope is 0.2. clamp: bound of what comes out of it, or None.
    """
    maps = x.flatten(0, 1)
    # A leaky ReLU lets positive factors through, so the gain goes with the filter, half of it on each axis.
    taps = up * (rates.up * gain**0.5)
    # As one depthwise convolution, a separable filter took half the time that it took on each axis (CPU, 150 cells).
    kernel = (torch.outer(down, down) if down.ndim == 1 else down).flip(0, 1)
    parts = []
    for some in maps.split(max(FEWEST, BYTES // (4 * rates.wide**2))):
        high = F.leaky_relu_(_upsampled(some, taps, rates), 0.2)
        if clamp is not None and high.requires_grad:  # its derivative needs what the leaky ReLU returned
            high = high.clamp(-clamp, clamp)
        elif clamp is not None:
            high.clamp_(-clamp, clamp)
        count = len(high)
        parts.append(F.conv2d(high[None], kernel.expand(count, 1, -1, -1), stride=rates.down, groups=count)[0])
    return torch.cat(parts).unflatten(0, x.shape[:2])


def _upsampled(maps: Tensor, taps: Tensor, rates: Rates) -> Tensor:
    """Return maps [M, wide, wide] of maps [M, h, h]: ``up - 1`` zeros after each cell, zeros before, then the filter.

    Output j of an axis is the sum over cells i of ``taps[T - 1 - (i up + before - j)] x[i]``: a banded matrix.
    """
    length, up, before = maps.shape[1], rates.up, rates.before
    if length <= DENSE:
        matrix = _matrix(taps, up, before, range(length), rates.wide)
        return matrix.T @ (maps @ matrix)
    # The same few rows again and again: overlapping windows times one small matrix.
    count = -(-rates.wide // BLOCK)
    step = -(-rates.wide // count)
    step += -step % up
    first, last = -(before // up), (step - 1 - before + len(taps) - 1) // up
    window, stride = last - first + 1, step // up
    matrix = _matrix(taps, up, before, range(first, last + 1), step)
    ends = (-first, (count - 1) * stride + window + first - length)
    across = F.pad(maps, ends).unfold(2, window, stride) @ matrix  # [M, h, count, step]
    across = F.pad(across.flatten(2)[:, :, : rates.wide], (0, 0, *ends))
    both = matrix.T @ across.unfold(1, window, stride).transpose(2, 3)  # [M, count, step, wide]
    return both.flatten(1, 2)[:, : rates.wide]


def _matrix(taps: Tensor, up: int, before: int, cells: range, outputs: int) -> Tensor:
    """Return what each of some cells gives to each output, [cells, outputs]."""
    place = torch.arange(cells.start, cells.stop, device=taps.device)[:, None] * up + before
    place = place - torch.arange(outputs, device=taps.device)
    last = len(taps) - 1
    return torch.where((place >= 0) & (place <= last), taps[(last - place).clamp(0, last)], 0.0)
