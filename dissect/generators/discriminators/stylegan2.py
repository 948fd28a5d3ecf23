"""The residual discriminator of StyleGAN2 (Karras et al., CVPR 2020), which ADA and StyleGAN3 train with, too.

From an image by 1x1 convolution; blocks of two 3x3 convolutions, the second on every other pixel of the filtered map,
beside a filtered and halved 1x1 shortcut, their sum over sqrt 2; at 4x4 the deviation over a group of images as one
more channel, a convolution, two linear layers. Weights have gains of 1/sqrt(fan-in), leaky ReLUs a gain of sqrt 2. With
classes, the score is the product of the last features and a mapped class (ADA, Karras et al., NeurIPS 2020).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segmodels import GanatomyError

from ..stylebased import pixel_norm
from ..stylegan2_network import GAIN, FullyConnected, bounded, filtered

HALF = math.sqrt(0.5)
EPSILON = 1e-8  # under the root of a group's variance
MAPPING_RATE = 0.01  # learning-rate multiplier of the classes' mapping
GROUP = 4  # images, where the file does not say
BLOCK = re.compile(r"b([1-9]\d*)\.conv1\.weight")
CONVS = re.compile(r"convs\.([1-9]\d*)\.conv2\.1\.weight")
MAX_BLOCKS = 9  # to 2,048 pixels
CLOSE = 1e-4  # what a stored filter may differ by from [1, 3, 3, 1]
Tensors = Mapping[str, Tensor]


class Convolution(nn.Module):
    """A convolution with the runtime gain of its fan-in; with a bias a leaky ReLU after it.

    Args:
        gain: of what comes out. clamp: of that, before the gain.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, halves: bool = False, bias: bool = True, gain: float = 1.0,
        clamp: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None
        self.scale, self.halves, self.gain = 1 / math.sqrt(inputs * kernel**2), halves, gain
        self.clamp = None if clamp is None else clamp * gain

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs, H, W], or half of that each way."""
        kernel = self.weight.shape[-1]
        weight = self.weight * self.scale
        if not self.halves:
            x = F.conv2d(x, weight, padding=kernel // 2)
        elif kernel == 1:
            x = F.conv2d(filtered(F.pad(x, (1, 1, 1, 1)), 1.0)[:, :, ::2, ::2], weight)
        else:
            x = F.conv2d(filtered(F.pad(x, (2, 2, 2, 2)), 1.0), weight, stride=2)
        if self.bias is None:
            return bounded(x * self.gain, self.clamp)
        return bounded(F.leaky_relu(x + self.bias[:, None, None], 0.2) * (GAIN * self.gain), self.clamp)


class Block(nn.Module):
    """Half the size: two convolutions beside a shortcut."""

    def __init__(self, inputs: int, hidden: int, outputs: int, clamp: float | None) -> None:
        super().__init__()
        self.conv0 = Convolution(inputs, hidden, 3, clamp=clamp)
        self.conv1 = Convolution(hidden, outputs, 3, halves=True, gain=HALF, clamp=clamp)
        self.skip = Convolution(inputs, outputs, 1, halves=True, bias=False, gain=HALF, clamp=clamp)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs, H / 2, W / 2]."""
        return self.skip(x) + self.conv1(self.conv0(x))


class ClassMapping(nn.Module):
    """From a class to what the last features are compared with."""

    def __init__(self, classes: int, widths: list[int]) -> None:
        super().__init__()
        self.embed = FullyConnected(classes, widths[0])
        self.layers = nn.ModuleList([FullyConnected(a, b, MAPPING_RATE) for a, b in pairwise(widths)])

    def forward(self, labels: Tensor) -> Tensor:
        """Return [N, width] of one-hot labels [N, classes]."""
        x = pixel_norm(self.embed(labels))
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2) * GAIN
        return x


