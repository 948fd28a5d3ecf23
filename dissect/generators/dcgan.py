"""DCGAN (Radford et al., 2016) as the common ``main.{i}`` state dict: transposed convs, batch norm, ReLU, tanh."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from segmodels import GanatomyError
from segmodels.files import shown

from .family import Fact, Family, Opening, Slices
from .layouts import Layout, Place
from .sequential import SequentialGenerator

FAMILY_NAME = "dcgan"
MAX_PLACES = 64  # of modules in the chain: twenty convs
KERNEL = 4  # of every conv but the first: stride 2 and padding 1 follow from it, another kernel would leave them open
KEY = re.compile(r"main\.([0-9]{1,3})\.(\w+)")


def recognise(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has this layout: 4-D ``main.{0,3,6,…}.weight`` and batch norms between them."""
    places = [(int(found[1]), found[2], value) for key, value in tensors.items() if (found := KEY.fullmatch(key))]
    convs = any(index % 3 == 0 and name == "weight" and value.ndim == 4 for index, name, value in places)
    return convs and any(index % 3 == 1 and name.startswith("running_") for index, name, _ in places)


def build(tensors: Mapping[str, Tensor]) -> nn.Sequential:
    """Build the network whose sizes are those of the tensors, and load them.

    Convs sit at 0, 3, 6, ...; the first has stride 1 and no padding, the others stride 2 and padding 1; batch
    norm (eps 1e-5) and ReLU follow each but the last, which is followed by tanh.

    Raises:
        GanatomyError: for missing, extra or mis-shaped keys, naming them.
    """
    places = [int(found[1]) for key in tensors if (found := KEY.fullmatch(key))]
    last = (max(places) + 2) // 3 * 3  # a batch norm is followed by another conv
    modules: list[nn.Module] = []
    channels: int | None = None
    for index in range(0, last + 1, 3):
        conv = _conv(tensors, index, channels)
        channels = conv.out_channels
        modules += [conv, nn.Tanh()] if index == last else [conv, nn.BatchNorm2d(channels), nn.ReLU()]
    if channels not in (1, 3):
        raise GanatomyError(f"main.{last}.weight makes {channels} channels, expected an image of 3 or 1 (DCGAN)")
    network = nn.Sequential(*modules)
    load_exactly(network, tensors, "main.")
    for index, module in enumerate(network):
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None and (module.running_var < 0).any():
            raise GanatomyError(f"main.{index}.running_var holds negative values")
    return network


def _conv(tensors: Mapping[str, Tensor], index: int, channels: int | None) -> nn.ConvTranspose2d:
    """Return the empty conv at a position, which takes ``channels`` (None: any number)."""
    key = f"main.{index}.weight"
    weight = tensors.get(key)
    if weight is None:
        raise GanatomyError(f"checkpoint lacks {key}, expected a conv at every third index (DCGAN)")
    shape = list(weight.shape)
    kernel = "k, k" if index == 0 else f"{KERNEL}, {KERNEL}"
    fits = len(shape) == 4 and min(shape) > 0 and shape[2] == shape[3] and (index == 0 or shape[2] == KERNEL)
    if not fits or (channels is not None and shape[0] != channels):
        raise GanatomyError(f"{key} is {shape}, expected [{channels or 'in'}, out, {kernel}] (DCGAN)")
    stride, padding = (1, 0) if index == 0 else (2, 1)
    bias = f"main.{index}.bias" in tensors
    return nn.ConvTranspose2d(shape[0], shape[1], shape[2], stride, padding, bias=bias)


def load_exactly(network: nn.Module, tensors: Mapping[str, Tensor], prefix: str = "") -> None:
    """Load every tensor or refuse, naming the first keys that are missing, extra, mis-shaped or no real numbers.

    ``prefix`` + a name in the network is the name in ``tensors``.
    """
    expected = {prefix + key: value for key, value in network.state_dict().items()}
    counters = {key for key in expected if key.endswith("num_batches_tracked")}
    missing = sorted(expected.keys() - tensors.keys() - counters)
    extra = sorted(tensors.keys() - expected.keys())
    for problem, keys in (("lacks", missing), ("has the unexpected key", extra)):
        if keys:
            raise GanatomyError(f"checkpoint {problem} {shown(keys)}")
    for key, wanted in expected.items():
        given = tensors.get(key, wanted)
        if given.shape != wanted.shape:
            raise GanatomyError(f"checkpoint: {key} is {list(given.shape)}, expected {list(wanted.shape)}")
        if wanted.is_floating_point() and not given.is_floating_point():
            raise GanatomyError(f"checkpoint: {key} is {given.dtype}, expected floating-point numbers")
    loaded = {key.removeprefix(prefix): value.to(expected[key].dtype) for key, value in tensors.items()}
    network.load_state_dict(loaded, strict=False)


def make(opening: Opening) -> SequentialGenerator:
    """Return the generator of a stored network."""
    network = build({opening.layout.key_of(name): tensor for name, tensor in opening.tensors.items()})
    first = network[0]
    assert isinstance(first, nn.ConvTranspose2d)
    convs = [module for module in network if isinstance(module, nn.ConvTranspose2d)]
    opening.read_off(channels=[conv.in_channels for conv in convs])
    opening.facts.append(Fact("batch_norm_eps", nn.BatchNorm2d(1).eps, "assumed"))
    return SequentialGenerator(
        [(f"main.{index}", module) for index, module in enumerate(network)],
        name=opening.name,
        family=FAMILY_NAME,
        flavour=opening.layout.name,
        module=network,
        z_dim=first.in_channels,
        device=opening.device,
        file_sha256=opening.origin.sha256 or None,
        configuration={"layout": "transposed convs, batch norm, ReLU, tanh"},
    )


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


PARTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
MAIN = Layout(
    "main",
    recognise,
    tuple(Place(f"{index}.{part}", f"main.{index}.{part}") for index in range(MAX_PLACES) for part in PARTS),
    container="netG",
)
FAMILY = Family(FAMILY_NAME, "DCGAN", (MAIN,), make, zeroed_by=zeroed_by)
