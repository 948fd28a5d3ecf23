"""The StyleGAN network (Karras et al., CVPR 2019), for inference in float32, and the arithmetic of rosinality's port.

Written from the paper and measured facts. Upsampling is nearest neighbour, then a plain conv: the fused transposed conv
that some checkpoints were trained with is the same function of the same numbers, in another order (``stylegan_layouts``
turns them).

The **port** (rosinality/style-based-gan-pytorch) is another network: every gain is sqrt(2 / fan-in), also that of
noise, styles and images; a conv adds its bias before the blur, and the constant has none; a fused conv is divided by 4;
the instance norm has another epsilon; the 1 of the style's factor is inside its bias.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .convolutions import Reading
from .pggan_network import SLOPE, Blended, doubled
from .stylebased import ScaledLinear, pixel_norm

BLUR = (1.0, 2.0, 1.0)
EPSILON, PORT_EPSILON = 1e-8, 1e-5  # of the instance norm


@dataclass(frozen=True)
class Config(Blended):
    """What determines a network.

    Attributes:
        channels: of layers 0, 1, 2, …; each resolution from 4 on has two.
        heads: blocks (0 is 4 x 4) that have a 1x1 conv to an image; the last block always has one.
        num_classes: 0 for unconditional ones; embedding: how many numbers a class adds to z.
        port: whether the arithmetic is that of rosinality's port; fused: its blocks with a fused conv.
        shown: the block of whose size images are; lod: how many levels below it the network draws; between is a blend.
        mean_w, stored_lod, psi: whether the network has these buffers.
        lr_multiplier: the runtime gain of the mapping's weights and biases; not in the port.
    """

    z_dim: int
    w_dim: int
    hidden: int
    mapping_layers: int
    channels: tuple[int, ...]
    heads: tuple[int, ...]
    colors: int = 3
    num_classes: int = 0
    embedding: int = 0
    port: bool = False
    fused: tuple[int, ...] = ()
    shown: int = 0
    lod: float = 0.0
    mean_w: bool = True
    stored_lod: bool = False
    psi: bool = False
    lr_multiplier: float = 0.01

    @property
    def blocks(self) -> int:
        """Number of resolutions that the network has."""
        return len(self.channels) // 2

    @property
    def resolution(self) -> int:
        """Pixels of a side of an image."""
        return int(4 * 2**self.shown)

    @property
    def num_ws(self) -> int:
        """Number of w inputs: one for each layer."""
        return len(self.channels)


def blur_kernel(channels: int) -> Tensor:
    """Return the filter [1, 2, 1] along rows and columns, of sum 1, for each channel: [channels, 1, 3, 3]."""
    row = torch.tensor(BLUR) / sum(BLUR)
    return torch.outer(row, row).expand(channels, 1, 3, 3)


class Style(ScaledLinear):
    """The learned affine map from w to a factor and an offset per channel: a layer of kind ``style``."""

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, 2 C, 1, 1]: first the factors (less 1, but in the port), then the offsets."""
        return super().forward(x)[:, :, None, None]


