"""The projection discriminator of BigGAN (Brock et al., ICLR 2019), under the names of its public PyTorch code.

Residual blocks (ReLUs before the convolutions, but for the first block) that halve by averages, self-attention after
the block that the file has it in, a sum over places, and a score: a linear map of that plus its product with the
class's embedding (Miyato and Koyama, ICLR 2018). Weights are divided by their spectral norm where the file has ``u0``
beside them, as in the generator. SAGAN's configuration is of the same class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segmodels import GanatomyError

from ..biggan_network import Attention
from ..spectral import as_matrix, divided, iterated

EPSILON = 1e-6  # of the power iteration, as the generator's ``SN_eps``
CONV = re.compile(r"blocks\.(\d+)\.0\.conv1\.weight")
WHOLE = 4  # blocks, of which the last two keep the size: the architecture for 32 x 32
Tensors = Mapping[str, Tensor]


class Block(nn.Module):
    """Two convolutions beside a shortcut, and perhaps half the size.

    Args:
        first: whether it is the first, which looks at the image itself. halves: whether the size becomes half.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, *, first: bool, halves: bool, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, outputs, 3, padding=1)
        self.conv_sc = nn.Conv2d(inputs, outputs, 1) if shortcut else None
        self.first, self.halves = first, halves

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs, h, w]."""
        inside = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x))))
        if self.halves:
            inside = F.avg_pool2d(inside, 2)
        beside = F.avg_pool2d(x, 2) if self.first and self.halves else x
        if self.conv_sc is not None:
            beside = self.conv_sc(beside)
        return inside + (F.avg_pool2d(beside, 2) if self.halves and not self.first else beside)


class Network(nn.Module):
    """The whole of it; ``shapes`` are those of the file's tensors."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        count = len([key for key in shapes if CONV.fullmatch(key)])
        self.blocks = nn.ModuleList()
        for index in range(count):
            hidden, inputs = shapes[f"blocks.{index}.0.conv1.weight"][:2]
            outputs = shapes[f"blocks.{index}.0.conv2.weight"][0]
            halves = index < (2 if count == WHOLE else count - 1)
            shortcut = f"blocks.{index}.0.conv_sc.weight" in shapes
            parts: list[nn.Module] = [
                Block(inputs, hidden, outputs, first=not index, halves=halves, shortcut=shortcut)
            ]  # fmt: skip
            if (theta := shapes.get(f"blocks.{index}.1.theta.weight")) is not None:
                parts.append(Attention(outputs, theta[0], shapes[f"blocks.{index}.1.g.weight"][0]))
            self.blocks.append(nn.ModuleList(parts))
        width = shapes["linear.weight"][1]
        self.linear = nn.Linear(width, 1)
        classes = shapes.get("embed.weight", (0,))[0]
        self.embed = nn.Embedding(classes, width) if classes else None

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Return scores [N] of images [N, 3, R, R] and one-hot labels [N, num_classes]."""
        x = images
        for parts in self.blocks:
            assert isinstance(parts, nn.ModuleList)
            for part in parts:
                x = part(x)
        x = F.relu(x).sum((2, 3))
        score = self.linear(x)[:, 0]
        if self.embed is None:
            return score
        assert labels is not None  # which is asked for before
        return score + ((labels @ self.embed.weight) * x).sum(1)


def of_ajbrock(tensors: Tensors) -> dict[str, Tensor] | None:
    """Return the tensors, None if they are others."""
    if "linear.weight" not in tensors or "blocks.0.0.conv2.weight" not in tensors:
        return None
    return dict(tensors) if tensors["linear.weight"].shape[:1] == (1,) else None


def build(tensors: Tensors) -> tuple[Network, int]:
    """Return the network with its weights divided, and the resolution of its images.

    Raises:
        GanatomyError: for tensors that are missing, unknown, or of shapes that do not go together.
    """
    weights = {key: value for key, value in tensors.items() if not re.search(r"\.(u|sv)\d+$", key)}
    numbers = sorted(int(m[1]) for key in weights if (m := CONV.fullmatch(key)))
    if numbers != list(range(len(numbers))) or len(numbers) < WHOLE:
        raise GanatomyError(f"expected blocks 0 to {WHOLE - 1} or more in a row, found {len(numbers)}")
    for number in numbers:
        for name in ("conv1", "conv2"):
            if (key := f"blocks.{number}.0.{name}.weight") not in weights or weights[key].ndim != 4:
                raise GanatomyError(f"expected {key} with 4 dimensions")
        if f"blocks.{number}.1.theta.weight" in weights and f"blocks.{number}.1.g.weight" not in weights:
            raise GanatomyError(f"blocks.{number}.1.g.weight is missing")
        for name in ("theta", "g"):
            if (key := f"blocks.{number}.1.{name}.weight") in weights and weights[key].ndim != 4:
                raise GanatomyError(f"expected {key} with 4 dimensions")
    for key in ("linear.weight", "embed.weight"):
        if key in weights and weights[key].ndim != 2:
            raise GanatomyError(f"expected {key} with 2 dimensions, it has {weights[key].ndim}")
    _check_joined(weights, numbers)
    with torch.device("meta"):  # shapes that do not go together may be larger than any memory
        network = Network({key: tuple(value.shape) for key, value in weights.items()})
    wanted = network.state_dict()
    if odd := sorted(set(weights) ^ set(wanted)):
        raise GanatomyError(f"unexpected key {odd[0]}" if odd[0] in weights else f"{odd[0]} is missing")
    for key, value in wanted.items():
        if weights[key].shape != value.shape:
            raise GanatomyError(f"expected {key} {list(value.shape)}, got {list(weights[key].shape)}")
    network.load_state_dict({key: _divided(key, value, tensors) for key, value in weights.items()}, assign=True)
    return network, 32 if len(numbers) == WHOLE else 4 * 2 ** (len(numbers) - 1)


def _check_joined(weights: Tensors, numbers: list[int]) -> None:
    """Refuse blocks that do not take what the one before gives, or have no shortcut where widths change."""
    width = weights["blocks.0.0.conv1.weight"].shape[1]
    for number in numbers:
        name, outputs = f"blocks.{number}.0", weights[f"blocks.{number}.0.conv2.weight"].shape[0]
        if (taken := weights[f"{name}.conv1.weight"].shape[1]) != width:
            raise GanatomyError(f"expected {name}.conv1.weight with {width} inputs, it has {taken}")
        if width != outputs and f"{name}.conv_sc.weight" not in weights:
            raise GanatomyError(f"{name}.conv_sc.weight is missing")
        width = outputs
    if (taken := weights["linear.weight"].shape[1]) != width:
        raise GanatomyError(f"expected linear.weight with {width} inputs, it has {taken}")


def _divided(key: str, weight: Tensor, tensors: Tensors) -> Tensor:
    """Return a weight over its spectral norm by one step from the kept vector, if there is one."""
    start = tensors.get(f"{key.removesuffix('weight')}u0") if key.endswith("weight") else None
    if start is None:
        return weight.float()
    if start.numel() != len(weight):
        raise GanatomyError(f"expected {key.removesuffix('weight')}u0 of {len(weight)} values, got {start.numel()}")
    return divided(weight, iterated(as_matrix(weight, False), start, 1, EPSILON), key)
