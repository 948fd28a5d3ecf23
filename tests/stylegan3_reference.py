"""StyleGAN3 written out by hand in float64, step by step and filter by filter: slow, and different from the product."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

# (cells of the map, cells that are the picture, channels) of each layer of a small network.
SMALL = ((36, 16, 6), (36, 16, 5), (52, 32, 6), (32, 32, 4), (32, 32, 3))


def random_tensors(
    layers=SMALL, radial=False, z_dim=8, w_dim=7, channels=6, mapping_layers=2, num_classes=0, high=2, filter_size=6,
    seed=0,
):  # fmt: skip
    """A state dict with the names of the public PyTorch code, in which every tensor matters; filters are lopsided."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape, mean=0.0, std=1.0):
        return mean + std * torch.randn(shape, generator=random)

    def taps(*shape):
        values = torch.rand(shape, generator=random) + 0.1
        return values / values.sum()

    tensors = {"mapping.w_avg": normal(w_dim, std=0.3)}
    inputs = z_dim
    if num_classes:
        tensors |= {"mapping.embed.weight": normal(w_dim, num_classes), "mapping.embed.bias": normal(w_dim, std=0.3)}
        inputs += w_dim
    for index in range(mapping_layers):
        tensors[f"mapping.fc{index}.weight"] = normal(w_dim, inputs, std=100)
        tensors[f"mapping.fc{index}.bias"] = normal(w_dim, std=30)
        inputs = w_dim
    tensors |= {
        "synthesis.input.weight": normal(channels, channels), "synthesis.input.freqs": normal(channels, 2, std=2.0),
        "synthesis.input.phases": normal(channels), "synthesis.input.transform": torch.eye(3) + normal(3, 3, std=0.05),
        "synthesis.input.affine.weight": normal(4, w_dim, std=0.1),
        "synthesis.input.affine.bias": torch.tensor([1.0, 0.2, 0.1, -0.1]),
    }  # fmt: skip
    tensors["synthesis.input.transform"][2] = torch.tensor([0.0, 0, 1])
    inputs, before = channels, layers[0][1]
    for index, (size, rate, outputs) in enumerate(layers):
        last = index == len(layers) - 1
        name, kernel = f"synthesis.L{index}_{size}_{outputs}", 1 if radial or last else 3
        tensors[f"{name}.weight"] = normal(outputs, inputs, kernel, kernel)
        tensors[f"{name}.bias"] = normal(outputs, std=0.3)
        tensors[f"{name}.affine.weight"] = normal(inputs, w_dim)
        tensors[f"{name}.affine.bias"] = normal(inputs, mean=1.0, std=0.2)
        tensors[f"{name}.magnitude_ema"] = torch.rand((), generator=random) + 0.5
        if not last:
            finest = high * max(rate, before)
            up, down = finest // before, finest // rate
            if up > 1:
                tensors[f"{name}.up_filter"] = taps(filter_size * up)
            if down > 1:
                critical = not radial or index >= len(layers) - 3
                tensors[f"{name}.down_filter"] = taps(*[filter_size * down] * (1 if critical else 2))
        inputs, before = outputs, rate
    return tensors


def upfirdn(x, taps, up, before, after, down):
    """Zeros after each cell, zeros around (or a crop), a true convolution with the filter, every ``down``-th cell."""
    n, c, h, w = x.shape
    wide = x.new_zeros(n, c, h, up, w, up)
    wide[:, :, :, 0, :, 0] = x
    wide = F.pad(wide.reshape(n, c, h * up, w * up), (before, after, before, after))
    if taps.ndim == 1:
        return filtered(filtered(wide, taps[:, None]), taps[None])[:, :, ::down, ::down]
    return filtered(wide, taps)[:, :, ::down, ::down]


def filtered(x, kernel):
    """A true convolution, one tap after the other."""
    high, wide = x.shape[2] - kernel.shape[0] + 1, x.shape[3] - kernel.shape[1] + 1
    flipped = kernel.flip(0, 1).tolist()
    terms = (x[:, :, i : i + high, j : j + wide] * t for i, row in enumerate(flipped) for j, t in enumerate(row))
    return sum(terms, x.new_zeros(()))


