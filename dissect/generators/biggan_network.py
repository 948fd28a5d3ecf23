"""BigGAN (Brock et al., ICLR 2019) as modules, with SAGAN and SNGAN as configurations; written for inference.

Weights are those that multiply: whatever a file divides them by has been divided (see ``spectral``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .start import Start

OUTPUT_EPS = 1e-5  # of the last batch norm, which the public code does not give BN_eps


@dataclass(frozen=True)
class Config:
    """What determines the network.

    Attributes:
        chunk: how many numbers of z a part of the network gets.
        hier: whether each block gets numbers of its own, else all of z goes into the first layer.
        num_classes, shared: of the embedding that all batch norms read; shared is 0 where each has a table of its own.
        channels: after the first layer, and after each block.
        hidden: inside each block.
        attention: blocks with self-attention behind them, with (channels of its keys, of its values).
        colors: 3, or 1 for grey.
        bn_eps: of the conditional batch norms.
    """

    chunk: int
    hier: bool
    num_classes: int
    shared: int
    channels: tuple[int, ...]
    hidden: tuple[int, ...]
    attention: tuple[tuple[int, int, int], ...] = ()
    colors: int = 3
    bn_eps: float = 1e-5

    @property
    def blocks(self) -> int:
        """Number of blocks; each doubles the side."""
        return len(self.hidden)

    @property
    def z_dim(self) -> int:
        """Length of the latent."""
        return self.chunk * (self.blocks + 1 if self.hier else 1)

    @property
    def condition(self) -> int:
        """Length of what a conditional batch norm gets; 0 where it gets a class."""
        return self.shared + (self.chunk if self.hier else 0) if self.shared else 0


class ConditionalNorm(nn.Module):
    """Batch norm with stored statistics; its scale is 1 + gain(y), its shift bias(y)."""

    stored_mean: Tensor
    stored_var: Tensor

    def __init__(self, channels: int, config: Config) -> None:
        super().__init__()
        self.gain, self.bias = (
            nn.Linear(config.condition, channels, bias=False)
            if config.shared
            else nn.Embedding(config.num_classes, channels)
            for _ in range(2)
        )
        self.register_buffer("stored_mean", torch.empty(channels))
        self.register_buffer("stored_var", torch.empty(channels))
        self.eps = config.bn_eps

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return [N, C, h, w] of x and conditions [N, D] or classes [N]."""
        scale = (1 + self.gain(y)) * torch.rsqrt(self.stored_var + self.eps)
        return affine(x, scale, self.bias(y) - self.stored_mean * scale)


class PlainNorm(nn.Module):
    """Batch norm with stored statistics and one gain and bias a channel."""

    stored_mean: Tensor
    stored_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.register_buffer("stored_mean", torch.empty(channels))
        self.register_buffer("stored_var", torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, C, h, w]."""
        scale = self.gain * torch.rsqrt(self.stored_var + OUTPUT_EPS)
        return affine(x, scale[None], (self.bias - self.stored_mean * scale)[None])


def affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return x [N, C, h, w] times scale plus shift, both [N or 1, C]."""
    return (x * scale[:, :, None, None]).add_(shift[:, :, None, None])


def doubled(x: Tensor) -> Tensor:
    """Return [N, C, 2h, 2w] with every pixel repeated."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Sum(nn.Module):
    """The end of a residual block: what its two branches add up to."""

    def forward(self, x: Tensor, beside: Tensor) -> Tensor:
        """Return x + beside."""
        return x + beside


class Block(nn.Module):
    """The modules of one residual block; the generator's stages call them."""

    def __init__(self, inputs: int, hidden: int, outputs: int, config: Config) -> None:
        super().__init__()
        self.bn1, self.act1 = ConditionalNorm(inputs, config), nn.ReLU()
        self.conv1 = nn.Conv2d(inputs, hidden, 3, padding=1)
        self.bn2, self.act2 = ConditionalNorm(hidden, config), nn.ReLU()
        self.conv2 = nn.Conv2d(hidden, outputs, 3, padding=1)
        self.conv_sc = nn.Conv2d(inputs, outputs, 1)
        self.sum = Sum()


class Attention(nn.Module):
    """Self-attention (Zhang et al., ICML 2019): every pixel adds a mean of values from a map of half the side."""

    def __init__(self, channels: int, keys: int, values: int) -> None:
        super().__init__()
        self.theta, self.phi = (nn.Conv2d(channels, keys, 1, bias=False) for _ in range(2))
        self.g, self.o = nn.Conv2d(channels, values, 1, bias=False), nn.Conv2d(values, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.empty(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return gamma * o(softmax(theta^T phi) g) + x, [N, C, h, w]."""
        query = self.theta(x).flatten(2)
        key = F.max_pool2d(self.phi(x), 2).flatten(2)
        value = F.max_pool2d(self.g(x), 2).flatten(2)
        share = torch.softmax(query.transpose(1, 2) @ key, dim=-1)
        mixed = (value @ share.transpose(1, 2)).reshape(len(x), -1, *x.shape[2:])
        return self.gamma * self.o(mixed) + x


class Network(nn.Module):
    """All modules, under the names of the public PyTorch code."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = config.channels
        if config.shared:
            self.shared = nn.Embedding(config.num_classes, config.shared)
        self.linear = Start(config.chunk, widths[0])
        self.blocks = nn.ModuleList()  # each a list: a block, and perhaps an attention
        attention = {block: sizes for block, *sizes in config.attention}
        for index, (inputs, hidden, outputs) in enumerate(zip(widths, config.hidden, widths[1:], strict=False)):
            parts: list[nn.Module] = [Block(inputs, hidden, outputs, config)]
            if index in attention:
                parts.append(Attention(outputs, *attention[index]))
            self.blocks.append(nn.ModuleList(parts))
        last = nn.Conv2d(widths[-1], config.colors, 3, padding=1)
        self.output_layer = nn.ModuleList([PlainNorm(widths[-1]), nn.ReLU(), last])
