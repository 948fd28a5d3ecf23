"""The StyleGAN2 network (Karras et al., CVPR 2020; ADA: NeurIPS 2020), for inference in float32.

Written from the papers and measured facts; parameters carry the names of the public PyTorch checkpoints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .convolutions import Reading
from .stylebased import ScaledLinear, pixel_norm

GAIN = math.sqrt(2)
FILTER = (1.0, 3.0, 3.0, 1.0)


@dataclass(frozen=True)
class Config:
    """What determines a network.

    Attributes:
        channels: of the blocks at 4, 8, 16, … pixels.
        num_classes: 0 for unconditional ones; ``label`` says how a class enters: ``embed`` (z and the embedding
            normalised apart), ``concat`` (joined, then normalised).
        architecture: how the image is made: ``skip``, ``resnet`` or ``orig``.
        noise: whether there are noise inputs; mean_w: whether the mean w is known.
        lr_multiplier: the runtime gain of the mapping's weights and biases.
        conv_clamp: the bound of every conv's output, or None.
    """

    z_dim: int
    w_dim: int
    hidden: int
    mapping_layers: int
    channels: tuple[int, ...]
    colors: int = 3
    num_classes: int = 0
    label: str = "embed"
    embedding: int = 0
    architecture: str = "skip"
    noise: bool = True
    mean_w: bool = True
    lr_multiplier: float = 0.01
    conv_clamp: float | None = None

    @property
    def resolution(self) -> int:
        """Pixels of a side."""
        return int(4 * 2 ** (len(self.channels) - 1))

    @property
    def num_ws(self) -> int:
        """Number of w inputs: one for each conv and one for the last image."""
        return 2 * len(self.channels)


def bounded(x: Tensor, clamp: float | None) -> Tensor:
    """Return x within +-clamp."""
    return x if clamp is None else x.clamp(-clamp, clamp)


def filtered(x: Tensor, gain: float) -> Tensor:
    """Return x [N, C, H, W] under the filter [1, 3, 3, 1] along rows and columns, of sum 1: [N, C, H - 3, W - 3]."""
    row = x.new_tensor(FILTER) / sum(FILTER)
    kernel = torch.outer(row, row) * gain
    # One depthwise convolution took a third of the time of two passes of shifted sums (CPU, 64 to 512 channels).
    return F.conv2d(x, kernel.expand(x.shape[1], 1, -1, -1), groups=x.shape[1])


def upsampled(image: Tensor) -> Tensor:
    """Return the image at twice the size: zeros inserted, then the filter."""
    n, c, h, w = image.shape
    wide = image.new_zeros(n, c, 2 * h + 3, 2 * w + 3)
    wide[:, :, 2 : 2 + 2 * h : 2, 2 : 2 + 2 * w : 2] = image
    return filtered(wide, 4.0)


class FullyConnected(ScaledLinear):
    """A linear layer with runtime gains on weight and bias."""

    def __init__(self, inputs: int, outputs: int, multiplier: float = 1.0) -> None:
        super().__init__(inputs, outputs, multiplier / math.sqrt(inputs), multiplier)


class Style(FullyConnected):
    """The learned affine map from w to one factor per channel: a layer of kind ``style``."""

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, channels, 1, 1]."""
        return super().forward(x)[:, :, None, None]


