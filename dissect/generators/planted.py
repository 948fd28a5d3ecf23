"""Generators whose truth is known: real layers with hand-set dyadic weights, drawn from a seed.

The network is 1x1 convolutions, ReLU and nearest upsampling; z is rounded to 1/64 first. Every value is a small
multiple of a power of two, so its arithmetic is exact: batch size, threads and hardware cannot change a bit.
``planted_truth`` computes the same pictures from z in NumPy alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segmodels import GanatomyError

from ..hooks import Site
from .base import Generator, Layer, State
from .codes import Codes
from .planted_truth import Truth
from .planted_weights import Program, layer_weights, output_weights
from .planted_world import GRID, ROUND, World, make_world

OPTIONS = ("units", "layers", "noise")


class PlantedInput(nn.Module):
    """From z [N, z_dim, 1, 1] to the world's basis maps [N, basis, 16, 16], by thresholds, ANDs and stamps."""

    def __init__(self, world: World) -> None:
        super().__init__()
        program = Program(world)
        self.steps = _conv(program.step_weight, program.step_bias)
        self.gates = _conv(program.gate_weight, program.gate_bias)
        self.stamp = nn.ConvTranspose2d(len(program.gate_bias), program.stamps.shape[1], GRID, bias=False)
        self.stamp.weight.data = torch.from_numpy(program.stamps)
        self.occlude = _conv(*program.occlude())
        self.paint = _conv(*program.paint())

    def forward(self, z: Tensor) -> Tensor:
        """Place everything that z asks for."""
        x = torch.round(z * ROUND) / ROUND
        x = F.relu(self.gates(F.relu(self.steps(x))))
        return F.relu(self.paint(F.relu(self.occlude(self.stamp(x)))))


class PlantedLayer(nn.Module):
    """Upsampling, 1x1 convolution, ReLU; then noise is added, which the next layer takes off again."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray, upsample: bool) -> None:
        super().__init__()
        self.upsample = upsample
        self.conv = _conv(weight, bias)

    def forward(self, x: Tensor, noise: Tensor | None, previous: Tensor | None) -> Tensor:
        """Return the units' maps [N, U, h, w]."""
        x = x if previous is None else F.relu(x - previous)
        if self.upsample:
            x = _doubled(x)
        x = F.relu(self.conv(x))
        return x if noise is None else x + noise


class PlantedNetwork(nn.Module):
    """The input, the layers and the output of a planted generator."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.input = PlantedInput(world)
        for index in range(world.layers):
            weight, bias = layer_weights(world, index)
            self.add_module(f"layer{index + 1}", PlantedLayer(weight, bias, upsample=index > 0))
        self.output = _conv(*output_weights(world))


class PlantedGenerator(Generator):
    """``planted:SEED[,units=64,layers=3,noise=0]``: a generator that knows what each of its units does.

    Attributes:
        truth: see :class:`Truth`.
    """

    has_noise = True

    def __init__(
        self, seed: int, units: int = 64, layers: int = 3, noise: float = 0.0, device: str | torch.device = "cpu"
    ) -> None:
        world = make_world(seed, units, layers, noise)
        network = PlantedNetwork(world)
        places = [
            Layer(f"layer{i + 1}", units, GRID << i, GRID << i, kind="block", stage=i + 1, default=True)
            for i in range(layers)
        ]
        options = {"units": (units, 64), "layers": (layers, 3), "noise": (noise, 0.0)}
        extra = "".join(f",{key}={value:g}" for key, (value, default) in options.items() if value != default)
        super().__init__(
            name=f"planted:{seed}{extra}",
            family="planted",
            flavour="planted",
            module=network,
            sites={layer.name: Site(network.get_submodule(layer.name)) for layer in places},
            layers=places,
            resolution=GRID << (layers - 1),
            z_dim=world.z_dim,
            device=device,
            configuration={"seed": seed, "units": units, "layers": layers, "noise": noise},
        )
        self.world = world
        self.network = network
        self.truth = Truth(world)
        self._noise_map = lru_cache(maxsize=layers)(world.noise_map)

    @property
    def stages(self) -> Sequence[Callable[[State], State]]:
        """The input, each layer, the output."""

        def first(state: State) -> State:
            assert state.x is not None
            return replace(state, x=self.network.input(state.x))

        def layer(index: int) -> Callable[[State], State]:
            module = self.network.get_submodule(f"layer{index + 1}")

            def run(state: State) -> State:
                noise, previous = self._noise(state, index), self._noise(state, index - 1)
                return replace(state, x=module(state.x, noise, previous))

            return run

        def last(state: State) -> State:
            assert state.x is not None
            noise = self._noise(state, self.world.layers - 1)
            x = state.x if noise is None else F.relu(state.x - noise)
            return replace(state, x=self.network.output(x))

        return [first, *(layer(i) for i in range(self.world.layers)), last]

    def _noise(self, state: State, index: int) -> Tensor | None:
        if self.world.noise == 0 or index < 0:
            return None
        if state.codes.noise is None:
            maps = self._noise_map(0, index)[None]
        else:
            maps = np.stack([self.world.noise_map(int(seed), index) for seed in state.codes.noise])
        return torch.from_numpy(maps).to(self.device)

    def begin(self, codes: Codes) -> State:
        """Start from z as a one-pixel map."""
        if codes.z is None:
            raise GanatomyError(f"{self.name} needs codes with z")
        return State(codes, codes.z.to(self.device)[:, :, None, None])

    def finish(self, state: State) -> Tensor:
        """The last map is the image."""
        assert state.x is not None
        return state.x


def parse(source: str, device: str | torch.device = "cpu") -> PlantedGenerator:
    """Return the generator of ``planted:SEED[,units=64,layers=3,noise=0.25]``; seed 0 if none is given."""
    _, _, rest = source.partition(":")
    seed, *settings = rest.split(",") if rest else ["0"]
    pairs = [setting.partition("=") for setting in settings]
    given = {key: value for key, _, value in pairs}
    try:
        if set(given) - set(OPTIONS) or len(given) < len(settings):
            raise ValueError("an unknown option, or one given twice")
        units, layers = int(given.get("units", 64)), int(given.get("layers", 3))
        return PlantedGenerator(int(seed), units, layers, float(given.get("noise", 0)), device)
    except ValueError as error:
        raise GanatomyError(f"expected planted:SEED[,units=64,layers=3,noise=0.25], got {source!r}") from error


def _doubled(x: Tensor) -> Tensor:
    """Upsample by nearest neighbour; the same as ``F.interpolate`` and eight times as fast."""
    n, units, height, width = x.shape
    return x[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2).reshape(n, units, 2 * height, 2 * width)


def _conv(weight: np.ndarray, bias: np.ndarray) -> nn.Conv2d:
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
    conv.weight.data = torch.from_numpy(weight.astype(np.float32))[:, :, None, None]
    conv.bias = nn.Parameter(torch.from_numpy(bias.astype(np.float32)))
    return conv
