"""The discriminator of the first StyleGAN (Karras et al., CVPR 2019), under the names of rosinality's port.

From an image by 1x1 convolution; blocks of a 3x3 convolution, a blur of [1, 2, 1] both ways and a second convolution
that halves: with an average after it, or at every other pixel by kernels that are averaged themselves (fused). At 4x4
the deviation over a group of images as one more channel. Weights have gains of sqrt(2 / fan-in), leaky ReLUs a slope of
0.2 and no gain. A file has blocks for all sizes; ``step`` says which of them look at the image, as for the generator.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segmodels import GanatomyError

EPSILON = 1e-8  # under the root of a group's variance
FILTER = (1.0, 2.0, 1.0)
ORIGINAL = "weight_orig"  # what is multiplied by a gain at run time
CLOSE = 1e-4  # what a stored blur may differ by from [1, 2, 1]
GROUP = 4  # images; the public code takes whatever a batch is
KEY = re.compile(
    r"(progression\.\d+\.conv[12]\.[01]\.conv|from_rgb\.\d+(?:\.0)?\.conv|linear\.linear)\.(weight_orig|bias)"
    r"|progression\.\d+\.conv2\.1\.(weight|bias)"
)
BLUR = re.compile(r"progression\.\d+\.conv2\.0\.weight(_flip)?")
Tensors = Mapping[str, Tensor]


class Equal(nn.Module):
    """A convolution or linear map with a runtime gain, ``gain`` over the root of its fan-in.

    ``fused`` ones halve by averaged kernels.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, *, fused: bool = False, padding: int = 0, gain: float = math.sqrt(2)
    ) -> None:  # fmt: skip
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight.float()), nn.Parameter(bias.float())
        self.gain, self.fused, self.padding = gain / math.sqrt(weight[0].numel()), fused, padding

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs, H, W], or [N, outputs]."""
        weight = self.weight * self.gain
        if weight.ndim == 2:
            return F.linear(x, weight, self.bias)
        if not self.fused:
            return F.conv2d(x, weight, self.bias, padding=self.padding)
        around = F.pad(weight, (1, 1, 1, 1))
        mean = (around[..., 1:, 1:] + around[..., :-1, 1:] + around[..., 1:, :-1] + around[..., :-1, :-1]) / 4
        return F.conv2d(x, mean, self.bias, stride=2, padding=self.padding)


def equal(
    tensors: Tensors, name: str, part: str = "weight", *, kernel: int = 3, inputs: int | None = None, padding: int = 0,
    fused: bool = False, gain: float = math.sqrt(2),
) -> Equal:  # fmt: skip
    """Return a layer of a file, checked.

    Args:
        name: its tensors are ``name.part`` and ``name.bias``.
        kernel: pixels a side; 0 for a linear map. inputs: as many as there are; None for any.

    Raises:
        GanatomyError: for tensors that are missing or of other shapes.
    """
    keys = f"{name}.{part}", f"{name}.bias"
    for key in keys:
        if key not in tensors:
            raise GanatomyError(f"{key} is missing")
    weight, bias = (tensors[key] for key in keys)
    size = [kernel, kernel] if kernel else []
    if weight.ndim != (4 if kernel else 2) or list(weight.shape[2:]) != size or inputs not in (None, weight.shape[1]):
        wanted = ", ".join(map(str, ["outputs", inputs or "inputs", *size]))
        raise GanatomyError(f"expected {keys[0]} [{wanted}], got {list(weight.shape)}")
    if bias.shape != weight.shape[:1]:
        raise GanatomyError(f"expected {keys[1]} {list(weight.shape[:1])}, got {list(bias.shape)}")
    return Equal(weight, bias, fused=fused, padding=padding, gain=gain)


def blurred(x: Tensor) -> Tensor:
    """Return x [N, C, H, W] filtered by [1, 2, 1] / 4 both ways, zero outside."""
    row = x.new_tensor(FILTER) / 4
    return F.conv2d(x, torch.outer(row, row).expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])


def is_filter(value: Tensor) -> bool:
    """Whether a stored blur [C, 1, 3, 3] is the one of every published file."""
    row = torch.tensor(FILTER) / 4
    return value.shape[1:] == (1, 3, 3) and torch.allclose(
        value.float().cpu(), torch.outer(row, row).expand(value.shape), CLOSE, CLOSE
    )


class Block(nn.Module):
    """Two convolutions; all but the last block halve."""

    def __init__(self, conv1: Equal, conv2: Equal, *, halves: bool) -> None:
        super().__init__()
        self.conv1, self.conv2, self.halves = conv1, conv2, halves

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs, H / 2, W / 2], or [N, outputs, 1, 1] of the last."""
        x = F.leaky_relu(self.conv1(x), 0.2)
        if not self.halves:
            return F.leaky_relu(self.conv2(x), 0.2)
        x = self.conv2(blurred(x))
        return F.leaky_relu(x if self.conv2.fused else F.avg_pool2d(x, 2), 0.2)