class Network(nn.Module):
    """The whole of it.

    Args:
        shapes: of the canonical tensors, which are NVIDIA's names; see :func:`canonical`.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], clamp: float | None) -> None:
        super().__init__()
        sizes = sorted((int(m[1]) for key in shapes if (m := BLOCK.fullmatch(key))), reverse=True)
        width, colours = shapes[f"b{sizes[0]}.fromrgb.weight"][:2]
        self.fromrgb = Convolution(colours, width, 1, clamp=clamp)
        self.blocks = nn.ModuleList()
        for size in sizes:
            hidden, outputs = shapes[f"b{size}.conv0.weight"][0], shapes[f"b{size}.conv1.weight"][0]
            self.blocks.append(Block(width, hidden, outputs, clamp))
            width = outputs
        out, into = shapes["b4.conv.weight"][:2]
        self.deviations = into - width  # channels
        self.conv = Convolution(into, out, 3, clamp=clamp)
        self.fc = FullyConnected(shapes["b4.fc.weight"][1], shapes["b4.fc.weight"][0])
        self.out = FullyConnected(*reversed(shapes["b4.out.weight"]))
        self.scores = shapes["b4.out.weight"][0]  # one; without a mapping one for each class, if there are any
        self.mapping: ClassMapping | None = None
        if "mapping.embed.weight" in shapes:
            widths, classes = [shapes["mapping.embed.weight"][0]], shapes["mapping.embed.weight"][1]
            while (key := f"mapping.fc{len(widths) - 1}.weight") in shapes:
                widths.append(shapes[key][0])
            self.mapping = ClassMapping(classes, widths)

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Return scores [N] of images that are compared with each other."""
        x = self.fromrgb(images)
        for block in self.blocks:
            x = block(x)
        x = F.leaky_relu(self.fc(self.conv(with_deviation(x, self.deviations)).flatten(1)), 0.2) * GAIN
        x = self.out(x)
        if self.mapping is not None:
            assert labels is not None  # which is asked for before
            mapped = self.mapping(labels)
            return (x * mapped).sum(1) / math.sqrt(mapped.shape[1])
        return x[:, 0] if labels is None else (x * labels).sum(1)

    @property
    def num_classes(self) -> int | None:
        """How many classes it tells apart; None if none."""
        if self.mapping is not None:
            return self.mapping.embed.weight.shape[1]
        return self.scores if self.scores > 1 else None


