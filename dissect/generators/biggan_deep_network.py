"""BigGAN-deep (Brock et al., ICLR 2019) as modules, as the Hugging Face port has it; written for inference.

Weights are those that multiply: whatever a file divides them by has been divided (see ``spectral``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .biggan_network import Attention, Sum, affine
from .start import Start

CONVS = 4  # of a block


@dataclass(frozen=True)
class Shape:
    """One block: whether it doubles the side, and its channels before, inside and after."""

    up: bool
    inputs: int
    hidden: int
    outputs: int


@dataclass(frozen=True)
class Config:
    """What determines the network.

    Attributes:
        z_dim, embedding: lengths of the latent and of a class's embedding; everything reads both.
        blocks: by their place among ``generator.layers``; a place without one is the attention.
        attention: (place, channels of its keys, of its values), or None.
        channels: after the last block; filters: of the last convolution, of which the first ones are the image.
        n_stats: truncations for which batch norms have statistics.
        eps: of the batch norms.
        corrected: whether statistics between two truncations are interpolated towards the nearer one; the published
            code does the reverse.
    """

    z_dim: int
    embedding: int
    num_classes: int
    blocks: tuple[tuple[int, Shape], ...]
    attention: tuple[int, int, int] | None
    filters: int
    n_stats: int
    eps: float
    corrected: bool

    @property
    def channels(self) -> int:
        """Channels after the last block."""
        return self.blocks[-1][1].outputs

    @property
    def resolution(self) -> int:
        """Side of the image."""
        return int(4 * 2 ** sum(block.up for _, block in self.blocks))


class Norm(nn.Module):
    """Batch norm with statistics for each of several truncations.

    Its scale is 1 + scale(y) and its shift offset(y); without conditions they are ``weight`` and ``bias``.
    """

    running_means: Tensor
    running_vars: Tensor

    def __init__(self, channels: int, config: Config, conditional: bool = True) -> None:
        super().__init__()
        self.conditional, self.eps, self.corrected = conditional, config.eps, config.corrected
        if conditional:
            condition = config.z_dim + config.embedding
            self.scale = nn.Linear(condition, channels, bias=False)
            self.offset = nn.Linear(condition, channels, bias=False)
        else:
            self.weight = nn.Parameter(torch.empty(channels))
            self.bias = nn.Parameter(torch.empty(channels))
        self.register_buffer("running_means", torch.empty(config.n_stats, channels))
        self.register_buffer("running_vars", torch.empty(config.n_stats, channels))

    def forward(self, x: Tensor, y: Tensor, truncation: float) -> Tensor:
        """Return [N, C, h, w] of x and conditions [N, D]."""
        mean, variance = self.statistics(truncation)
        scale, shift = (1 + self.scale(y), self.offset(y)) if self.conditional else (self.weight[None], self.bias[None])
        scale = scale * torch.rsqrt(variance + self.eps)
        return affine(x, scale, shift - mean * scale)

    def statistics(self, truncation: float) -> tuple[Tensor, Tensor]:
        """Return mean and variance [C] at a truncation in (0, 1]."""
        index, share = place_of(truncation, len(self.running_means))
        if not share:
            return self.running_means[index], self.running_vars[index]
        first = 1 - share if self.corrected else share
        mean, variance = (
            t[index] * first + t[index + 1] * (1 - first) for t in (self.running_means, self.running_vars)
        )
        return mean, variance


def place_of(truncation: float, count: int) -> tuple[int, float]:
    """Return the index below a truncation among ``count`` equally spaced ones up to 1, and how far above it it lies.

    Divided as the published code divides: 0.58 of 51 lies at 28.999…, 0.14 just above 7.
    """
    share, index = math.modf(truncation / (1.0 / (count - 1)) if count > 1 else 0.0)
    return (int(index), share) if index < count - 1 else (count - 1, 0.0)


class Block(nn.Module):
    """The modules of one residual block; the generator's stages call them."""

    def __init__(self, shape: Shape, config: Config) -> None:
        super().__init__()
        widths = (shape.inputs, *[shape.hidden] * 3, shape.outputs)
        for i in range(CONVS):
            kernel = 3 if i in (1, 2) else 1
            self.add_module(f"bn_{i}", Norm(widths[i], config))
            self.add_module(f"relu_{i}", nn.ReLU())
            self.add_module(f"conv_{i}", nn.Conv2d(widths[i], widths[i + 1], kernel, padding=kernel // 2))
        self.sum = Sum()


class Inner(nn.Module):
    """What the public code calls ``generator``: all but the table of embeddings."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.gen_z = Start(config.z_dim + config.embedding, config.blocks[0][1].inputs)
        places: dict[int, nn.Module] = {place: Block(shape, config) for place, shape in config.blocks}
        if config.attention is not None:
            place, keys, values = config.attention
            width = [shape.outputs for index, shape in config.blocks if index < place][-1]
            places[place] = Attention(width, keys, values)
        self.layers = nn.ModuleList(places[place] for place in sorted(places))
        self.bn, self.relu = Norm(config.channels, config, conditional=False), nn.ReLU()
        self.conv_to_rgb = nn.Conv2d(config.channels, config.filters, 3, padding=1)


class Network(nn.Module):
    """All modules, under the names of the public code."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(config.num_classes, config.embedding)
        self.generator = Inner(config)