class Network(nn.Module):
    """The blocks that look at the image, the largest first."""

    def __init__(self, fromrgb: Equal, activated: bool, blocks: list[Block], linear: Equal) -> None:
        super().__init__()
        self.fromrgb, self.activated, self.blocks, self.linear = fromrgb, activated, nn.ModuleList(blocks), linear

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Return scores [N] of images that are compared with each other; there are no labels."""
        x = self.fromrgb(images)
        x = F.leaky_relu(x, 0.2) if self.activated else x
        for block in self.blocks[:-1]:
            x = block(x)
        deviation = (x.var(0, unbiased=False) + EPSILON).sqrt().mean().expand(len(x), 1, *x.shape[2:])
        return self.linear(self.blocks[-1](torch.cat([x, deviation], 1)).flatten(1))[:, 0]


def of_rosinality(tensors: Tensors) -> dict[str, Tensor] | None:
    """Return the tensors without those of the blur, None if they are others; GanatomyError for another blur."""
    if "progression.0.conv1.0.conv.weight_orig" not in tensors or "linear.linear.weight_orig" not in tensors:
        return None
    for key, value in tensors.items():
        if BLUR.fullmatch(key) and not is_filter(value):
            raise GanatomyError(f"{key} is not the standard filter of this family; not supported")
    return {key: value for key, value in tensors.items() if not BLUR.fullmatch(key)}


def build(tensors: Tensors, step: int | None) -> tuple[Network, int, int]:
    """Return the network with its weights, the resolution of its images, and its step.

    Args:
        step: 0 looks at 4 x 4 pixels, each more at twice the side; the last if None.

    Raises:
        GanatomyError: for tensors that are missing, unknown, or of shapes that do not go together; for no such step.
    """
    if odd := sorted(key for key in tensors if not KEY.fullmatch(key)):
        raise GanatomyError(f"unexpected key {odd[0]}")
    count = len({key.split(".")[1] for key in tensors if key.startswith("progression.")})
    if step is not None and not 0 <= step < count:
        raise GanatomyError(f"expected a step from 0 to {count - 1}, got {step}")
    chosen = count - 1 if step is None else step
    first = count - 1 - chosen
    activated = f"from_rgb.{first}.0.conv.weight_orig" in tensors
    fromrgb = equal(tensors, f"from_rgb.{first}{'.0' if activated else ''}.conv", ORIGINAL, kernel=1)
    width, blocks = fromrgb.weight.shape[0], []
    for index in range(first, count):
        last = index == count - 1
        conv1 = equal(tensors, f"progression.{index}.conv1.0.conv", ORIGINAL, inputs=width + last, padding=1)
        inputs, fused = conv1.weight.shape[0], f"progression.{index}.conv2.1.weight" in tensors
        if last:
            conv2 = equal(tensors, f"progression.{index}.conv2.0.conv", ORIGINAL, kernel=4, inputs=inputs)
        elif fused:
            conv2 = equal(tensors, f"progression.{index}.conv2.1", inputs=inputs, padding=1, fused=True)
        else:
            conv2 = equal(tensors, f"progression.{index}.conv2.1.conv", ORIGINAL, inputs=inputs, padding=1)
        width = conv2.weight.shape[0]
        blocks.append(Block(conv1, conv2, halves=not last))
    linear = equal(tensors, "linear.linear", ORIGINAL, kernel=0, inputs=width)
    return Network(fromrgb, activated, blocks, linear), 4 * 2**chosen, chosen
