"""The MobileStyleGAN network (Belousov, arXiv 2104.04767), for inference in float32.

Written from the paper and measured facts. Parameters carry the names of the public PyTorch code without its
containers; a network may also be *folded*, as in exported graphs, where whatever is constant has been multiplied out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .convolutions import Reading
from .haar import SUBBANDS, arranged, inverse_haar, joined, strips
from .stylebased import pixel_norm

COLORS = 3
SLOPE = 0.2


@dataclass(frozen=True)
class Config:
    """What determines a network.

    Attributes:
        channels: of the convs at 4, 8, 16, … pixels.
        folded: whether demodulation, noise strengths and the mapping's gains are in the weights already.
        heads: whether the file has the images of all resolutions, which are used in training alone.
        mean_rows: rows of the stored mean w: 0 for none, else 1 or num_ws equal ones.
        lr_multiplier: the runtime gain of the mapping's weights and biases, where it is not folded.
    """

    z_dim: int
    w_dim: int
    mapping_layers: int
    channels: tuple[int, ...]
    folded: bool = False
    heads: bool = True
    mean_rows: int = 0
    lr_multiplier: float = 0.01

    @property
    def blocks(self) -> int:
        """Number of upsampling blocks."""
        return len(self.channels) - 1

    @property
    def resolution(self) -> int:
        """Pixels of a side: the last conv is at half of it."""
        return int(8 * 2**self.blocks)

    @property
    def num_ws(self) -> int:
        """Number of w inputs: one for the first conv, three for each block, and a last one that nothing uses."""
        return 3 * self.blocks + 2


class Dense(nn.Module):
    """A layer of the mapping: linear, leaky ReLU, times the square root of 2."""

    def __init__(self, inputs: int, outputs: int, config: Config) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.gains = None if config.folded else (config.lr_multiplier / math.sqrt(inputs), config.lr_multiplier)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs]."""
        gains = self.gains
        weight, bias = (self.weight, self.bias) if gains is None else (self.weight * gains[0], self.bias * gains[1])
        return F.leaky_relu(F.linear(x, weight, bias), SLOPE) * math.sqrt(2)


class Mapping(nn.Module):
    """From z to w."""

    style_mean: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        last = config.mapping_layers
        sizes = [config.z_dim] + [config.w_dim] * last
        self.layers = nn.ModuleDict({str(i): Dense(sizes[i - 1], sizes[i], config) for i in range(1, last + 1)})
        if config.mean_rows:
            shape = (config.w_dim,) if config.mean_rows == 1 else (config.mean_rows, config.w_dim)
            self.register_buffer("style_mean", torch.empty(shape))

    def forward(self, z: Tensor) -> Tensor:
        """Return w [N, w_dim] of z [N, z_dim]."""
        x = pixel_norm(z)
        for layer in self.layers.values():
            x = layer(x)
        return x


class Style(nn.Linear):
    """The learned affine map from w to one factor per channel: a layer of kind ``style``."""

    def forward(self, w: Tensor) -> Tensor:
        """Return [N, channels, 1, 1] of w [N, w_dim]."""
        return super().forward(w)[:, :, None, None]


