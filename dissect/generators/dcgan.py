"""DCGAN (Radford et al., 2016): transposed convs, batch norm and ReLU, tanh at the end; with classes or without.

Layers are called as the code calls its modules that wrote the file (``dcgan_layouts``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segmodels import GanatomyError
from segmodels.files import shown

from .base import State
from .codes import Codes
from .dcgan_layouts import LABEL, LAYOUTS, ZOO, zoo_modules
from .family import Fact, Family, Opening, Option, Slices
from .pggan import truth, whole
from .sequential import SequentialGenerator

FAMILY_NAME = "dcgan"
KERNEL = 4  # of every conv but the first: stride 2 and padding 1 follow from it, another kernel would leave them open
Names = Callable[[str], str]  # canonical name -> key in the file, for messages


class DCGAN(SequentialGenerator):
    """A DCGAN; with classes its first layer takes z and, beside it, the class's row of a table or a one-hot class."""

    label_first = False

    def begin(self, codes: Codes) -> State:
        """Start from z, with the class, as a one-pixel map."""
        state = super().begin(codes)
        if not self.num_classes:
            return state
        if codes.classes is None:
            raise GanatomyError(f"{self.name} ({self.family}) needs codes with classes")
        assert state.x is not None
        classes, table = codes.classes.to(self.device), self.module._parameters.get(LABEL)
        rows = F.one_hot(classes, self.num_classes).to(state.x) if table is None else table[classes]
        parts = [state.x, rows[:, :, None, None]]
        return replace(state, x=torch.cat(parts[::-1] if self.label_first else parts, dim=1))


def build(tensors: Mapping[str, Tensor], key: Names) -> nn.Sequential:
    """Build the network whose sizes are those of the tensors, under canonical names, and load them.

    Convs sit at 0, 3, 6, ...; the first has stride 1 and no padding, the others stride 2 and padding 1; batch
    norm (eps 1e-5) and ReLU follow each but the last, which is followed by tanh.

    Raises:
        GanatomyError: for missing, extra or mis-shaped keys, naming them.
    """
    places = [int(place) for name in tensors if (place := name.partition(".")[0]).isdigit()]
    last = (max(places) + 2) // 3 * 3  # a batch norm is followed by another conv
    modules: list[nn.Module] = []
    channels: int | None = None
    for index in range(0, last + 1, 3):
        conv = _conv(tensors, index, channels, key)
        channels = conv.out_channels
        modules += [conv, nn.Tanh()] if index == last else [conv, nn.BatchNorm2d(channels), nn.ReLU()]
    if channels not in (1, 3):
        name = key(f"{last}.weight")
        raise GanatomyError(f"{name} makes {channels} channels, expected an image of 3 or 1 (DCGAN)")
    network = nn.Sequential(*modules)
    if LABEL in tensors:
        network.register_parameter(LABEL, nn.Parameter(torch.empty(tensors[LABEL].shape)))
    load_exactly(network, tensors, key)
    for index, module in enumerate(network):
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None and (module.running_var < 0).any():
            raise GanatomyError(f"{key(f'{index}.running_var')} holds negative values")
    return network


def _conv(tensors: Mapping[str, Tensor], index: int, channels: int | None, key: Names) -> nn.ConvTranspose2d:
    """Return the empty conv at a position, which takes ``channels`` (None: any number)."""
    name = f"{index}.weight"
    weight = tensors.get(name)
    if weight is None:
        raise GanatomyError(f"checkpoint lacks {key(name)}, expected a conv at every third index (DCGAN)")
    shape = list(weight.shape)
    kernel = "k, k" if index == 0 else f"{KERNEL}, {KERNEL}"
    fits = len(shape) == 4 and min(shape) > 0 and shape[2] == shape[3] and (index == 0 or shape[2] == KERNEL)
    if not fits or (channels is not None and shape[0] != channels):
        raise GanatomyError(f"{key(name)} is {shape}, expected [{channels or 'in'}, out, {kernel}] (DCGAN)")
    stride, padding = (1, 0) if index == 0 else (2, 1)
    bias = f"{index}.bias" in tensors
    return nn.ConvTranspose2d(shape[0], shape[1], shape[2], stride, padding, bias=bias)


