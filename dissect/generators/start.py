"""The first layer of many generators: a linear map from a vector to a map of 4 x 4 pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .convolutions import Reading

SIDE = 4


class Start(nn.Module):
    """A vector as a map of one pixel, written to 4 x 4 pixels: a transposed convolution with a bias for every pixel."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, channels, SIDE, SIDE))
        self.bias = nn.Parameter(torch.empty(channels, SIDE, SIDE))

    def reading(self) -> Reading:
        """Return how it reads its input."""
        return Reading("weight", swapped=True, upsampling=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, C, 4, 4] of x [N, inputs, 1, 1]."""
        return F.conv_transpose2d(x, self.weight) + self.bias
