"""The BigGAN-deep family: configuration read off the tensors and ``config.json``, stages, layers.

Layers are called as the public code calls its modules; ``relu_{i}`` are the ReLUs, of which it has one for all.

**Truncation** does two things here: z is multiplied by it, and it chooses the statistics of the batch norms, which the
file has for 51 truncations. Between two of these the published code gives each the other's weight; so does this, and
with ``statistics=corrected`` it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace

import torch
from torch import Tensor, nn

from segmodels import GanatomyError

from .base import Layer, State
from .biggan import check_variances
from .biggan_deep_layouts import COLORS, LAYOUTS
from .biggan_deep_network import CONVS, Block, Config, Network, Norm
from .biggan_deep_settings import OPTIONS, configure
from .biggan_network import Attention, doubled
from .classed import ClassGenerator, joined, latent
from .family import Family, Opening, Slices
from .layers import rgb
from .spectral import as_matrix, between, divided, normalised, vectors
from .start import SIDE

FAMILY_NAME = "biggan-deep"


class BigGANDeep(ClassGenerator):
    """A BigGAN-deep generator."""

    def __init__(self, network: Network, config: Config, opening: Opening) -> None:
        self.config = config
        self._network = network
        self._stages, self._places, self._ends = [], {}, set()
        found: list[Layer] = []
        inner, side = network.generator, SIDE
        blocks = dict(config.blocks)
        self._add(found, [("generator.gen_z", inner.gen_z, config.blocks[0][1].inputs, "conv")], side, self._start)
        width = 0
        for place, module in enumerate(inner.layers):
            if place in blocks:
                side, width = self._block(found, place, module, side), blocks[place].outputs
                continue
            self._add(found, [(f"generator.layers.{place}", module, width, "block")], side, _run(module))
        last = [
            ("generator.bn", inner.bn, width, "norm"), ("generator.relu", inner.relu, width, "activation"),
        ]  # fmt: skip
        self._add(found, last, side, lambda state: self._normed(state, inner.bn, inner.relu))
        drawn = [("generator.conv_to_rgb", inner.conv_to_rgb, config.filters, "conv")]
        self._add(found, drawn, side, _run(inner.conv_to_rgb))
        chosen = joined(found)
        super().__init__(
            **opening.common,
            family=FAMILY_NAME,
            module=network,
            sites=self._places,
            layers=[replace(layer, default=layer.name in chosen) for layer in found],
            resolution=config.resolution,
            z_dim=config.z_dim,
            num_classes=config.num_classes,
            configuration=asdict(config),
        )

    def _block(self, found: list[Layer], place: int, block: nn.Module, side: int) -> int:
        """Add a block in five stages: up to its first convolution, three more, the sum. Return the side after it."""
        assert isinstance(block, Block)
        name, layout = f"generator.layers.{place}", dict(self.config.blocks)[place]
        parts = [[block.get_submodule(f"{kind}_{i}") for kind in ("conv", "bn", "relu")] for i in range(CONVS)]

        def enter(state: State) -> State:
            return replace(self._normed(state, *parts[0][1:]), skip=state.x)

        def middle(i: int) -> Callable[[State], State]:
            def run(state: State) -> State:
                assert state.x is not None
                x = doubled(state.x) if layout.up and i == 1 else state.x
                return self._normed(replace(state, x=parts[i][0](x)), *parts[i + 1][1:])

            return run

        def leave(state: State) -> State:
            assert state.skip is not None
            beside = state.skip[:, : layout.outputs]
            beside = doubled(beside) if layout.up else beside
            return replace(state, x=block.sum(parts[-1][0](state.x), beside), skip=None)

        hidden, after = layout.hidden, side * (2 if layout.up else 1)
        first = [(f"{name}.bn_0", parts[0][1], layout.inputs, "norm")]
        self._add(found, [*first, (f"{name}.relu_0", parts[0][2], layout.inputs, "activation")], side, enter)
        for i in range(CONVS - 1):
            self._add(found, [
                (f"{name}.conv_{i}", parts[i][0], hidden, "conv"),
                (f"{name}.bn_{i + 1}", parts[i + 1][1], hidden, "norm"),
                (f"{name}.relu_{i + 1}", parts[i + 1][2], hidden, "activation"),
            ], after if i else side, middle(i))  # fmt: skip
        self._add(found, [
            (f"{name}.conv_3", parts[3][0], layout.outputs, "conv"), (name, block.sum, layout.outputs, "block"),
        ], after, leave)  # fmt: skip
        return after

    def _conditions(self, state: State) -> Tensor:
        """Return what everything reads: z and the embedding, [N, D]."""
        assert state.codes.w is not None
        return torch.cat([latent(state), state.codes.w[:, 0]], dim=1)

    def _start(self, state: State) -> State:
        return replace(state, x=self._network.generator.gen_z(self._conditions(state)[:, :, None, None]))

    def _normed(self, state: State, norm: nn.Module, relu: nn.Module) -> State:
        return replace(state, x=relu(norm(state.x, self._conditions(state), state.codes.truncation)))

    def finish(self, state: State) -> Tensor:
        """The hyperbolic tangent of the last convolution's first three maps is the image."""
        assert state.x is not None
        return torch.tanh(rgb(state.x[:, :COLORS]))

    def embedded(self, classes: Tensor) -> Tensor:
        """Return the embeddings [N, D] of classes [N]."""
        found: Tensor = self._network.embeddings(classes)
        return found