def load_exactly(network: nn.Module, tensors: Mapping[str, Tensor], key: Names) -> None:
    """Load every tensor or refuse, naming the first keys that are missing, extra, mis-shaped or no real numbers."""
    expected = network.state_dict()
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    missing = sorted(expected.keys() - tensors.keys() - counters)
    extra = sorted(tensors.keys() - expected.keys())
    for problem, names in (("lacks", missing), ("has the unexpected key", extra)):
        if names:
            raise GanatomyError(f"checkpoint {problem} {shown(key(name) for name in names)}")
    for name, wanted in expected.items():
        given = tensors.get(name, wanted)
        if given.shape != wanted.shape:
            raise GanatomyError(f"checkpoint: {key(name)} is {list(given.shape)}, expected {list(wanted.shape)}")
        if wanted.is_floating_point() and not given.is_floating_point():
            raise GanatomyError(f"checkpoint: {key(name)} is {given.dtype}, expected floating-point numbers")
    network.load_state_dict({name: value.to(expected[name].dtype) for name, value in tensors.items()}, strict=False)


def make(opening: Opening) -> DCGAN:
    """Return the generator of a stored network."""
    theirs: dict[int, str] = {}
    if opening.layout.name == ZOO.name:
        theirs = zoo_modules(sum(name.endswith("running_mean") for name in opening.tensors))
    network = build(opening.tensors, opening.layout.key_of)
    first = network[0]
    assert isinstance(first, nn.ConvTranspose2d)
    convs = [module for module in network if isinstance(module, nn.ConvTranspose2d)]
    opening.read_off(channels=[conv.in_channels for conv in convs])
    opening.facts.append(Fact("batch_norm_eps", nn.BatchNorm2d(1).eps, "assumed"))
    classes, width = _labels(opening, first.in_channels)
    conditional: dict[str, object] = {}
    if classes:
        conditional = {"num_classes": classes, "label_first": opening.setting("label_first")}
    generator = DCGAN(
        [(theirs.get(index, f"main.{index}"), module) for index, module in enumerate(network)],
        **opening.common,
        family=FAMILY_NAME,
        module=network,
        z_dim=first.in_channels - width,
        aliases={f"main.{index}": name for index, name in theirs.items()},
        inputs=first.in_channels,
        num_classes=classes or None,
        configuration={"layout": "transposed convs, batch norm, ReLU, tanh"} | conditional,
    )
    generator.label_first = bool(conditional.get("label_first"))
    return generator


def _labels(opening: Opening, inputs: int) -> tuple[int, int]:
    """Return the number of classes, and how many of the network's inputs they take."""
    if LABEL in opening.tensors:
        if "n_classes" in opening.given:
            raise GanatomyError("option n_classes is for one-hot classes; this file has a table of them")
        classes, width = opening.need(LABEL, 2).shape
        opening.read_off(n_classes=classes)
    else:
        classes = width = opening.setting("n_classes")
    if width >= inputs:
        raise GanatomyError(f"classes take {width} numbers, but the network takes {inputs}, z included")
    return classes, width


def zeroed_by(generator: SequentialGenerator, module: str) -> Slices:
    """Return what makes a unit zero (see :class:`Family`): what makes it, since nothing is added afterwards.

    That is its row of a conv, or its scale and shift of a batch norm, whose ReLU leaves the zeros. A batch norm makes
    a constant of a conv's zeros, as it does where a hook puts them.
    """
    network, index = generator.module, int(module)
    assert isinstance(network, nn.Sequential)
    if isinstance(network[index], (nn.ReLU, nn.Tanh)):
        index -= 1
    maker = network[index]
    axes = {"weight": 1 if isinstance(maker, nn.ConvTranspose2d) else 0, "bias": 0}
    return tuple((f"{index}.{part}", axis) for part, axis in axes.items() if getattr(maker, part) is not None)


OPTIONS = (
    Option("n_classes", whole, 0, "a whole number; how many of the network's inputs are a one-hot class"),
    Option("label_first", truth, False, "true or false; whether the class comes before z in the network's inputs"),
)
FAMILY = Family(FAMILY_NAME, "DCGAN", LAYOUTS, make, OPTIONS, zeroed_by=zeroed_by)
