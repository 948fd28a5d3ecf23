"""The StyleGAN3 network (Karras et al., NeurIPS 2021), configurations T and R, for inference in float32.

Written from the paper and measured facts; parameters carry the names of the public PyTorch checkpoints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import stylegan2_network as stylegan2
from .convolutions import Reading
from .stylegan2_network import GAIN, FullyConnected, Mapping, Style, bounded
from .stylegan3_filters import Rates, filtered_leaky_relu

SMALLEST = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class LayerConfig:
    """One layer.

    Attributes:
        name: as in the file, with its size and channels: ``L3_52_512``.
        inputs, outputs: channels. kernel: cells a side.
        size: cells of its map, with the margin. rate: cells of it that are the picture.
        up_taps: of its upsampling filter, 0 for none; down_taps: shape of the other, () for none.
    """

    name: str
    inputs: int
    outputs: int
    kernel: int
    size: int
    rate: int
    up_taps: int
    down_taps: tuple[int, ...]

    @property
    def margin(self) -> int:
        """Cells of its map beyond each edge of the picture."""
        return (self.size - self.rate) // 2


@dataclass(frozen=True)
class Config:
    """What determines a network.

    Attributes:
        channels: of the Fourier features. layers: the last makes the image.
        num_classes: 0 for unconditional ones. embedding: length of a class's.
        lr_multiplier: the runtime gain of the mapping's weights and biases.
        conv_clamp: the bound of every layer, or None. output_scale: of the image.
        first_cutoff: in cycles across the picture, above which Fourier features fade.
        lrelu_upsampling: how much finer than its input and output a layer's nonlinearity is.
        mean_w: whether the mean w is known.
    """

    z_dim: int
    w_dim: int
    hidden: int
    mapping_layers: int
    channels: int
    layers: tuple[LayerConfig, ...]
    num_classes: int = 0
    embedding: int = 0
    lr_multiplier: float = 0.01
    conv_clamp: float | None = 256.0
    output_scale: float = 0.25
    first_cutoff: float = 2.0
    lrelu_upsampling: int = 2
    mean_w: bool = True

    @property
    def resolution(self) -> int:
        """Pixels of a side."""
        return self.layers[-1].size

    @property
    def num_ws(self) -> int:
        """Number of w inputs: one for the Fourier features and one for each layer."""
        return len(self.layers) + 1

    def factors(self, index: int) -> tuple[int, int]:
        """Return (up, down) of a layer: what is finer than both its rates is shared out between them."""
        own, before = self.layers[index], self.layers[max(index - 1, 0)]
        if index == len(self.layers) - 1:
            return 1, 1
        high = self.lrelu_upsampling * max(own.rate, before.rate)
        return high // before.rate, high // own.rate

    def mapping(self) -> stylegan2.Config:
        """Return the configuration of the mapping, which is StyleGAN2's."""
        return stylegan2.Config(
            self.z_dim, self.w_dim, self.hidden, self.mapping_layers, (), num_classes=self.num_classes,
            embedding=self.embedding, lr_multiplier=self.lr_multiplier, mean_w=self.mean_w,
        )  # fmt: skip


class Fourier(nn.Module):
    """Sines over the plane, turned and shifted as w says, then mixed: the place of StyleGAN2's constant."""

    freqs: Tensor
    phases: Tensor
    transform: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        channels, first = config.channels, config.layers[0]
        self.size, self.rate, self.cutoff = first.size, first.rate, config.first_cutoff
        self.weight = nn.Parameter(torch.empty(channels, channels))
        self.affine = FullyConnected(config.w_dim, 4)
        self.register_buffer("transform", torch.empty(3, 3))
        self.register_buffer("freqs", torch.empty(channels, 2))
        self.register_buffer("phases", torch.empty(channels))

    def forward(self, w: Tensor) -> Tensor:
        """Return [N, channels, size, size] of w [N, w_dim]."""
        t = self.affine(w)
        t = t / t[:, :2].norm(dim=1, keepdim=True)
        turned = self.transform.new_zeros(len(w), 3, 3)
        turned[:, 0, 0] = turned[:, 1, 1] = t[:, 0]
        turned[:, 0, 1], turned[:, 1, 0], turned[:, 2, 2] = -t[:, 1], t[:, 1], 1.0
        shifted = torch.eye(3, dtype=w.dtype, device=w.device).repeat(len(w), 1, 1)
        shifted[:, :2, 2] = -t[:, 2:]
        whole = turned @ shifted @ self.transform  # [N, 3, 3]
        phases = self.phases + (self.freqs @ whole[:, :2, 2:])[:, :, 0]
        freqs = self.freqs @ whole[:, :2, :2]  # [N, channels, 2], in cycles across the picture
        fading = (freqs.norm(dim=2) - self.cutoff) / (self.rate / 2 - self.cutoff)
        # The middles of the cells, in widths of the picture from its middle.
        line = (torch.arange(self.size, dtype=w.dtype, device=w.device) + 0.5 - self.size / 2) / self.rate
        across, down = freqs[:, :, :1] * line, freqs[:, :, 1:] * line  # [N, channels, size]
        waves = torch.sin(2 * math.pi * (down[:, :, :, None] + across[:, :, None] + phases[:, :, None, None]))
        waves = waves * (1 - fading).clamp(0, 1)[:, :, None, None]
        return ((self.weight / math.sqrt(len(self.weight))) @ waves.flatten(2)).unflatten(2, waves.shape[2:])


