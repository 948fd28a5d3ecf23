"""PGGAN written out by hand in float64, from the published facts, and random networks in every public layout."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch.nn import functional as F


@dataclass
class Plain:
    """A network as plain convs.

    ``layers``: (weight [out, in, k, k], bias [out]); the first weight is [z, C, 4, 4], from z to the pixel (y, x).
    ``heads``: (weight [colors, C], bias [colors]) of every resolution.
    """

    layers: list
    heads: list

    @property
    def blocks(self):
        return len(self.heads)

    @property
    def resolution(self):
        return 4 * 2 ** (self.blocks - 1)


def plain(z_dim=5, channels=(6, 4), colors=3, seed=0):
    """Random numbers; ``channels`` of each resolution, or pairs where its two layers differ."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=draw)

    widths = [width for pair in channels for width in (pair if isinstance(pair, tuple) else (pair, pair))]
    layers = [(normal(z_dim, widths[0], 4, 4), normal(widths[0]))]
    layers += [(normal(b, a, 3, 3), normal(b)) for a, b in pairwise(widths)]
    return Plain(layers, [(normal(colors, width), normal(colors)) for width in widths[1::2]])


def norm(x):
    return x / (x.pow(2).mean(1, keepdim=True) + 1e-8).sqrt()


def leaky(x):
    return torch.maximum(x, 0.2 * x)