class Mapping(nn.Module):
    """From z (and a class) to w."""

    w_avg: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.layers = config.mapping_layers
        inputs, factor = config.z_dim + config.embedding, 1.0 if config.port else config.lr_multiplier
        for index in range(self.layers):
            outputs = config.w_dim if index == self.layers - 1 else config.hidden
            self.add_module(f"dense{index}", ScaledLinear(inputs, outputs, factor * math.sqrt(2 / inputs), factor))
            inputs = outputs
        if config.num_classes:
            self.label_weight = nn.Parameter(torch.empty(config.num_classes, config.embedding))
        if config.mean_w:
            self.register_buffer("w_avg", torch.empty(config.w_dim))
        if config.psi:
            self.register_buffer("psi", torch.empty(config.num_ws))

    def forward(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Return w [N, w_dim] of z [N, z_dim] and one-hot labels [N, num_classes]."""
        x = pixel_norm(z if labels is None else torch.cat([z, labels @ self.label_weight], dim=1))
        for index in range(self.layers):
            x = F.leaky_relu(self.get_submodule(f"dense{index}")(x), SLOPE)
        return x


class Kernel(nn.Module):
    """A 3x3 convolution with a runtime gain; in the port with a bias."""

    def __init__(self, inputs: int, outputs: int, gain: float, biased: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.empty(outputs)) if biased else None
        self.gain = gain

    def reading(self) -> Reading:
        """Return how it reads its input."""
        return Reading("weight", padding=(1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs, h, w]."""
        return F.conv2d(x, self.weight * self.gain, self.bias, padding=1)


class Conv(nn.Module):
    """What a layer begins with: nearest upsampling and a blur round a convolution, or only the convolution."""

    def __init__(self, config: Config, index: int) -> None:
        super().__init__()
        inputs, outputs = config.channels[index - 1], config.channels[index]
        self.up = index % 2 == 0
        fused = self.up and index // 2 in config.fused
        gain = math.sqrt(2 / (9 * inputs)) / (4 if fused else 1)
        self.kept = "fused" if fused else "plain"
        self.add_module(self.kept, Kernel(inputs, outputs, gain, config.port))

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs, h, w], of twice the size where the layer upsamples."""
        kernel = self.get_submodule(self.kept)
        if not self.up:
            return torch.as_tensor(kernel(x))
        x = kernel(doubled(x))
        return F.conv2d(x, blur_kernel(x.shape[1]).to(x), padding=1, groups=x.shape[1])


class StyledLayer(nn.Module):
    """Conv (or the constant), noise, bias, leaky ReLU, instance norm, and the style's factor and offset."""

    noise_const: Tensor

    def __init__(self, config: Config, index: int) -> None:
        super().__init__()
        channels, side = config.channels[index], 4 * 2 ** (index // 2)
        self.port = config.port
        if index == 0:
            self.const = nn.Parameter(torch.empty(channels, 4, 4))
        else:
            self.conv = Conv(config, index)
        self.noise_weight = nn.Parameter(torch.empty(channels))
        self.noise_gain = math.sqrt(2 / channels) if self.port else 1.0
        self.register_buffer("noise_const", torch.empty(side, side), persistent=not self.port)
        if not self.port:
            self.bias = nn.Parameter(torch.empty(channels))
        self.style = Style(config.w_dim, 2 * channels, math.sqrt((2 if self.port else 1) / config.w_dim))

    def forward(self, x: Tensor | None, w: Tensor, noise: Tensor | None) -> Tensor:
        """Return features [N, C, h, w] of x (None for the constant), w [N, w_dim], noise [h, w] or [N, 1, h, w]."""
        x = self.const.expand(len(w), -1, -1, -1) if x is None else self.conv(x)
        if noise is not None:
            x = x + noise * (self.noise_weight * self.noise_gain)[:, None, None]
        if not self.port:
            x = x + self.bias[:, None, None]
        x = F.instance_norm(F.leaky_relu(x, SLOPE), eps=PORT_EPSILON if self.port else EPSILON)
        factor, offset = self.style(w).chunk(2, dim=1)
        return x * (factor if self.port else factor + 1.0) + offset


class Head(nn.Module):
    """From features to an image: 1x1 conv with a gain, and bias."""

    def __init__(self, config: Config, block: int) -> None:
        super().__init__()
        inputs = config.channels[2 * block + 1]
        self.weight = nn.Parameter(torch.empty(config.colors, inputs, 1, 1))
        self.bias = nn.Parameter(torch.empty(config.colors))
        self.gain = math.sqrt((2 if config.port else 1) / inputs)

    def reading(self) -> Reading:
        """Return how it reads its input."""
        return Reading("weight")

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, colors, h, w]."""
        return F.conv2d(x, self.weight * self.gain, self.bias)


class Network(nn.Module):
    """Mapping, layers and heads; the generator's stages call them."""

    lod: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.mapping = Mapping(config)
        layers: dict[str, nn.Module] = {f"layer{i}": StyledLayer(config, i) for i in range(len(config.channels))}
        self.synthesis = nn.ModuleDict(layers | {f"output{b}": Head(config, b) for b in config.heads})
        if config.stored_lod:
            self.register_buffer("lod", torch.empty(()))