class Reference:
    """The network of a state dict, for a batch; styles are normalised over the whole batch, as published."""

    def __init__(self, tensors, clamp=256.0, scale=0.25, cutoff=2.0, margin=10, high=2):
        self.t = {key: value.double() for key, value in tensors.items()}
        self.clamp, self.scale, self.cutoff, self.high = clamp, scale, cutoff, high
        names = {key.split(".")[1] for key in tensors if key.startswith("synthesis.L")}
        self.names = sorted(names, key=lambda name: int(name[1:].split("_")[0]))
        self.sizes = [int(name.split("_")[1]) for name in self.names]
        self.rates = [size - 2 * margin for size in self.sizes[:-2]] + self.sizes[-2:]

    def w(self, z, labels=None):
        def unit(x):
            return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()

        x = unit(z.double())
        if labels is not None:
            y = labels.double() @ self.t["mapping.embed.weight"].T / labels.shape[1] ** 0.5
            x = torch.cat([x, unit(y + self.t["mapping.embed.bias"])], 1)
        for index in range(sum(key.startswith("mapping.fc") for key in self.t) // 2):
            weight, bias = self.t[f"mapping.fc{index}.weight"], self.t[f"mapping.fc{index}.bias"]
            x = x @ weight.T * (0.01 / weight.shape[1] ** 0.5) + bias * 0.01
            x = torch.where(x > 0, x, 0.2 * x) * 2**0.5
        return x

    def affine(self, name, w):
        weight = self.t[f"synthesis.{name}.affine.weight"]
        return w @ weight.T / weight.shape[1] ** 0.5 + self.t[f"synthesis.{name}.affine.bias"]

    def fourier(self, w):
        size, rate, outs = self.sizes[0], self.rates[0], []
        t = self.t
        for one in self.affine("input", w):
            c, s, x, y = one / (one[0] ** 2 + one[1] ** 2).sqrt()
            turn = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float64)
            shift = torch.tensor([[1, 0, -x], [0, 1, -y], [0, 0, 1]], dtype=torch.float64)
            a = turn @ shift @ t["synthesis.input.transform"]
            phases = t["synthesis.input.phases"] + t["synthesis.input.freqs"] @ a[:2, 2]
            freqs = t["synthesis.input.freqs"] @ a[:2, :2]
            loud = (1 - (freqs.norm(dim=1) - self.cutoff) / (rate / 2 - self.cutoff)).clamp(0, 1)
            grid = F.affine_grid(torch.eye(2, 3, dtype=torch.float64)[None], [1, 1, size, size], align_corners=False)
            grid = grid * (0.5 * size / rate)
            waves = torch.sin(2 * math.pi * (grid[0] @ freqs.T + phases)) * loud
            weight = t["synthesis.input.weight"]
            outs.append((waves @ (weight / weight.shape[1] ** 0.5).T).permute(2, 0, 1))
        return torch.stack(outs)

    def features(self, ws):
        """Return what each module of the synthesis returns for ws [N, num_ws, w_dim]."""
        ws = ws.double()
        found = {"input": self.fourier(ws[:, 0])}
        x = found["input"]
        for index, name in enumerate(self.names):
            last = index == len(self.names) - 1
            before = max(index - 1, 0)
            weight, s = self.t[f"synthesis.{name}.weight"], self.affine(name, ws[:, index + 1])
            bias, gain = self.t[f"synthesis.{name}.bias"], self.t[f"synthesis.{name}.magnitude_ema"] ** -0.5
            if last:
                s = s / weight.shape[1] ** 0.5
            else:
                weight = weight / weight.square().mean((1, 2, 3), keepdim=True).sqrt()
                s = s / s.square().mean().sqrt()
            kernels = weight[None] * s[:, None, :, None, None]
            if not last:
                kernels = kernels / (kernels.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
            k = weight.shape[2]
            x = torch.cat([F.conv2d(x[n : n + 1], kernels[n] * gain, padding=k - 1) for n in range(len(x))])
            x = x + bias[:, None, None]
            if last:
                x = x.clamp(-self.clamp, self.clamp)
            else:
                finest = self.high * max(self.rates[index], self.rates[before])
                up, down = finest // self.rates[before], finest // self.rates[index]
                one = torch.ones(1, dtype=torch.float64)
                taps_up = self.t.get(f"synthesis.{name}.up_filter", one)
                taps_down = self.t.get(f"synthesis.{name}.down_filter", one)
                total = (self.sizes[index] - 1) * down + 1 - x.shape[2] * up
                total += len(taps_up) + len(taps_down) - 2
                low = (total + up) // 2
                x = upfirdn(x, taps_up * up if taps_up.ndim == 1 else taps_up * up**2, up, low, total - low, 1)
                x = (torch.where(x > 0, x, 0.2 * x) * 2**0.5).clamp(-self.clamp, self.clamp)
                x = upfirdn(x, taps_down, 1, 0, 0, down)
            found[name] = x
        return found

    def image(self, ws):
        return self.features(ws)[self.names[-1]] * self.scale
