"""Small generators whose every value is known: opaque modules with taps, and DCGAN state dicts with a reference."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn


class Split(nn.Module):
    """Returns a tuple with a dict inside."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x):
        x = self.conv(x)
        return x, {"half": x * 0.5, "mean": x.mean((2, 3))}


class Tangled(nn.Module):
    """Everything that makes hooks hard: reuse, in-place, tuples, dicts, skips, and modules that are no layers.

    ``tap(name, value)`` sees and may exchange every value that is a layer, without hooks: the oracle. Class
    conditional if ``num_classes`` is given.
    """

    LAYERS = (
        "act", "conv1", "act@2", "up", "split.conv", "split:0", "split:1:half", "up@2", "conv2", "rgb.0", "rgb.1",
        "rgb",
    )  # fmt: skip
    Z_DIM = 5

    def __init__(self, seed=0, num_classes=None):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.fc = nn.Linear(self.Z_DIM, 6 * 4 * 4)
            self.embed = nn.Embedding(num_classes, 6 * 4 * 4) if num_classes else None
            self.act = nn.ReLU(inplace=True)
            self.conv1 = nn.Conv2d(6, 6, 3, padding=1)
            self.up = nn.Upsample(scale_factor=2)
            self.split = Split()
            self.conv2 = nn.Conv2d(6, 5, 3, padding=1)
            self.rgb = nn.Sequential(nn.Conv2d(5, 3, 1), nn.Tanh())
            self.unused = nn.Conv2d(1, 1, 1)
        self.tap = lambda name, value: value

    def forward(self, z, classes=None):
        tap = self.tap
        x = self.fc(z)
        if self.embed is not None:
            x = x + self.embed(classes)
        x = tap("act", self.act(x.view(-1, 6, 4, 4)))
        y = tap("conv1", self.conv1(x))
        y = tap("act@2", self.act(y)) + x
        a, b = self.split(tap("up", self.up(y)))
        a, half = tap("split:0", a), tap("split:1:half", b["half"])
        y = tap("up@2", self.up(a + half))
        y = tap("conv2", self.conv2(y))
        return tap("rgb", self.rgb(y))


def chain(seed=0):
    """A plain ``nn.Sequential``; modules overwrite what the one before them returned, or return it itself."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.ConvTranspose2d(5, 6, 4),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.LeakyReLU(0.5, inplace=True)),
            nn.Identity(),
            nn.Sequential(nn.LeakyReLU(0.3, inplace=True), nn.Conv2d(8, 3, 1)),
        )


def dcgan_tensors(widths=(7, 8, 6, 4), channels=3, first=4, bias=False, seed=0):
    """Return a state dict of random weights: latent 7, then 4, 8, 16 and 32 px (with the defaults)."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=random)

    tensors = {}
    sizes = [*widths, channels]
    for place, (inputs, outputs) in enumerate(pairwise(sizes)):
        kernel = first if place == 0 else 4
        index = 3 * place
        tensors[f"main.{index}.weight"] = draw(inputs, outputs, kernel, kernel) * (0.6 / inputs**0.5)
        if bias:
            tensors[f"main.{index}.bias"] = draw(outputs) * 0.1
        if place < len(sizes) - 2:
            norm = f"main.{index + 1}."
            tensors |= {
                norm + "weight": 1 + 0.2 * draw(outputs),
                norm + "bias": 0.2 * draw(outputs),
                norm + "running_mean": 0.2 * draw(outputs),
                norm + "running_var": 0.5 + draw(outputs).abs(),
                norm + "num_batches_tracked": torch.tensor(9),
            }
    return tensors


def dcgan_reference(tensors):
    """Return the same network written out with ``nn.Sequential``, by position."""
    count = max(int(key.split(".")[1]) for key in tensors) // 3 + 1
    modules = []
    for place in range(count):
        weight = tensors[f"main.{3 * place}.weight"]
        conv = nn.ConvTranspose2d(
            weight.shape[0],
            weight.shape[1],
            weight.shape[2],
            stride=2 if place else 1,
            padding=1 if place else 0,
            bias=f"main.{3 * place}.bias" in tensors,
        )
        modules += [conv, nn.BatchNorm2d(weight.shape[1]), nn.ReLU()] if place < count - 1 else [conv, nn.Tanh()]
    network = nn.Sequential(*modules)
    network.load_state_dict({key.removeprefix("main."): value for key, value in tensors.items()})
    return network.eval()
