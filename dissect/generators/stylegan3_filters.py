"""Filters of StyleGAN3: upsampling, leaky ReLU and downsampling as one step, a few channels at a time.

Karras et al., NeurIPS 2021, section 3.1: what a nonlinearity adds above the band is filtered away at a higher rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 64  # outputs of one product of matrices: wide enough for BLAS, and not much wider than a filter
BYTES = 1 << 25  # of maps at the higher rate that are alive at once; a 1,024 px network would need gigabytes for all


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
    step = max(1, BYTES // (4 * rates.wide**2))
    # A leaky ReLU lets positive factors through, so the gain goes with the filter, half of it on each axis.
    filter_up, share = up * rates.up, gain**0.5
    parts = []
    for some in maps.split(step):
        high = _along_both(some, filter_up * share, rates.up, 1, rates.before, rates.wide)
        high = F.leaky_relu(high, 0.2)
        if clamp is not None:
            high = high.clamp(-clamp, clamp)
        if down.ndim == 1:
            parts.append(_along_both(high, down, 1, rates.down, 0, rates.size))
        else:
            count, kernel = len(high), down.flip(0, 1)
            cut = F.conv2d(high[None], kernel.expand(count, 1, -1, -1), stride=rates.down, groups=count)
            parts.append(cut[0, :, : rates.size, : rates.size])
    return torch.cat(parts).unflatten(0, x.shape[:2])


def _along_both(maps: Tensor, taps: Tensor, up: int, down: int, before: int, size: int) -> Tensor:
    """Filter maps [M, h, w] along rows and columns to [M, size, size]."""
    return _along(_along(maps, taps, up, down, before, size), taps, up, down, before, size)


def _along(maps: Tensor, taps: Tensor, up: int, down: int, before: int, size: int) -> Tensor:
    """Filter maps [M, h, w] along their rows to [M, w, size], axes exchanged: ``up - 1`` zeros after each cell, taps.

    Output j is the sum over cells i of ``taps[T - 1 - (i up + before - j down)] x[i]``. That is a banded matrix, the
    same one every few outputs; so it is a product of overlapping windows with one small dense matrix.
    """
    length, count = len(taps), -(-size // BLOCK)
    step = -(-size // count)  # outputs of a block
    step += -step % up
    first = -(before // up)  # the first cell that output 0 could see
    last = ((step - 1) * down - before + length - 1) // up
    stride, window = step * down // up, last - first + 1
    needed = (count - 1) * stride + window
    cells = torch.arange(first, last + 1, device=maps.device)[:, None] * up + before
    place = cells - torch.arange(step, device=maps.device) * down  # [window, step]
    inside = (place >= 0) & (place < length)
    matrix = torch.where(inside, taps[(length - 1 - place).clamp(0, length - 1)], 0.0)
    padded = F.pad(maps, (0, 0, -first, needed + first - maps.shape[1]))
    windows = padded.unfold(1, window, stride)  # [M, count, w, window]
    found = windows.transpose(1, 2) @ matrix  # [M, w, count, step]
    return found.flatten(2)[:, :, :size]
