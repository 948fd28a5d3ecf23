"""StyleGAN2 written out by hand in float64, one sample at a time: slow, and different from the product's code."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F


def random_tensors(
    channels=(6, 5, 4), z_dim=8, w_dim=7, mapping_layers=2, num_classes=0, architecture="skip", noise=True, colors=3,
    seed=0,
):  # fmt: skip
    """A state dict with the names of the public PyTorch code, in which every tensor matters."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape, mean=0.0, std=1.0):
        return mean + std * torch.randn(shape, generator=random)

    tensors = {"mapping.w_avg": normal(w_dim, std=0.3)}
    inputs = z_dim
    if num_classes:
        tensors |= {"mapping.embed.weight": normal(w_dim, num_classes), "mapping.embed.bias": normal(w_dim, std=0.3)}
        inputs += w_dim
    for index in range(mapping_layers):
        tensors[f"mapping.fc{index}.weight"] = normal(w_dim, inputs, std=100)
        tensors[f"mapping.fc{index}.bias"] = normal(w_dim, std=30)
        inputs = w_dim

    def conv(name, inside, outside, kernel, size=None):
        tensors[f"{name}.weight"] = normal(outside, inside, kernel, kernel)
        tensors[f"{name}.bias"] = normal(outside, std=0.3)
        tensors[f"{name}.affine.weight"] = normal(inside, w_dim)
        tensors[f"{name}.affine.bias"] = normal(inside, mean=1.0, std=0.2)
        if size and noise:
            tensors[f"{name}.noise_const"] = normal(size, size)
            tensors[f"{name}.noise_strength"] = normal(std=0.3)

    tensors["synthesis.b4.const"] = normal(channels[0], 4, 4)
    for index, width in enumerate(channels):
        block, size = f"synthesis.b{4 * 2**index}", 4 * 2**index
        if index:
            conv(f"{block}.conv0", channels[index - 1], width, 3, size)
            if architecture == "resnet":
                tensors[f"{block}.skip.weight"] = normal(width, channels[index - 1], 1, 1)
        conv(f"{block}.conv1", width, width, 3, size)
        if architecture == "skip" or index == len(channels) - 1:
            conv(f"{block}.torgb", width, colors, 1)
    return tensors


def fir(image, before, after, gain):
    """Pad, then correlate with the outer product of [1, 3, 3, 1] / 8."""
    row = torch.tensor([1.0, 3, 3, 1], dtype=torch.float64) / 8
    kernel = (torch.outer(row, row) * gain)[None, None]
    padded = F.pad(image, (before, after, before, after))
    return torch.cat([F.conv2d(padded[:, c : c + 1], kernel) for c in range(image.shape[1])], dim=1)


def spread(image):
    """Insert a zero after every row and column."""
    n, c, h, w = image.shape
    wide = torch.zeros(n, c, 2 * h, 2 * w, dtype=image.dtype)
    wide[:, :, ::2, ::2] = image
    return wide


def norm(x):
    return x / torch.sqrt((x**2).mean() + 1e-8)


class Reference:
    """The generator of a state dict; all in float64."""

    def __init__(self, tensors, clamp=None):
        self.t = {key: value.double() for key, value in tensors.items()}
        self.blocks = sorted(int(k.split(".")[1][1:]) for k in tensors if k.endswith("conv1.weight"))
        self.clamp = clamp

    def w(self, z, label=None):
        """Map one z [z_dim] (and a class) to w [w_dim]."""
        x = norm(z.double())
        if label is not None:
            weight = self.t["mapping.embed.weight"]
            x = torch.cat([x, norm(weight[:, label] / math.sqrt(weight.shape[1]) + self.t["mapping.embed.bias"])])
        index = 0
        while f"mapping.fc{index}.weight" in self.t:
            weight, bias = self.t[f"mapping.fc{index}.weight"], self.t[f"mapping.fc{index}.bias"]
            x = math.sqrt(2) * F.leaky_relu(weight @ x * 0.01 / math.sqrt(len(x)) + 0.01 * bias, 0.2)
            index += 1
        return x

    def bounded(self, x, gain=1.0):
        return x if self.clamp is None else x.clamp(-self.clamp * gain, self.clamp * gain)

    def conv(self, name, x, w, noise="const", gain=1.0):
        """One modulated layer on one sample [1, C, H, W]."""
        t, weight = self.t, self.t[f"{name}.weight"]
        style = t[f"{name}.affine.weight"] @ w / math.sqrt(len(w)) + t[f"{name}.affine.bias"]
        if name.endswith("torgb"):
            weight = weight * style[None, :, None, None] / math.sqrt(weight.shape[1])
            return self.bounded(F.conv2d(x, weight) + t[f"{name}.bias"][None, :, None, None])
        weight = weight * style[None, :, None, None]
        weight = weight / torch.sqrt((weight**2).sum(dim=(1, 2, 3), keepdim=True) + 1e-8)
        if name.endswith("conv0"):
            # A transposed convolution with stride 2 is a convolution of the spread map with the turned kernel.
            grown = F.pad(spread(x)[:, :, :-1, :-1], (2, 2, 2, 2))
            x = fir(F.conv2d(grown, weight.flip(2, 3)), 1, 1, 4.0)
        else:
            x = F.conv2d(x, weight, padding=1)
        if f"{name}.noise_const" in t and noise == "const":
            x = x + t[f"{name}.noise_const"] * t[f"{name}.noise_strength"]
        x = math.sqrt(2) * gain * F.leaky_relu(x + t[f"{name}.bias"][None, :, None, None], 0.2)
        return self.bounded(x, gain)

    def image(self, ws, noise="const"):
        """The image [3, R, R] of ws [num_ws, w_dim]."""
        x, image, place = self.t["synthesis.b4.const"][None], None, 0
        for size in self.blocks:
            name = f"synthesis.b{size}"
            resnet = f"{name}.skip.weight" in self.t
            if resnet:
                weight = self.t[f"{name}.skip.weight"]
                side = F.conv2d(x, weight / math.sqrt(weight.shape[1]))
                side = fir(spread(side), 2, 1, 4.0) * math.sqrt(0.5)
            if size > 4:
                x = self.conv(f"{name}.conv0", x, ws[place], noise)
                place += 1
            x = self.conv(f"{name}.conv1", x, ws[place], noise, math.sqrt(0.5) if resnet else 1.0)
            place += 1
            if resnet:
                x = x + side
            if f"{name}.torgb.weight" in self.t:
                drawn = self.conv(f"{name}.torgb", x, ws[place])
                image = drawn if image is None else drawn + fir(spread(image), 2, 1, 4.0)
        return image[0]
