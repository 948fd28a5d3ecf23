"""The BigGAN family, with SAGAN and SNGAN: configuration read off the tensors, stages, layers.

Layers are called as the public PyTorch code calls its modules. ``blocks.{i}.0`` is the sum of a block's two branches,
``blocks.{i}.1`` self-attention behind it; ``act1`` and ``act2`` are the ReLUs after the batch norms, which have no
names there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace

import torch
from torch import Tensor, nn

from segmodels import GanatomyError

from .base import Layer, State
from .biggan_layouts import ATTENTION, LAYOUTS, MAX_BLOCKS
from .biggan_network import Attention, Block, Config, Network, doubled
from .classed import ClassGenerator, joined, latent
from .family import Family, Opening, Option, Slices
from .layers import rgb
from .spectral import as_matrix, divided, iterated, normalised
from .start import SIDE
from .stylebased import positive

FAMILY_NAME = "biggan"
MAX_STEPS = 100


class BigGAN(ClassGenerator):
    """A BigGAN, SAGAN or SNGAN generator."""

    def __init__(self, network: Network, config: Config, opening: Opening) -> None:
        self.config = config
        self._network = network
        self._stages, self._places, self._ends = [], {}, set()
        found: list[Layer] = []
        self._add(found, [("linear", network.linear, config.channels[0], "conv")], SIDE, self._start)
        for index, parts in enumerate(network.blocks):
            assert isinstance(parts, nn.ModuleList)
            self._block(found, index, parts)
        norm, relu, conv = network.output_layer
        side, width = SIDE * 2**config.blocks, config.channels[-1]
        last = [("output_layer.0", norm, width, "norm"), ("output_layer.1", relu, width, "activation")]
        self._add(found, last, side, lambda state: replace(state, x=relu(norm(state.x))))
        drawn = [("output_layer.2", conv, config.colors, "conv")]
        self._add(found, drawn, side, lambda state: replace(state, x=conv(state.x)))
        chosen = joined(found)
        super().__init__(
            **opening.common,
            family=FAMILY_NAME,
            module=network,
            sites=self._places,
            layers=[replace(layer, default=layer.name in chosen) for layer in found],
            resolution=side,
            z_dim=config.z_dim,
            num_classes=config.num_classes,
            configuration=asdict(config),
        )

    def _block(self, found: list[Layer], index: int, parts: nn.ModuleList) -> None:
        """Add a block in three stages: before its first convolution, up to its second, and the sum."""
        name, side, config = f"blocks.{index}.0", SIDE * 2**index, self.config
        block = parts[0]
        assert isinstance(block, Block)
        inputs, hidden, outputs = config.channels[index], config.hidden[index], config.channels[index + 1]

        def enter(state: State) -> State:
            return replace(state, x=block.act1(block.bn1(state.x, self._condition(state, index))), skip=state.x)

        def middle(state: State) -> State:
            assert state.x is not None
            x = block.conv1(doubled(state.x))
            return replace(state, x=block.act2(block.bn2(x, self._condition(state, index))))

        def leave(state: State) -> State:
            assert state.skip is not None
            return replace(state, x=block.sum(block.conv2(state.x), block.conv_sc(doubled(state.skip))), skip=None)

        self._add(found, [
            (f"{name}.bn1", block.bn1, inputs, "norm"), (f"{name}.act1", block.act1, inputs, "activation"),
        ], side, enter)  # fmt: skip
        self._add(found, [
            (f"{name}.conv1", block.conv1, hidden, "conv"), (f"{name}.bn2", block.bn2, hidden, "norm"),
            (f"{name}.act2", block.act2, hidden, "activation"),
        ], 2 * side, middle)  # fmt: skip
        self._add(found, [
            (f"{name}.conv2", block.conv2, outputs, "conv"), (f"{name}.conv_sc", block.conv_sc, outputs, "conv"),
            (name, block.sum, outputs, "block"),
        ], 2 * side, leave)  # fmt: skip
        if len(parts) > 1:
            attention = parts[1]
            mixed = [(f"blocks.{index}.1", attention, outputs, "block")]
            self._add(found, mixed, 2 * side, lambda state: replace(state, x=attention(state.x)))

    def _start(self, state: State) -> State:
        return replace(state, x=self._network.linear(latent(state)[:, : self.config.chunk, None, None]))

    def _condition(self, state: State, block: int) -> Tensor:
        """Return what the batch norms of a block read: [N, D], or classes [N]."""
        codes, config = state.codes, self.config
        if not config.shared:
            assert codes.classes is not None
            return codes.classes
        assert codes.w is not None
        own = latent(state)[:, config.chunk * (block + 1) : config.chunk * (block + 2)]
        return torch.cat([codes.w[:, 0], own], dim=1) if config.hier else codes.w[:, 0]

    def finish(self, state: State) -> Tensor:
        """The hyperbolic tangent of the last convolution is the image."""
        assert state.x is not None
        return torch.tanh(rgb(state.x))

    def embedded(self, classes: Tensor) -> Tensor | None:
        """Return the shared embedding [N, D] of classes [N], or None."""
        found: Tensor | None = self._network.shared(classes) if self.config.shared else None
        return found


def configure(opening: Opening) -> Config:
    """Read the configuration off the tensors and the options."""
    tensors, need = opening.tensors, opening.need
    blocks = next(i for i in range(MAX_BLOCKS + 1) if f"blocks.{i}.0.conv1.weight" not in tensors)
    names = [f"blocks.{i}.0" for i in range(blocks)]
    hidden = tuple(need(f"{name}.conv1.weight", 4).shape[0] for name in names)
    widths = tuple(need(f"{name}.conv2.weight", 4).shape[0] for name in names)
    chunk, first = need("linear.weight", 4).shape[:2]
    gain = need("blocks.0.0.bn1.gain.weight", 2).shape
    classes, shared = need("shared.weight", 2).shape if "shared.weight" in tensors else (gain[0], 0)
    own = gain[1] - shared if shared else 0
    if own not in (0, chunk):
        key = opening.layout.key_of("blocks.0.0.bn1.gain.weight")
        raise GanatomyError(f"checkpoint: {key} is {list(gain)}, expected {shared} or {shared + chunk} columns")
    attention = []
    for i in range(blocks):
        if any(f"blocks.{i}.1.{name}.weight" in tensors for name in ATTENTION):
            keys, values = (need(f"blocks.{i}.1.{name}.weight", 4).shape[0] for name in ("theta", "g"))
            attention.append((i, keys, values))
    colors = need("output_layer.2.weight", 4).shape[0]
    if colors not in (1, 3):
        raise GanatomyError(f"the network makes {colors} channels, expected an image of 3 or 1")
    config = Config(
        chunk=chunk,
        hier=own > 0,
        num_classes=classes,
        shared=shared,
        channels=(first, *widths),
        hidden=hidden,
        attention=tuple(attention),
        colors=colors,
        bn_eps=opening.setting("BN_eps"),
    )
    opening.read_off(
        dim_z=config.z_dim, hier=config.hier, G_shared=bool(shared), n_classes=classes, channels=list(config.channels),
        attention_after_blocks=[i for i, *_ in attention],
    )  # fmt: skip
    return config


def make(opening: Opening) -> BigGAN:
    """Return the generator of a stored network."""
    config = configure(opening)
    with torch.device("meta"):
        network = Network(config)
    divide(opening, network, config)
    check_variances(opening)
    opening.fill(network)
    return BigGAN(network, config, opening)


def divide(opening: Opening, network: nn.Module, config: Config) -> None:
    """Divide weights by their spectral norms, if the file has what they follow from: one step from ``u0`` at a time."""
    starts = {name for name in opening.tensors if name.endswith(".u0")}
    opening.read_off(spectral_norm=bool(starts))
    if not starts:
        return
    eps, steps = opening.setting("SN_eps"), opening.setting("num_G_SV_itrs")
    expected = normalised(network)
    for name, swapped in expected.items():
        weight, start = opening.need(name, network.get_parameter(name).ndim), f"{name.removesuffix('weight')}u0"
        outputs = as_matrix(weight, swapped).shape[0]
        u = opening.need(start, 2)
        if u.shape != (1, outputs):
            key = opening.layout.key_of(start)
            raise GanatomyError(f"checkpoint: {key} is {list(u.shape)}, expected {[1, outputs]}")
        matrix = as_matrix(weight.float(), swapped)
        opening.tensors[name] = divided(weight, iterated(matrix, u, steps, eps), opening.layout.key_of(name))
        starts.discard(start)
        del opening.tensors[start]
    if starts:
        raise GanatomyError(f"checkpoint has the unexpected key {opening.layout.key_of(min(starts))}")


def check_variances(opening: Opening) -> None:
    """Refuse negative variances."""
    for name, tensor in opening.tensors.items():
        if name.rpartition(".")[2] in ("stored_var", "running_vars") and (tensor < 0).any():
            raise GanatomyError(f"checkpoint: {opening.layout.key_of(name)} holds negative values")


def held(stored: Mapping[str, Tensor], own: Mapping[str, Tensor], changed: set[str]) -> dict[str, Tensor | None]:
    """Return what a file must hold for changed weights (see :class:`Family`): none divided, and nothing to divide by.

    No start of the power iteration makes up for what a change does to the norm. The public code reads such a file
    with a ``G_param`` other than ``SN``.
    """
    starts = [name for name in stored if name.endswith(".u0")]
    weights = {f"{name.removesuffix('u0')}weight" for name in starts}
    if not weights & changed:
        return {}
    return {name: own[name] for name in weights} | dict.fromkeys(starts)


def zeroed_by(generator: BigGAN, module: str) -> Slices | str:
    """Return what makes a unit zero (see :class:`Family`), or why nothing does.

    What is made by convolutions is zero where their rows and biases are: of a block's sum both of its convolutions'.
    What a conditional norm makes is zero for no class alone, but one convolution reads it, and its columns can be.
    """
    owner, _, part = module.rpartition(".")
    if part in ("bn1", "act1", "bn2", "act2"):
        return ((f"{owner}.conv{part[-1]}.weight", 1),)
    if part == "sum":
        return tuple((f"{owner}.{conv}.{what}", 0) for conv in ("conv2", "conv_sc") for what in ("weight", "bias"))
    if module in ("output_layer.0", "output_layer.1"):
        return (("output_layer.0.gain", 0), ("output_layer.0.bias", 0))
    if isinstance(generator.module.get_submodule(module), Attention):
        return "self-attention mixes the very maps that it adds to, so their own weights say nothing of its sum"
    return ((f"{module}.weight", 1 if module == "linear" else 0), (f"{module}.bias", 0))


def steps_of(value: object) -> int:
    """Return a number of steps, 1 to 100."""
    number = int(value)  # type: ignore[call-overload]
    if number != float(value) or not 1 <= number <= MAX_STEPS:  # type: ignore[arg-type]
        raise ValueError(value)
    return int(number)


OPTIONS = (
    Option("BN_eps", positive, 1e-5, "a positive number; epsilon of the conditional batch norms"),
    Option("SN_eps", positive, 1e-6, "a positive number; epsilon of the spectral norm's power iteration"),
    Option("num_G_SV_itrs", steps_of, 1, "1 to 100; steps of the spectral norm's power iteration"),
)

FAMILY = Family(FAMILY_NAME, "BigGAN", LAYOUTS, make, OPTIONS, zeroed_by=zeroed_by, held=held)