def _run(module: nn.Module) -> Callable[[State], State]:
    return lambda state: replace(state, x=module(state.x))


def make(opening: Opening) -> BigGANDeep:
    """Return the generator of a stored network."""
    config = configure(opening)
    with torch.device("meta"):
        network = Network(config)
    _divide(opening, network)
    check_variances(opening)
    opening.fill(network)
    return BigGANDeep(network, config, opening)


def _divide(opening: Opening, network: nn.Module) -> None:
    """Divide weights by their spectral norms: between the two vectors beside each."""
    for name, swapped in normalised(network).items():
        weight = opening.need(name, network.get_parameter(name).ndim)
        matrix, owner = as_matrix(weight.float(), swapped), name.removesuffix("weight")
        sides = []
        for vector, length in zip("uv", matrix.shape, strict=True):
            side = opening.need(f"{owner}{vector}", 1)
            if len(side) != length:
                key = opening.layout.key_of(f"{owner}{vector}")
                raise GanatomyError(f"checkpoint: {key} is {list(side.shape)}, expected {[length]}")
            sides.append(side)
            del opening.tensors[f"{owner}{vector}"]
        opening.tensors[name] = divided(weight, between(matrix, *sides), opening.layout.key_of(name))


def held(stored: Mapping[str, Tensor], own: Mapping[str, Tensor], changed: set[str]) -> dict[str, Tensor | None]:
    """Return what a file must hold for changed weights (see :class:`Family`): vectors that give them the norm 1."""
    found: dict[str, Tensor | None] = {}
    for name in sorted(changed):
        owner = name.removesuffix("weight")
        if f"{owner}u" in stored:
            weight = own[name]
            matrix = as_matrix(weight, owner == "generator.gen_z.")
            u, v = vectors(matrix, stored[f"{owner}u"].float(), stored[f"{owner}v"].float(), name)
            found |= {name: weight, f"{owner}u": u, f"{owner}v": v}
    return found


def zeroed_by(generator: BigGANDeep, module: str) -> Slices | str:
    """Return what makes a unit zero (see :class:`Family`), or why nothing does."""
    part, owner = generator.module.get_submodule(module), module.rpartition(".")[0]
    if module in ("generator.bn", "generator.relu"):
        return (("generator.bn.weight", 0), ("generator.bn.bias", 0))
    if isinstance(part, (Norm, nn.ReLU)):
        return ((f"{owner}.conv_{module[-1]}.weight", 1),)
    if isinstance(part, Attention):
        return "self-attention mixes the very maps that it adds to, so their own weights say nothing of its sum"
    if module.endswith(".sum"):
        return "its block adds to it what entered the block, and no weight stands between"
    return ((f"{module}.weight", 1 if module == "generator.gen_z" else 0), (f"{module}.bias", 0))


FAMILY = Family(FAMILY_NAME, "BigGAN-deep", LAYOUTS, make, OPTIONS, zeroed_by=zeroed_by, held=held)