def twice(x):
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def run(net, z, lod=0.0):
    """Return (image, [what the leaky ReLU of each layer returns]) in float64; z [N, z_dim] as it enters layer 1."""
    x, values, images = norm(z.double()), [], []
    for index, (weight, bias) in enumerate(net.layers):
        weight, bias = weight.double(), bias.double()[:, None, None]
        if index == 0:
            x = torch.einsum("nz,zcyx->ncyx", x, weight) * math.sqrt(2) / 4 / math.sqrt(weight.shape[0]) + bias
        else:
            x = twice(norm(x)) if index % 2 == 0 else norm(x)
            x = F.conv2d(x, weight, padding=1) * math.sqrt(2 / (9 * weight.shape[1])) + bias
        x = leaky(x)
        values.append(x)
        if index % 2:
            weight, bias = (part.double() for part in net.heads[index // 2])
            image = torch.einsum("nchw,dc->ndhw", norm(x), weight) / math.sqrt(weight.shape[1])
            images.append(image + bias[:, None, None])
    return blend(images, lod), values


def blend(images, lod):
    """Return the image at a level of detail from those of all heads."""
    last = len(images) - 1 - math.floor(lod)
    image, part = images[last], lod - math.floor(lod)
    if part:
        image = image * (math.ceil(lod) - lod) + twice(images[last - 1]) * (1 - (math.ceil(lod) - lod))
    for _ in range(math.floor(lod)):
        image = twice(image)
    return image


# -- the same numbers under the public names -------------------------------------------------------------------


def as_conv(weight):
    """From z-to-pixel [z, C, 4, 4] to the 4x4 conv with padding 3 that does the same to one pixel."""
    return weight.permute(1, 0, 2, 3).flip(2, 3).contiguous()


def gandissect(net, heads="last", layer="layer{}", shift=0, head=None):
    tensors = {}
    for index, (weight, bias) in enumerate(net.layers):
        name = layer.format(index + 1 - shift)
        tensors[f"{name}.conv.weight"] = as_conv(weight) if index == 0 else weight
        tensors[f"{name}.wscale.b"] = bias
    for block, (weight, bias) in enumerate(net.heads):
        if heads == "all" or block == net.blocks - 1:
            name = head or f"output_{4 * 2**block}x{4 * 2**block}"
            tensors |= {f"{name}.conv.weight": weight[:, :, None, None], f"{name}.wscale.b": bias}
    return tensors


def features(net):
    return gandissect(net, layer="features.{}", shift=1, head="output")


def genforce(net, fused=False, lod=0.0):
    tensors = {"lod": torch.tensor(lod)}
    for index, (weight, bias) in enumerate(net.layers):
        if index == 0:
            weight = as_conv(weight)
        elif fused and index % 2 == 0:
            weight = weight.flip(2, 3).transpose(0, 1).contiguous()
        tensors |= {f"layer{index}.weight": weight, f"layer{index}.bias": bias}
    for block, (weight, bias) in enumerate(net.heads):
        tensors |= {f"output{block}.weight": weight[:, :, None, None], f"output{block}.bias": bias}
    return tensors


def tensorflow(net, fused=True, lod=0.0):
    tensors = {"lod": torch.tensor(lod)}
    for index, (weight, bias) in enumerate(net.layers):
        side = 4 * 2 ** (index // 2)
        if index == 0:
            name, weight = "Dense", weight.reshape(weight.shape[0], -1)
        elif index % 2:
            name, weight = "Conv" if index == 1 else "Conv1", weight.permute(2, 3, 1, 0)
        elif fused:
            name, weight = "Conv0_up", weight.flip(2, 3).permute(2, 3, 0, 1)
        else:
            name, weight = "Conv0", weight.permute(2, 3, 1, 0)
        tensors |= {f"{side}x{side}/{name}/weight": weight.contiguous(), f"{side}x{side}/{name}/bias": bias}
    for block, (weight, bias) in enumerate(net.heads):
        name = f"ToRGB_lod{net.blocks - 1 - block}"
        tensors |= {f"{name}/weight": weight.T[None, None].contiguous(), f"{name}/bias": bias}
    return tensors


LAYOUTS = {
    "gandissect": lambda net: gandissect(net, "all"),
    "genforce": genforce,
    "genforce-fused": lambda net: genforce(net, fused=True),
    "tensorflow": tensorflow,
    "tensorflow-unfused": lambda net: tensorflow(net, fused=False),
}
LAST_ONLY = {"gandissect": gandissect, "gandissect-features": features}


# -- arithmetic of its own -------------------------------------------------------------------------------------


def fused_upsampling(x, weight):
    """Return what a fused conv makes of x [N, C, H, W], without bias; weight [in, out, 3, 3] in genforce's order."""
    inputs = weight.shape[0]
    padded = F.pad(weight.double() * math.sqrt(2 / (9 * inputs)), (1, 1, 1, 1))
    summed = padded[..., 1:, 1:] + padded[..., :-1, 1:] + padded[..., 1:, :-1] + padded[..., :-1, :-1]
    return F.conv_transpose2d(x.double(), summed, stride=2, padding=1)


def ganzoo(z_dim=5, channels=(6, 4), colors=3, seed=0):
    """Random tensors of pytorch_GAN_zoo."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=draw)

    shapes = {"formatLayer": (16 * channels[0], z_dim), "groupScale0.0": (channels[0], channels[0], 3, 3)}
    for scale, (before, width) in enumerate(pairwise(channels)):
        shapes |= {f"scaleLayers.{scale}.0": (width, before, 3, 3), f"scaleLayers.{scale}.1": (width, width, 3, 3)}
    shapes |= {f"toRGBLayers.{scale}": (colors, width, 1, 1) for scale, width in enumerate(channels)}
    return {
        f"{name}.module.{part}": normal(*(shape if part == "weight" else shape[:1]))
        for name, shape in shapes.items()
        for part in ("weight", "bias")
    }


def run_ganzoo(tensors, z, alpha=0.0):
    """Return the image of a pytorch_GAN_zoo network in float64."""

    def layer(name, x):
        weight, bias = (tensors[f"{name}.module.{part}"].double() for part in ("weight", "bias"))
        gain = math.sqrt(2 / weight[0].numel())
        if weight.ndim == 2:
            return (x @ weight.T + bias) * gain
        return (F.conv2d(x, weight, padding=weight.shape[2] // 2) + bias[:, None, None]) * gain

    x = leaky(layer("formatLayer", norm(z.double())))
    x = norm(leaky(layer("groupScale0.0", norm(x.view(len(x), -1, 4, 4)))))
    images = [layer("toRGBLayers.0", x)]
    while f"scaleLayers.{len(images) - 1}.0.module.weight" in tensors:
        scale = f"scaleLayers.{len(images) - 1}"
        x = norm(leaky(layer(f"{scale}.0", twice(x))))
        x = norm(leaky(layer(f"{scale}.1", x)))
        images.append(layer(f"toRGBLayers.{len(images)}", x))
    return images[-1] if not alpha else alpha * twice(images[-2]) + (1 - alpha) * images[-1]
