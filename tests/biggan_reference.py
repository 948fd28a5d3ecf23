"""BigGAN written out by hand in float64, one sample at a time, from the tensors of a file: slow, and different."""

from __future__ import annotations

import itertools

import torch
from torch.nn import functional as F


def random_tensors(
    widths=(12, 8, 8, 4), num_classes=5, shared=6, chunk=3, hier=True, attention=(1,), spectral=True, seed=0, colors=3
):
    """A state dict with the names of the public code; shared 0 is a table for every batch norm."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape, mean=0.0, std=1.0):
        return mean + std * torch.randn(shape, generator=random)

    tensors = {"shared.weight": normal(num_classes, shared)} if shared else {}

    def weighted(name, *shape, bias=True, divided=True):
        tensors[f"{name}.weight"] = normal(*shape) / torch.tensor(shape[1:]).prod().sqrt()
        if bias:
            tensors[f"{name}.bias"] = normal(shape[0], std=0.2)
        if spectral and divided:
            tensors[f"{name}.u0"], tensors[f"{name}.sv0"] = normal(1, shape[0]), normal(1)

    def norm(name, channels):
        for half in ("gain", "bias"):
            inputs = shared + (chunk if hier else 0)
            shape = (channels, inputs) if shared else (num_classes, channels)
            weighted(f"{name}.{half}", *shape, bias=False, divided=bool(shared))
        tensors[f"{name}.stored_mean"] = normal(channels, std=0.3)
        tensors[f"{name}.stored_var"] = normal(channels).square() + 0.5

    weighted("linear", widths[0] * 16, chunk)
    for i, (inside, outside) in enumerate(itertools.pairwise(widths)):
        norm(f"blocks.{i}.0.bn1", inside)
        norm(f"blocks.{i}.0.bn2", outside)
        weighted(f"blocks.{i}.0.conv1", outside, inside, 3, 3)
        weighted(f"blocks.{i}.0.conv2", outside, outside, 3, 3)
        weighted(f"blocks.{i}.0.conv_sc", outside, inside, 1, 1)
        if i in attention:
            for name, shape in (
                ("theta", (2, outside)),
                ("phi", (2, outside)),
                ("g", (3, outside)),
                ("o", (outside, 3)),
            ):
                weighted(f"blocks.{i}.1.{name}", *shape, 1, 1, bias=False)
            tensors[f"blocks.{i}.1.gamma"] = torch.tensor(0.7)
    tensors |= {"output_layer.0.gain": normal(widths[-1], mean=1.0), "output_layer.0.bias": normal(widths[-1])}
    tensors |= {"output_layer.0.stored_mean": normal(widths[-1], std=0.3)}
    tensors |= {"output_layer.0.stored_var": normal(widths[-1]).square() + 0.5}
    weighted("output_layer.2", colors, widths[-1], 3, 3)
    return tensors


class Reference:
    """The generator of a state dict; all in float64."""

    def __init__(self, tensors, bn_eps=1e-5, sn_eps=1e-6, steps=1):
        self.t = {key: value.double() for key, value in tensors.items()}
        self.bn_eps, self.sn_eps, self.steps = bn_eps, sn_eps, steps

    def weight(self, name):
        weight = self.t[f"{name}.weight"]
        if f"{name}.u0" not in self.t:
            return weight
        rows, u = weight.reshape(len(weight), -1), self.t[f"{name}.u0"][0]
        for _ in range(self.steps):
            v = rows.T @ u
            v = v / max(float(v.norm()), self.sn_eps)
            u = rows @ v
            u = u / max(float(u.norm()), self.sn_eps)
        return weight / (u @ rows @ v)

    def conv(self, name, x):
        weight = self.weight(name)
        return F.conv2d(x, weight, self.t.get(f"{name}.bias"), padding=weight.shape[2] // 2)

    def norm(self, name, x, y):
        table = f"{name}.gain.u0" not in self.t and "shared.weight" not in self.t
        gain, bias = (
            self.t[f"{name}.{h}.weight"][y] if table else self.weight(f"{name}.{h}") @ y for h in ("gain", "bias")
        )
        mean, var = (self.t[f"{name}.stored_{part}"][:, None, None] for part in ("mean", "var"))
        return (x - mean) / torch.sqrt(var + self.bn_eps) * (1 + gain[:, None, None]) + bias[:, None, None]

    def attention(self, name, x):
        n = x.shape[2] * x.shape[3]
        theta = self.conv(f"{name}.theta", x).reshape(-1, n)
        phi, g = (F.max_pool2d(self.conv(f"{name}.{part}", x), 2).reshape(-1, n // 4) for part in ("phi", "g"))
        out = torch.stack([g @ torch.softmax(phi.T @ theta[:, i], 0) for i in range(n)], 1)
        return self.t[f"{name}.gamma"] * self.conv(f"{name}.o", out.reshape(1, -1, *x.shape[2:])) + x

    def image(self, z, label, cut=None):
        """The image [3, R, R] of one z and class; ``cut`` = (layer, units) makes maps zero."""
        z, shared = z.double(), "shared.weight" in self.t
        chunk = self.t["linear.weight"].shape[1]
        y = self.t["shared.weight"][label] if shared else label
        gone = lambda name, x: x if cut is None or cut[0] != name else x.index_fill(1, torch.tensor(cut[1]), 0.0)  # noqa: E731
        x = (self.weight("linear") @ z[:chunk] + self.t["linear.bias"]).reshape(1, -1, 4, 4)
        x, i = gone("linear", x), 0
        while f"blocks.{i}.0.conv1.weight" in self.t:
            name, place = f"blocks.{i}.0", chunk * (i + 1)
            own = torch.cat([y, z[place : place + chunk]]) if shared and len(z) > chunk else y
            h = self.norm(f"{name}.bn1", x, own).relu()
            h = gone(f"{name}.conv1", self.conv(f"{name}.conv1", h.repeat_interleave(2, 2).repeat_interleave(2, 3)))
            h = gone(f"{name}.act2", self.norm(f"{name}.bn2", h, own).relu())
            x = self.conv(f"{name}.conv_sc", x.repeat_interleave(2, 2).repeat_interleave(2, 3))
            x = gone(name, self.conv(f"{name}.conv2", h) + x)
            if f"blocks.{i}.1.gamma" in self.t:
                x = gone(f"blocks.{i}.1", self.attention(f"blocks.{i}.1", x))
            i += 1
        gain, bias, mean, var = (
            self.t[f"output_layer.0.{p}"][:, None, None] for p in ("gain", "bias", "stored_mean", "stored_var")
        )
        x = gone("output_layer.1", ((x - mean) / torch.sqrt(var + 1e-5) * gain + bias).relu())
        return self.conv("output_layer.2", x)[0].tanh()