class Mapping(nn.Module):
    """From z (and a class) to w."""

    w_avg: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        inputs = config.z_dim + config.embedding
        for index in range(config.mapping_layers):
            outputs = config.w_dim if index == config.mapping_layers - 1 else config.hidden
            setattr(self, f"fc{index}", FullyConnected(inputs, outputs, config.lr_multiplier))
            inputs = outputs
        if config.num_classes and config.label == "embed":
            self.embed = FullyConnected(config.num_classes, config.embedding)
        elif config.num_classes:
            self.label_weight = nn.Parameter(torch.empty(config.num_classes, config.embedding))
        if config.mean_w:
            self.register_buffer("w_avg", torch.empty(config.w_dim))

    def forward(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Return w [N, w_dim] of z [N, z_dim] and one-hot labels [N, num_classes]."""
        if labels is None:
            x = pixel_norm(z)
        elif self.config.label == "embed":
            x = torch.cat([pixel_norm(z), pixel_norm(self.embed(labels))], dim=1)
        else:
            x = pixel_norm(torch.cat([z, labels @ self.label_weight], dim=1))
        for index in range(self.config.mapping_layers):
            x = F.leaky_relu(getattr(self, f"fc{index}")(x), 0.2) * GAIN
        return x


class StyledConv(nn.Module):
    """Modulated and demodulated 3x3 convolution, upsampling or not, noise, bias, leaky ReLU, clamp."""

    noise_const: Tensor
    style = "affine"

    def __init__(self, config: Config, inputs: int, outputs: int, size: int, up: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.affine = Style(config.w_dim, inputs)
        self.up = up
        self.clamp = config.conv_clamp
        if config.noise:
            self.noise_strength = nn.Parameter(torch.empty(()))
            self.register_buffer("noise_const", torch.empty(size, size))

    def reading(self) -> Reading:
        """Return how the convolution reads its input; demodulation, filter, noise and bias come after it."""
        return Reading("weight", upsampling=True, stride=(2, 2)) if self.up else Reading("weight", padding=(1, 1))

    def keyed(self, x: Tensor, style: Tensor) -> Tensor:
        """Return what enters the convolution."""
        return x * style

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None, gain: float = 1.0) -> Tensor:
        """Return features [N, outputs, size, size] of x, w [N, w_dim] and noise [h, w] or [N, 1, h, w]."""
        styles = self.affine(w)
        # Equal to modulating the weights of every sample, at the price of one convolution instead of N.
        energy = self.weight.square().sum((2, 3)) @ styles[:, :, 0, 0].square().T
        x = self.keyed(x, styles)
        if self.up:
            x = F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)
            x = filtered(F.pad(x, (1, 1, 1, 1)), 4.0)
        else:
            x = F.conv2d(x, self.weight, padding=1)
        x.mul_(torch.rsqrt(energy + 1e-8).T[:, :, None, None])  # x is this layer's own from here on
        if noise is not None:
            x.add_(noise * self.noise_strength)
        x = F.leaky_relu_(x.add_(self.bias[:, None, None]), 0.2)
        if x.requires_grad:  # its derivative needs what the leaky ReLU returned
            return bounded(x * (GAIN * gain), None if self.clamp is None else self.clamp * gain)
        x.mul_(GAIN * gain)
        return x if self.clamp is None else x.clamp_(-self.clamp * gain, self.clamp * gain)


class ToImage(nn.Module):
    """Modulated 1x1 convolution without demodulation, bias, clamp."""

    style = "affine"

    def __init__(self, config: Config, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.colors, inputs, 1, 1))
        self.bias = nn.Parameter(torch.empty(config.colors))
        self.affine = Style(config.w_dim, inputs)
        self.clamp = config.conv_clamp

    def reading(self) -> Reading:
        """Return how the convolution reads its input."""
        return Reading("weight")

    def keyed(self, x: Tensor, style: Tensor) -> Tensor:
        """Return what enters the convolution."""
        return x * (style / math.sqrt(self.weight.shape[1]))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Return [N, colors, h, w]."""
        return bounded(F.conv2d(self.keyed(x, self.affine(w)), self.weight, self.bias), self.clamp)


class Shortcut(nn.Module):
    """The upsampled 1x1 convolution beside a block of the ``resnet`` architecture."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs, 2h, 2w]."""
        return upsampled(F.conv2d(x, self.weight / math.sqrt(self.weight.shape[1]))) * math.sqrt(0.5)


class Block(nn.Module):
    """The layers of one resolution; the generator's stages call them."""

    def __init__(self, config: Config, index: int) -> None:
        super().__init__()
        size, outputs = 4 * 2**index, config.channels[index]
        if index == 0:
            self.const = nn.Parameter(torch.empty(outputs, 4, 4))
        else:
            inputs = config.channels[index - 1]
            self.conv0 = StyledConv(config, inputs, outputs, size, up=True)
            if config.architecture == "resnet":
                self.skip = Shortcut(inputs, outputs)
        self.conv1 = StyledConv(config, outputs, outputs, size, up=False)
        if config.architecture == "skip" or index == len(config.channels) - 1:
            self.torgb = ToImage(config, outputs)


class Network(nn.Module):
    """Mapping and synthesis."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.mapping = Mapping(config)
        blocks = {f"b{4 * 2**index}": Block(config, index) for index in range(len(config.channels))}
        self.synthesis = nn.ModuleDict(blocks)