class StyledConv(nn.Module):
    """Modulation, 3x3 convolution (full, or depthwise and then pointwise), noise, bias, leaky ReLU without gain.

    What demodulates is not the style but ``style_inv``, which training has learned; so it is constant.
    """

    noise_const: Tensor
    style_inv: Tensor
    style = "modulation"

    def __init__(self, config: Config, inputs: int, outputs: int, size: int, depthwise: bool) -> None:
        super().__init__()
        if depthwise:
            self.weight_dw = nn.Parameter(torch.empty(inputs, 1, 3, 3))
            self.weight_permute = nn.Parameter(torch.empty(outputs, inputs, 1, 1))
        else:
            self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.modulation = Style(config.w_dim, inputs)
        self.register_buffer("noise_const", torch.empty(size, size), persistent=config.folded)
        if not config.folded:
            self.noise_strength = nn.Parameter(torch.empty(()))
            self.register_buffer("style_inv", torch.empty(inputs))
        self.depthwise, self.folded = depthwise, config.folded
        self.scale = 1 / math.sqrt(9 * inputs)

    def weights(self) -> Tensor:
        """Return the demodulated weights [outputs, inputs, k, k] of the full or the pointwise convolution."""
        weight = self.weight_permute if self.depthwise else self.weight
        if self.folded:
            return weight
        energy = weight.square().sum((2, 3))
        if self.depthwise:
            energy = energy * self.weight_dw.square().sum((1, 2, 3))
        norm = energy @ (self.scale * self.style_inv).square()
        return weight * torch.rsqrt(norm + 1e-8)[:, None, None, None]

    def scaled(self, noise: Tensor, stored: bool) -> Tensor:
        """Return noise in the strength of this layer; folded maps have it, and other noise gets their strength."""
        if not self.folded:
            return noise * self.noise_strength
        return noise if stored else noise * self.noise_const.square().mean().sqrt()

    def reading(self) -> Reading:
        """Return how the full or the pointwise convolution reads its input; its demodulation comes after it."""
        return Reading("weight_permute") if self.depthwise else Reading("weight", padding=(1, 1))

    def keyed(self, x: Tensor, style: Tensor) -> Tensor:
        """Return what enters the full or the pointwise convolution."""
        x = x * (style * self.scale)
        return F.conv2d(x, self.weight_dw, padding=1, groups=len(self.weight_dw)) if self.depthwise else x

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """Return [N, outputs, h, w] of x [N, inputs, h, w], w [N, w_dim] and scaled noise [h, w] or [N, 1, h, w]."""
        styles = self.modulation(w) * self.scale
        weights = self.weights()
        x = arranged(x)
        height = x.shape[2]
        pieces = []
        for samples, rows in strips(x, max(x.shape[1], len(self.bias))):
            above, below = min(rows.start, 1), min(height - rows.stop, 1)  # rows that the 3x3 kernel sees beyond them
            part = x[samples, :, rows.start - above : rows.stop + below] * styles[samples]
            inner = slice(above, above + rows.stop - rows.start)
            if self.depthwise:
                part = F.conv2d(part, self.weight_dw, padding=1, groups=len(self.weight_dw))[:, :, inner]
                part = F.conv2d(part, weights, self.bias)
            else:
                part = F.conv2d(part, weights, self.bias, padding=1)[:, :, inner]
            if noise is not None:
                part = part.add_((noise if noise.ndim == 2 else noise[samples])[..., rows, :])
            pieces.append(F.leaky_relu_(part, SLOPE))
        return joined(pieces, len(x))


class Upsampler(nn.Module):
    """Modulation and inverse Haar transform."""

    def __init__(self, config: Config, inputs: int) -> None:
        super().__init__()
        self.modulation = Style(config.w_dim, inputs)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Return [N, inputs / 4, 2h, 2w]."""
        return inverse_haar(x, self.modulation(w))


class ToImage(nn.Module):
    """Modulated 1x1 convolution without demodulation, bias: the Haar transform of an image."""

    style = "modulation"

    def __init__(self, config: Config, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(SUBBANDS * COLORS, inputs, 1, 1))
        self.bias = nn.Parameter(torch.empty(SUBBANDS * COLORS))
        self.modulation = Style(config.w_dim, inputs)

    def reading(self) -> Reading:
        """Return how the convolution reads its input."""
        return Reading("weight")

    def keyed(self, x: Tensor, style: Tensor) -> Tensor:
        """Return what enters the convolution."""
        return x * (style / math.sqrt(self.weight.shape[1]))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Return [N, 12, h, w]."""
        styles = self.modulation(w) / math.sqrt(self.weight.shape[1])
        x = arranged(x)
        pieces = [
            F.conv2d(x[samples, :, rows] * styles[samples], self.weight, self.bias)
            for samples, rows in strips(x, x.shape[1])
        ]
        return joined(pieces, len(x))


class Block(nn.Module):
    """The layers of one resolution; the generator's stages call them."""

    def __init__(self, config: Config, index: int) -> None:
        super().__init__()
        inputs, outputs = config.channels[index], config.channels[index + 1]
        size = 8 * 2**index
        self.up = Upsampler(config, inputs)
        self.conv1 = StyledConv(config, inputs // SUBBANDS, outputs, size, depthwise=True)
        self.conv2 = StyledConv(config, outputs, outputs, size, depthwise=True)
        if config.heads or index == config.blocks - 1:
            self.to_img = ToImage(config, outputs)


class Synthesis(nn.Module):
    """From w's to the Haar transform of an image."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        first = config.channels[0]
        self.input = nn.Parameter(torch.empty(first, 4, 4))
        self.conv1 = StyledConv(config, first, first, 4, depthwise=False)
        if config.heads:
            self.to_img1 = ToImage(config, first)
        self.layers = nn.ModuleList(Block(config, index) for index in range(config.blocks))


class Network(nn.Module):
    """Mapping and synthesis."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.mapping = Mapping(config)
        self.synthesis = Synthesis(config)