class FilteredConv(nn.Module):
    """Modulated and demodulated convolution, bias, and a leaky ReLU between two filters."""

    magnitude_ema: Tensor
    up_filter: Tensor
    down_filter: Tensor
    style = "affine"

    def __init__(self, config: Config, index: int) -> None:
        super().__init__()
        own, before = config.layers[index], config.layers[max(index - 1, 0)]
        self.weight = nn.Parameter(torch.empty(own.outputs, own.inputs, own.kernel, own.kernel))
        self.bias = nn.Parameter(torch.empty(own.outputs))
        self.affine = Style(config.w_dim, own.inputs)
        self.register_buffer("magnitude_ema", torch.empty(()))
        up, down = config.factors(index)
        self.has_filters = bool(own.up_taps), bool(own.down_taps)
        if own.up_taps:
            self.register_buffer("up_filter", torch.empty(own.up_taps))
        if own.down_taps:
            self.register_buffer("down_filter", torch.empty(own.down_taps))
        taps = max(1, own.up_taps), max((1, *own.down_taps))
        self.rates = Rates.of(before.size + own.kernel - 1, own.size, up, down, *taps)
        self.clamp, self.before = config.conv_clamp, before.margin

    def reading(self) -> Reading:
        """Return how the convolution reads its input; demodulation, bias and filters come after it."""
        kernel = self.weight.shape[2]
        margin_out = self.before + (kernel - 1) // 2
        return Reading("weight", padding=(kernel - 1, kernel - 1), margin=self.before, margin_out=margin_out)

    def keyed(self, x: Tensor, style: Tensor) -> Tensor:
        """Return what enters the convolution."""
        return x * style

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Return features [N, outputs, size, size] of x [N, inputs, h, w] and w [N, w_dim]."""
        styles = self.affine(w)
        # The paper divides weights and styles by their root mean squares before it demodulates. These factors cancel
        # there but in its 1e-8, and so stand here: of the unit's weights, and of the sample's own styles (decision
        # "StyleGAN3: one image at a time"; the published code takes the styles' over the batch).
        flat, squares = styles[:, :, 0, 0].square(), self.weight.square()
        energy = flat @ squares.sum((2, 3)).T + 1e-8 * flat.mean(1)[:, None] * squares.mean((1, 2, 3))
        scale = torch.rsqrt(energy.clamp_min(SMALLEST) * self.magnitude_ema)
        x = F.conv2d(self.keyed(x, styles), self.weight, padding=self.weight.shape[2] - 1)
        x = x * scale[:, :, None, None] + self.bias[:, None, None]
        up = self.up_filter if self.has_filters[0] else x.new_ones(1)
        down = self.down_filter if self.has_filters[1] else x.new_ones(1)
        return filtered_leaky_relu(x, up, down, self.rates, GAIN, self.clamp)


class ToImage(nn.Module):
    """Modulated convolution without demodulation and filters, bias, clamp."""

    magnitude_ema: Tensor
    style = "affine"

    def __init__(self, config: Config) -> None:
        super().__init__()
        own, before = config.layers[-1], config.layers[-2]
        self.weight = nn.Parameter(torch.empty(own.outputs, own.inputs, own.kernel, own.kernel))
        self.bias = nn.Parameter(torch.empty(own.outputs))
        self.affine = Style(config.w_dim, own.inputs)
        self.register_buffer("magnitude_ema", torch.empty(()))
        self.clamp, self.before = config.conv_clamp, before.margin

    def reading(self) -> Reading:
        """Return how the convolution reads its input."""
        return Reading("weight", margin=self.before, margin_out=self.before)

    def keyed(self, x: Tensor, style: Tensor) -> Tensor:
        """Return what enters the convolution."""
        return x * (style / math.sqrt(self.weight.shape[1]))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Return [N, colors, h, w]."""
        x = F.conv2d(self.keyed(x, self.affine(w)), self.weight) * torch.rsqrt(self.magnitude_ema)
        return bounded(x + self.bias[:, None, None], self.clamp)


class Network(nn.Module):
    """Mapping and synthesis."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.mapping = Mapping(config.mapping())
        parts: dict[str, nn.Module] = {"input": Fourier(config)}
        for index, layer in enumerate(config.layers[:-1]):
            parts[layer.name] = FilteredConv(config, index)
        self.synthesis = nn.ModuleDict(parts | {config.layers[-1].name: ToImage(config)})
