"""The PGGAN network (Karras et al., ICLR 2018), for inference in float32.

Written from the paper and measured facts; parameters carry the names of the GAN dissection checkpoints. Upsampling is
nearest neighbour, then a plain conv: the fused transposed conv that some checkpoints were trained with is the same
function of the same numbers, in another order (``pggan_layouts`` turns them).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .convolutions import Reading
from .stylebased import pixel_norm

SLOPE = 0.2  # of the leaky ReLU


class Blended:
    """What follows from a level of detail: which block is the last to run, and how two heads share the image."""

    lod: float  # how many blocks fewer run than there are; between two whole numbers is a blend

    @property
    def shown(self) -> int:
        """The block of whose size images are; 0 is 4 x 4."""
        raise NotImplementedError

    @property
    def finest(self) -> int:
        """The last block that runs."""
        return self.shown - math.floor(self.lod)

    @property
    def fade(self) -> float:
        """Share of the image that comes from the block before the finest, 0 <= fade < 1."""
        return self.lod - math.floor(self.lod)

    @property
    def drawing(self) -> tuple[int, ...]:
        """Blocks whose heads draw, in order."""
        return (self.finest - 1, self.finest) if self.fade else (self.finest,)


@dataclass(frozen=True)
class Config(Blended):
    """What determines a network.

    Attributes:
        channels: of layers 1, 2, 3, …; each resolution has two.
        heads: blocks (0 is 4 x 4) that have a 1x1 conv to an image, in order; the last block always has one.
        num_classes: 0 for unconditional ones; ``label`` says how a one-hot class joins z: ``joined`` (then the pixel
            norm of both), ``after`` (after a pixel norm of z alone; then that of both).
        scaled_bias: whether the runtime gain multiplies the biases too, as in pytorch_GAN_zoo.
        lod: level of detail: 0 draws with the last head, 1 with the one before; between them is a blend.
        stored_lod: whether lod is a buffer of the network.
    """

    z_dim: int
    channels: tuple[int, ...]
    heads: tuple[int, ...]
    colors: int = 3
    num_classes: int = 0
    label: str = "after"
    scaled_bias: bool = False
    lod: float = 0.0
    stored_lod: bool = False

    @property
    def blocks(self) -> int:
        """Number of resolutions."""
        return len(self.channels) // 2

    @property
    def resolution(self) -> int:
        """Pixels of a side."""
        return int(4 * 2 ** (self.blocks - 1))

    @property
    def shown(self) -> int:
        """The block of whose size images are: the last one."""
        return self.blocks - 1


def head_name(block: int, blocks: int) -> str:
    """Return the canonical name of a block's head, which says how large it draws and how large the images are.

    Both, since some layouts count heads from the smallest on and some from the largest: ``output_16x16`` of a network
    of 16 pixels, ``output_16x16_of_64`` of one of 64.
    """
    side, full = 4 * 2**block, 4 * 2 ** (blocks - 1)
    return f"output_{side}x{side}" + ("" if side == full else f"_of_{full}")


def doubled(x: Tensor, times: int = 1) -> Tensor:
    """Return x [N, C, H, W] with every pixel repeated, so often doubled in height and width."""
    return x if times == 0 else F.interpolate(x, scale_factor=2.0**times, mode="nearest")


class Conv(nn.Module):
    """A convolution without gain and bias."""

    def __init__(self, inputs: int, outputs: int, kernel: int, padding: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        self.padding = padding

    def reading(self) -> Reading:
        """Return how it reads its input; the runtime gain comes after it."""
        return Reading("weight", padding=(self.padding, self.padding))

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs, H + 2 padding - kernel + 1, …]."""
        return F.conv2d(x, self.weight, padding=self.padding)


class Scale(nn.Module):
    """Runtime gain and bias.

    Args:
        shape: of the bias: [C], or [C, H, W] for one of every pixel.
        inside: whether the gain multiplies the bias too.
    """

    def __init__(self, shape: tuple[int, ...], gain: float, inside: bool) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.empty(shape))
        self.gain = gain
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, C, H, W], what the leaky ReLU gets."""
        bias = self.b if self.b.ndim == 3 else self.b[:, None, None]
        return (x + bias) * self.gain if self.inside else x * self.gain + bias


class Block(nn.Module):
    """One layer: pixel norm, nearest upsampling, conv, gain and bias, leaky ReLU.

    Args:
        index: 1 is the first, which makes 4 x 4 pixels of one; 3, 5, 7, … upsample.
    """

    def __init__(self, config: Config, index: int) -> None:
        super().__init__()
        first, outputs = index == 1, config.channels[index - 1]
        inputs = config.z_dim + config.num_classes if first else config.channels[index - 2]
        kernel, padding = (4, 3) if first else (3, 1)
        # pytorch_GAN_zoo counts the inputs of a linear layer, and gives every output pixel its own bias.
        linear = first and config.scaled_bias
        fan_in = inputs if linear else inputs * kernel**2
        self.conv = Conv(inputs, outputs, kernel, padding)
        shape = (outputs, 4, 4) if linear else (outputs,)
        self.wscale = Scale(shape, math.sqrt(2 / fan_in), config.scaled_bias)
        self.up = index % 2 == 1 and not first

    def forward(self, x: Tensor) -> Tensor:
        """Return features [N, outputs, h, w], not normalised: the next layer's pixel norm does that."""
        x = pixel_norm(x)
        x = self.wscale(self.conv(doubled(x) if self.up else x))
        return F.leaky_relu(x, SLOPE)


class Head(nn.Module):
    """From features to an image: pixel norm, 1x1 conv, gain and bias."""

    def __init__(self, config: Config, block: int) -> None:
        super().__init__()
        inputs = config.channels[2 * block + 1]
        self.conv = Conv(inputs, config.colors, 1, 0)
        gain = math.sqrt((2 if config.scaled_bias else 1) / inputs)
        self.wscale = Scale((config.colors,), gain, config.scaled_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, colors, h, w]."""
        return self.wscale(self.conv(pixel_norm(x)))


class Network(nn.Module):
    """The layers and the heads; the generator's stages call them."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        for index in range(1, len(config.channels) + 1):
            self.add_module(f"layer{index}", Block(config, index))
        for block in config.heads:
            self.add_module(head_name(block, config.blocks), Head(config, block))
        if config.stored_lod:
            self.register_buffer("lod", torch.empty(()))
