"""A residual generator of the kind of WGAN-GP (Gulrajani et al., 2017, appendix), small, as its owner would write it.

No catalogue knows it: ``dissect.load("residual:make")`` opens it, since a factory is all that is asked for.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Up(nn.Module):
    """Upsampling residual block: norm, ReLU, enlarge, convolve, norm, ReLU, convolve; beside it enlarge and mix."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.interpolate(F.relu(self.norm1(x)), scale_factor=2)
        h = self.conv2(F.relu(self.norm2(self.conv1(h))))
        return h + self.shortcut(F.interpolate(x, scale_factor=2))


class Residual(nn.Module):
    """4 x 4 by a linear layer, then blocks to 32 x 32. ``z_dim`` is what ``dissect.load`` reads."""

    z_dim = 16

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.width = width
        self.project = nn.Linear(self.z_dim, 16 * width)
        self.blocks = nn.ModuleList([Up(width, width) for _ in range(3)])
        self.norm = nn.BatchNorm2d(width)
        self.to_rgb = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.project(z).view(-1, self.width, 4, 4)
        for block in self.blocks:
            x = block(x)
        return torch.tanh(self.to_rgb(F.relu(self.norm(x))))


def make() -> nn.Module:
    """Build it and load its weights; here they are random, with a contrast that shows."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        made = Residual()
        nn.init.normal_(made.to_rgb.weight, std=0.15)
        return made