def with_deviation(x: Tensor, channels: int) -> Tensor:
    """Return x [N, C, H, W] with the deviation over its images, each a mean over C / channels and all places."""
    n, c, h, w = x.shape
    if not channels:
        return x
    spread = (x - x.mean(0)).square().mean(0).add(EPSILON).sqrt()
    mean = spread.view(channels, c // channels, h, w).mean((1, 2, 3))
    return torch.cat([x, mean[None, :, None, None].expand(n, channels, h, w)], 1)


def check_deviations(key: str, inputs: int, width: int) -> None:
    """Raise GanatomyError unless a convolution takes the maps before it and what ``with_deviation`` adds to them."""
    extra = inputs - width
    if extra < 0 or (extra and width % extra):
        raise GanatomyError(f"expected {key} with {width} or {width + 1} inputs, it has {inputs}")


def of_nvlabs(tensors: Tensors) -> dict[str, Tensor] | None:
    """Return the canonical tensors of NVIDIA's names, None if they are others."""
    if "b4.conv.weight" not in tensors or not any(BLOCK.fullmatch(key) for key in tensors):
        return None
    return _without_filters(tensors, "resample_filter")


def of_rosinality(tensors: Tensors) -> dict[str, Tensor] | None:
    """Return the canonical tensors of rosinality's names, None if they are others."""
    numbers = sorted(int(m[1]) for key in tensors if (m := CONVS.fullmatch(key)))
    if not numbers or "final_conv.0.weight" not in tensors or "final_linear.0.weight" not in tensors:
        return None
    names = {"convs.0.0.weight": "fromrgb.weight", "convs.0.1.bias": "fromrgb.bias"}
    top = _top(len(numbers))
    known = {old: f"b{top}.{new}" for old, new in names.items()}
    for place, number in enumerate(numbers):
        block, old = f"b{top >> place}", f"convs.{number}"
        known |= {
            f"{old}.conv1.0.weight": f"{block}.conv0.weight", f"{old}.conv1.1.bias": f"{block}.conv0.bias",
            f"{old}.conv2.1.weight": f"{block}.conv1.weight", f"{old}.conv2.2.bias": f"{block}.conv1.bias",
            f"{old}.skip.1.weight": f"{block}.skip.weight",
        }  # fmt: skip
    ends = {
        "final_conv.0.weight": "conv.weight", "final_conv.1.bias": "conv.bias",
        "final_linear.0.weight": "fc.weight", "final_linear.0.bias": "fc.bias",
        "final_linear.1.weight": "out.weight", "final_linear.1.bias": "out.bias",
    }  # fmt: skip
    known |= {old: f"b4.{new}" for old, new in ends.items()}
    return {known.get(key, key): value for key, value in _without_filters(tensors, ".kernel").items()}


def of_genforce(tensors: Tensors) -> dict[str, Tensor] | None:
    """Return the canonical tensors of genforce's names, None if they are others."""
    blocks = sum(re.fullmatch(r"skip_layer\d+\.weight", key) is not None for key in tensors)
    if not blocks or "input0.weight" not in tensors:
        return None
    top = _top(blocks)
    names = {"input0": f"b{top}.fromrgb"}
    for place in range(blocks):
        block = f"b{top >> place}"
        names |= {f"layer{2 * place}": f"{block}.conv0", f"layer{2 * place + 1}": f"{block}.conv1"}
        names[f"skip_layer{place}"] = f"{block}.skip"
    names |= {f"layer{2 * blocks + place}": f"b4.{name}" for place, name in enumerate(("conv", "fc", "out"))}
    kept = _without_filters(tensors, ".filter.kernel")
    return {f"{names.get(key.rpartition('.')[0], key)}.{key.rpartition('.')[2]}": value for key, value in kept.items()}


def of_tensorflow(tensors: Tensors) -> dict[str, Tensor] | None:
    """Return the canonical tensors of NVIDIA's variables, axes turned, None if they are others."""
    if "4x4/Dense0/weight" not in tensors or not any(key.endswith("/Skip/weight") for key in tensors):
        return None
    names = {"FromRGB": "fromrgb", "Conv0": "conv0", "Conv1_down": "conv1", "Skip": "skip"}
    last = {"4x4/Conv": "b4.conv", "4x4/Dense0": "b4.fc", "Output": "b4.out", "LabelEmbed": "mapping.embed"}
    found = {}
    for key, value in tensors.items():
        scope, _, part = key.rpartition("/")
        sided = re.fullmatch(r"([1-9]\d*)x\1/(FromRGB|Conv0|Conv1_down|Skip)", scope)
        mapped = re.fullmatch(r"Mapping(0|[1-9]\d*)", scope)
        name = f"b{sided[1]}.{names[sided[2]]}" if sided else f"mapping.fc{mapped[1]}" if mapped else last.get(scope)
        found[f"{name}.{part}" if name else key] = unturned(value)
    return found


def _top(blocks: int) -> int:
    """Return the side of the images that so many blocks look at."""
    if blocks > MAX_BLOCKS:
        raise GanatomyError(f"expected at most {MAX_BLOCKS} blocks, found {blocks}")
    return 4 * 2**blocks


def unturned(value: Tensor) -> Tensor:
    """Return a kernel [H, W, I, O] as [O, I, H, W], a matrix [I, O] as [O, I], anything else as it is."""
    return value.permute(3, 2, 0, 1) if value.ndim == 4 else value.T if value.ndim == 2 else value


def _without_filters(tensors: Tensors, ending: str) -> dict[str, Tensor]:
    """Return all but the stored filters; GanatomyError if one is another than the network has here."""
    row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    wanted = torch.outer(row, row)
    for key, value in tensors.items():
        if key.endswith(ending) and (
            value.squeeze().shape != wanted.shape
            or not torch.allclose(value.squeeze().float().cpu(), wanted, CLOSE, CLOSE)
        ):
            raise GanatomyError(f"{key} is not the standard filter of this family; not supported")
    return {key: value for key, value in tensors.items() if not key.endswith(ending)}


LAYOUTS: dict[str, Callable[[Tensors], dict[str, Tensor] | None]] = {
    "nvlabs": of_nvlabs, "rosinality": of_rosinality, "genforce": of_genforce, "tensorflow": of_tensorflow,
}  # fmt: skip


def build(tensors: dict[str, Tensor], clamp: float | None) -> Network:
    """Return the network with its weights.

    Args:
        tensors: canonical.

    Raises:
        GanatomyError: for tensors that are missing, unknown, or of shapes that do not go together.
    """
    sizes = sorted(int(m[1]) for key in tensors if (m := BLOCK.fullmatch(key)))
    if not sizes or sizes != [8 * 2**place for place in range(min(len(sizes), MAX_BLOCKS))]:
        found = ", ".join(f"b{size}" for size in sizes[: MAX_BLOCKS + 1])
        raise GanatomyError(f"expected blocks b8, b16, … in a row, found {found or 'none'}")
    needed = [f"b{sizes[-1]}.fromrgb.weight", *(f"b{s}.{c}.weight" for s in sizes for c in ("conv0", "conv1"))]
    needed += [f"b4.{name}.weight" for name in ("conv", "fc", "out")]
    for key in needed:
        dimensions = 2 if key.startswith(("b4.fc", "b4.out")) else 4
        if key not in tensors or tensors[key].ndim != dimensions:
            raise GanatomyError(f"expected {key} with {dimensions} dimensions")
    for key, value in tensors.items():
        if key.startswith("mapping.") and key.endswith("weight") and value.ndim != 2:
            raise GanatomyError(f"expected {key} with 2 dimensions, it has {value.ndim}")
    _check_joined(tensors)
    with torch.device("meta"):  # shapes that do not go together may be larger than any memory
        network = Network({key: tuple(value.shape) for key, value in tensors.items()}, clamp)
    names = {key: _own_name(key, sizes[::-1]) for key in tensors}
    wanted = network.state_dict()
    unknown = sorted(key for key, name in names.items() if name not in wanted)
    missing = sorted(set(wanted) - set(names.values()))
    if unknown or missing:
        raise GanatomyError(f"{f'unexpected key {unknown[0]}' if unknown else f'{missing[0]} is missing'}")
    for key, name in names.items():
        if tensors[key].shape != wanted[name].shape:
            raise GanatomyError(f"expected {key} {list(wanted[name].shape)}, got {list(tensors[key].shape)}")
    network.load_state_dict({name: tensors[key].float() for key, name in names.items()}, assign=True)
    return network


def _check_joined(tensors: Tensors) -> None:
    """Refuse an end whose layers do not take what the ones before give."""
    width, (out, into) = tensors["b8.conv1.weight"].shape[0], tensors["b4.conv.weight"].shape[:2]
    check_deviations("b4.conv.weight", into, width)
    if (taken := tensors["b4.fc.weight"].shape[1]) != 16 * out:
        raise GanatomyError(f"expected b4.fc.weight with {16 * out} inputs, it has {taken}")
    if "mapping.embed.weight" not in tensors:
        return
    numbers = [int(found[1]) for key in tensors if (found := re.fullmatch(r"mapping\.fc(\d+)\.weight", key))]
    last = f"mapping.fc{max(numbers)}.weight" if numbers else "mapping.embed.weight"
    if (given := tensors[last].shape[0]) != (wanted := tensors["b4.out.weight"].shape[0]):
        raise GanatomyError(f"expected {last} with {wanted} outputs, as b4.out.weight has, it has {given}")


def _own_name(key: str, sizes: list[int]) -> str:
    """Return under what name this network has a canonical tensor."""
    block, _, rest = key.partition(".")
    if block == "mapping" and rest.startswith("fc"):
        number, _, what = rest.removeprefix("fc").partition(".")
        return f"mapping.layers.{number}.{what}"
    if block == "b4" or rest.startswith("fromrgb"):
        return rest
    found = re.fullmatch(r"b(\d+)", block)
    return f"blocks.{sizes.index(int(found[1]))}.{rest}" if found and int(found[1]) in sizes else key
