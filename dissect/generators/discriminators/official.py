"""The discriminators of PGGAN and of the first StyleGAN as their authors trained them (Karras et al., 2018 and 2019).

From an image by 1x1 convolution; blocks of two 3x3 convolutions, the second halves; at 4x4 the deviation over a group
of images as one more channel, a convolution, two linear layers. Weights have gains of sqrt(2 / fan-in), the last one
sqrt(1 / fan-in), biases none; leaky ReLUs a slope of 0.2 and no gain. StyleGAN blurs by [1, 2, 1] before it halves, and
averages before the leaky ReLU; PGGAN does not blur, and averages after it. Fused kernels are averaged themselves and
go over every other pixel. Taken at full growth.

Names are genforce's (``layer{i}``, ``input{b}``) or NVIDIA's variables. No tensor shows which kernels are fused:
StyleGAN's are from 128 pixels on, PGGAN's everywhere by NVIDIA's names and nowhere by genforce's, unless the file or
the caller says something else. Key names are facts of genforce/sefa and of the pickles.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from segmodels import GanatomyError

from .stylegan import Equal, blurred, equal, is_filter
from .stylegan2 import check_deviations, unturned, with_deviation

MAX_BLOCKS = 9  # to 2,048 pixels
FUSED_FROM = 128  # pixels, of StyleGAN's ``auto``
KEY = re.compile(r"(?:layer|input)(0|[1-9]\d*)\.(weight|bias)")
BLUR = re.compile(r"layer([1-9]\d*)\.blur\.kernel")
SCOPE = re.compile(r"(8|16|32|64|128|256|512|1024|2048)x\1/(Conv0|Conv1|Conv1_down)/(weight|bias)")
LAST = ("4x4/Conv", "4x4/Dense0", "4x4/Dense1")
FUNCTIONS = {"D_paper": "pggan", "D_basic": "stylegan", "D_style": "stylegan"}  # that made a pickled one
GROUPS = {("pggan", "genforce"): 16}  # images, by their code; 4 elsewhere
GROUP = 4
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Read:
    """What a file says: tensors and stored blurs by genforce's names, family (None where nothing tells), layout."""

    tensors: dict[str, Tensor]
    blurs: dict[str, Tensor]
    family: str | None
    flavour: str
    fused_scale: bool | str


class Block(nn.Module):
    """Two convolutions that halve."""

    def __init__(self, first: Equal, second: Equal, *, blurs: bool) -> None:
        super().__init__()
        self.first, self.second, self.blurs = first, second, blurs

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, outputs, H / 2, W / 2]."""
        x = F.leaky_relu(self.first(x), 0.2)
        x = self.second(blurred(x) if self.blurs else x)
        if self.second.fused:
            return F.leaky_relu(x, 0.2)
        return F.leaky_relu(F.avg_pool2d(x, 2), 0.2) if self.blurs else F.avg_pool2d(F.leaky_relu(x, 0.2), 2)


class Network(nn.Module):
    """The whole of it; ``by_class`` ones have a score for each class."""

    def __init__(self, fromrgb: Equal, blocks: list[Block], last: list[Equal], by_class: bool) -> None:
        super().__init__()
        self.fromrgb, self.blocks, self.last = fromrgb, nn.ModuleList(blocks), nn.ModuleList(last)
        width = fromrgb.weight.shape[0] if not blocks else blocks[-1].second.weight.shape[0]
        self.fused = [block.second.fused for block in blocks]
        self.deviations = last[0].weight.shape[1] - width
        self.num_classes = last[2].weight.shape[0] if by_class and last[2].weight.shape[0] > 1 else None

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Return scores [N] of images that are compared with each other."""
        x = F.leaky_relu(self.fromrgb(images), 0.2)
        for block in self.blocks:
            x = block(x)
        conv, dense, out = self.last
        x = F.leaky_relu(conv(with_deviation(x, self.deviations)), 0.2)
        x = out(F.leaky_relu(dense(x.flatten(1)), 0.2))
        return x[:, 0] if labels is None else (x * labels).sum(1)


def of_genforce(tensors: Tensors) -> Read | None:
    """Return what genforce's names hold, None if they are others."""
    if "input0.weight" not in tensors or "layer0.weight" not in tensors:
        return None
    if any(key.startswith("skip_layer") for key in tensors):
        return None
    blurs = {key: value for key, value in tensors.items() if BLUR.fullmatch(key)}
    if odd := next((key for key, value in blurs.items() if not is_filter(value)), None):
        raise GanatomyError(f"{odd} is not the standard filter of this family; not supported")
    kept = {key: value for key, value in tensors.items() if key not in blurs}
    return Read(kept, blurs, "stylegan" if blurs else "pggan", "genforce", "auto" if blurs else False)


