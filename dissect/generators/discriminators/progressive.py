"""The discriminator of ProGAN (Karras et al., ICLR 2018), under the names of pytorch_GAN_zoo.

From an image by 1x1 convolution, scales of two 3x3 convolutions and an average each, at 4x4 the deviation over a group
of images as one more channel, a convolution, two linear layers. What a layer gives, its bias with it, is multiplied by
sqrt(2 / fan-in). Leaky ReLUs have a slope of 0.2 and no gain. Taken at full growth (alpha 0).
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
GROUP = 4  # images, in the public code
KEY = re.compile(
    r"(fromRGBLayers\.\d+|scaleLayers\.\d+\.[01]|groupScaleZero\.[01]|decisionLayer)\.module\.(weight|bias)"
)
Tensors = Mapping[str, Tensor]


class Equal(nn.Module):
    """A convolution or a linear map whose output is multiplied by sqrt(2 / fan-in)."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight.float()), nn.Parameter(bias.float())
        self.gain = math.sqrt(2 / weight[0].numel())

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs, H, W], or [N, outputs]."""
        if self.weight.ndim == 2:
            return F.linear(x, self.weight, self.bias) * self.gain
        return F.conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2) * self.gain


class Network(nn.Module):
    """The whole of it; ``deviation`` is whether the last convolution takes one channel more than there are."""

    def __init__(self, parts: Mapping[str, Equal], scales: int, deviation: bool) -> None:
        super().__init__()
        self.fromrgb = parts[f"fromRGBLayers.{scales}"]
        self.scales = nn.ModuleList(
            nn.ModuleList(parts[f"scaleLayers.{scale}.{place}"] for place in (0, 1))
            for scale in reversed(range(scales))
        )
        self.last = nn.ModuleList([parts["groupScaleZero.0"], parts["groupScaleZero.1"]])
        self.decision, self.deviation = parts["decisionLayer"], deviation

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Return scores [N] of images that are compared with each other; there are no labels."""
        x = F.leaky_relu(self.fromrgb(images), 0.2)
        for pair in self.scales:
            assert isinstance(pair, nn.ModuleList)
            for layer in pair:
                x = F.leaky_relu(layer(x), 0.2)
            x = F.avg_pool2d(x, 2)
        x = F.leaky_relu(self.last[0](_with_deviation(x) if self.deviation else x), 0.2)
        x = F.leaky_relu(self.last[1](x.flatten(1)), 0.2)
        return self.decision(x)[:, 0]


def of_ganzoo(tensors: Tensors) -> dict[str, Tensor] | None:
    """Return the tensors, None if they are others."""
    return dict(tensors) if "decisionLayer.module.weight" in tensors else None


def build(tensors: Tensors) -> tuple[Network, int]:
    """Return the network with its weights, and the resolution of its images.

    Raises:
        GanatomyError: for tensors that are missing, unknown, or of shapes that do not go together.
    """
    if odd := sorted(key for key in tensors if not KEY.fullmatch(key)):
        raise GanatomyError(f"unexpected key {odd[0]}")
    scales = len({key.split(".")[1] for key in tensors if key.startswith("scaleLayers.")})
    wanted = [f"fromRGBLayers.{scale}" for scale in range(scales + 1)]
    wanted += [f"scaleLayers.{scale}.{place}" for scale in range(scales) for place in (0, 1)]
    wanted += ["groupScaleZero.0", "groupScaleZero.1", "decisionLayer"]
    parts = {name: _part(name, tensors) for name in wanted}
    width = tensors[f"fromRGBLayers.{scales}.module.weight"].shape[0]
    for scale in reversed(range(scales)):
        for place in (0, 1):
            width = _joined(f"scaleLayers.{scale}.{place}", parts, width)
    deviation = parts["groupScaleZero.0"].weight.shape[1] == width + 1
    width = _joined("groupScaleZero.0", parts, width + deviation)
    _joined("decisionLayer", parts, _joined("groupScaleZero.1", parts, 16 * width))
    return Network(parts, scales, deviation), 4 * 2**scales


def _part(name: str, tensors: Tensors) -> Equal:
    """Return a layer with its weights, checked by themselves."""
    kernel = 1 if name.startswith("from") else 3 if name[0] == "s" or name.endswith("Zero.0") else 0
    for what in ("weight", "bias"):
        if f"{name}.module.{what}" not in tensors:
            raise GanatomyError(f"{name}.module.{what} is missing")
    weight, bias = tensors[f"{name}.module.weight"], tensors[f"{name}.module.bias"]
    if weight.shape[2:] != ((kernel, kernel) if kernel else ()) or weight.ndim != (4 if kernel else 2):
        size = f"a kernel of {kernel} x {kernel}" if kernel else "2 dimensions"
        raise GanatomyError(f"expected {name}.module.weight with {size}, got {list(weight.shape)}")
    if bias.shape != weight.shape[:1]:
        raise GanatomyError(f"expected {name}.module.bias {list(weight.shape[:1])}, got {list(bias.shape)}")
    return Equal(weight, bias)


def _joined(name: str, parts: Mapping[str, Equal], inputs: int) -> int:
    """Return how many outputs a layer has; GanatomyError unless it takes as many inputs as there are."""
    outputs, taken = parts[name].weight.shape[:2]
    if taken != inputs:
        raise GanatomyError(f"expected {name}.module.weight with {inputs} inputs, it has {taken}")
    return int(outputs)


def _with_deviation(x: Tensor) -> Tensor:
    """Return x [N, C, 4, 4] with one channel more: the mean deviation over its images, 0 for a single one."""
    if len(x) == 1:
        return torch.cat([x, x.new_zeros(1, 1, *x.shape[2:])], 1)
    mean = x.var(0).add(EPSILON).sqrt().mean()
    return torch.cat([x, mean.expand(len(x), 1, *x.shape[2:])], 1)
