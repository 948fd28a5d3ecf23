"""The inverse Haar transform, and work on feature maps in strips that stay in a processor's cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

SUBBANDS = 4  # of a Haar transform: low, and the three high ones
# Numbers of a feature map that are worked on at once. They stay in a processor's cache, and blocks of this size are
# given again by the allocator, where those of a whole map are mapped and cleared anew: twice as fast.
STRIP = 1 << 21


def strips(x: Tensor, width: int) -> Iterator[tuple[slice, slice]]:
    """Yield (samples, rows) that together cover x [N, C, H, W]; ``width`` is the largest number of channels at work.

    On other devices than the CPU it is one strip.
    """
    samples, _, height, length = x.shape
    if x.device.type != "cpu":
        yield slice(0, samples), slice(0, height)
        return
    rows = max(1, STRIP // (width * length))
    for sample in range(samples):
        for top in range(0, height, rows):
            yield slice(sample, sample + 1), slice(top, min(top + rows, height))


def joined(pieces: Sequence[Tensor], samples: int) -> Tensor:
    """Return [N, C, H, W] of what the strips became."""
    if len(pieces) == 1:
        return pieces[0]
    rows = torch.cat([piece.permute(0, 2, 3, 1).flatten(0, 1) for piece in pieces])
    return rows.unflatten(0, (samples, -1)).permute(0, 3, 1, 2)


def arranged(x: Tensor) -> Tensor:
    """Return x with its channels together on the CPU, where depthwise and 1x1 convs are twice as fast on that."""
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x.contiguous()


def inverse_haar(x: Tensor, factor: Tensor | float = 1.0) -> Tensor:
    """Return the image [N, C, 2H, 2W] whose Haar transform is ``factor`` times x [N, 4C, H, W].

    The first C channels are the low subband, the others [C, 3] the high ones.
    """
    x = arranged(x)
    pieces = []
    for samples, rows in strips(x, x.shape[1]):
        part = factor[samples] if isinstance(factor, Tensor) else factor
        pieces.append(_inverse_haar(x[samples, :, rows] * (part * 0.5)))
    return joined(pieces, len(x))


def _inverse_haar(half: Tensor) -> Tensor:
    samples, inputs, height, width = half.shape
    count = inputs // SUBBANDS
    low = half[:, :count]
    lh, hl, hh = (half[:, count + band :: SUBBANDS - 1] for band in range(SUBBANDS - 1))
    even, odd = (low + lh, hl + hh), (low - lh, hl - hh)
    shape = (samples, count, 2 * height, 2 * width)
    image = torch.empty(shape, dtype=half.dtype, device=half.device, memory_format=torch.channels_last)
    for row, (left, right) in enumerate((even, odd)):
        image[:, :, row::2, 0::2] = left + right
        image[:, :, row::2, 1::2] = left - right
    return image