def of_tensorflow(tensors: Tensors, function: str | None) -> Read | None:
    """Return what NVIDIA's variables hold, None if they are others.

    Args:
        function: the name of the one that made the network, if the file has it.
    """
    if "FromRGB_lod0/weight" not in tensors or "4x4/Dense0/weight" not in tensors:
        return None
    sides = [int(found[1]) for key in tensors if (found := SCOPE.fullmatch(key))]
    top = max(sides, default=4)
    last = 2 * (top.bit_length() - 3)
    named: dict[str, Tensor] = {}
    for key, value in tensors.items():
        scope, _, part = key.rpartition("/")
        sided = SCOPE.fullmatch(key)
        if sided is not None:
            layer = 2 * (top.bit_length() - int(sided[1]).bit_length()) + (sided[2] != "Conv0")
            name = f"layer{layer}.{part}"
        elif scope in LAST:
            name = f"layer{last + LAST.index(scope)}.{part}"
        elif scope.startswith("FromRGB_lod"):
            name = f"input{scope.removeprefix('FromRGB_lod')}.{part}"
        else:
            name = key
        if name in named:
            raise GanatomyError(f"unexpected key {key}: another has its place")
        named[name] = unturned(value)
    plain = any("/Conv1/" in key for key in tensors)  # only PGGAN's code calls it that
    family = FUNCTIONS.get((function or "").rpartition(".")[2]) or ("pggan" if plain else None)
    return Read(named, {}, family, "tensorflow", "auto" if family == "stylegan" else not plain)


def build(read: Read, fused_scale: bool | str) -> tuple[Network, int]:
    """Return the network with its weights, and the resolution of its images.

    Args:
        fused_scale: whether the second kernels of blocks are fused, or ``auto``.

    Raises:
        GanatomyError: for tensors that are missing, unknown, or of shapes that do not go together; for a network that
            has not grown to full size; where nothing tells which of the two it is.
    """
    if read.family is None:
        raise GanatomyError("PGGAN's and StyleGAN's discriminators have the same names, and nothing tells which it is")
    tensors = {key: value for key, value in read.tensors.items() if key != "lod"}
    lod = read.tensors.get("lod")
    if lod is not None and (lod.numel() != 1 or float(lod) != 0):
        raise GanatomyError(f"scores at full size only, and its lod is {lod.flatten()[:1].tolist()}")
    if odd := sorted(key for key in tensors if not KEY.fullmatch(key)):
        raise GanatomyError(f"unexpected key {odd[0]}")
    numbers = {key: int(found[1]) for key in tensors if (found := KEY.fullmatch(key))}
    layers = [number for key, number in numbers.items() if key.startswith("layer")]
    count = min(max(max(layers) // 2 - 1, 0), MAX_BLOCKS)  # blocks that halve
    beyond = {"input": count, "layer": 2 * count + 2}
    if odd := sorted(key for key, number in numbers.items() if number > beyond[key[:5]]):
        raise GanatomyError(f"unexpected key {odd[0]}")
    fromrgb = equal(tensors, "input0", kernel=1)
    width, blocks = int(fromrgb.weight.shape[0]), []
    for block in range(count):
        side = 4 << (count - block)
        fused = side >= FUSED_FROM if fused_scale == "auto" else bool(fused_scale)
        first = equal(tensors, f"layer{2 * block}", inputs=width, padding=1)
        second = equal(tensors, f"layer{2 * block + 1}", inputs=first.weight.shape[0], padding=1, fused=fused)
        blocks.append(Block(first, second, blurs=read.family == "stylegan"))
        width = int(second.weight.shape[0])
    for key, value in read.blurs.items():
        halves = blocks[at // 2].second if (at := int(key[5:].partition(".")[0])) % 2 and at < 2 * count else None
        if halves is None or len(value) != halves.weight.shape[1]:
            raise GanatomyError(f"unexpected key {key} {list(value.shape)}")
    conv = equal(tensors, f"layer{2 * count}", padding=1)
    check_deviations(f"layer{2 * count}.weight", conv.weight.shape[1], width)
    dense = equal(tensors, f"layer{2 * count + 1}", kernel=0, inputs=16 * conv.weight.shape[0])
    out = equal(tensors, f"layer{2 * count + 2}", kernel=0, inputs=dense.weight.shape[0], gain=1.0)
    return Network(fromrgb, blocks, [conv, dense, out], read.family == "stylegan"), 4 << count
