"""Generators whose truth is known: real layers with hand-set dyadic weights, drawn from a seed.

The network is 1x1 convolutions, ReLU and nearest upsampling; z is rounded to 1/64 first. Every value is a small
multiple of a power of two, so its arithmetic is exact: batch size, threads and hardware cannot change a bit.
``planted_truth`` computes the same pictures from z in NumPy alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segmodels import GanatomyError
from segmodels.planted import BASE, CODES, COLOUR_BITS, FULL, SHAPES, STEP

from ..hooks import Site
from .base import Generator, Layer, State
from .codes import Codes
from .planted_truth import Truth
from .planted_world import GARBAGE_RGB, GRID, ROUND, Role, World, make_world

RGB = 3


class PlantedInput(nn.Module):
    """From z [N, z_dim, 1, 1] to the world's basis maps [N, basis, 16, 16], by thresholds, ANDs and stamps."""

    def __init__(self, world: World) -> None:
        super().__init__()
        program = _Program(world)
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
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        x = F.relu(self.conv(x))
        return x if noise is None else x + noise


class PlantedNetwork(nn.Module):
    """The input, the layers and the output of a planted generator."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.input = PlantedInput(world)
        for index in range(world.layers):
            weight, bias = _layer_weights(world, index)
            self.add_module(f"layer{index + 1}", PlantedLayer(weight, bias, upsample=index > 0))
        self.output = _conv(*_output_weights(world))


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
        count = len(state.codes)
        seeds = [0] * count if state.codes.noise is None else [int(s) for s in state.codes.noise]
        return torch.from_numpy(np.stack([self.world.noise_map(s, index) for s in seeds])).to(self.device)

    def begin(self, codes: Codes) -> State:
        """Start from z as a one-pixel map."""
        assert codes.z is not None
        return State(codes, codes.z.to(self.device)[:, :, None, None])

    def finish(self, state: State) -> Tensor:
        """The last map is the image."""
        assert state.x is not None
        return state.x


def parse(source: str, device: str | torch.device = "cpu") -> PlantedGenerator:
    """Return the generator of ``planted:SEED[,units=64,layers=3,noise=0.25]``; seed 0 if none is given."""
    _, _, rest = source.partition(":")
    seed, *settings = rest.split(",") if rest else ["0"]
    usage = "expected planted:SEED[,units=64,layers=3,noise=0.25]"
    values: dict[str, float] = {}
    try:
        for setting in settings:
            key, _, value = setting.partition("=")
            if key not in ("units", "layers", "noise"):
                raise GanatomyError(f"{usage}, got {source!r}")
            values[key] = float(value)
        return PlantedGenerator(
            int(seed), int(values.get("units", 64)), int(values.get("layers", 3)), values.get("noise", 0.0), device
        )
    except ValueError as error:
        raise GanatomyError(f"{usage}, got {source!r}") from error


# -- weights -------------------------------------------------------------------------------------------------


def _conv(weight: np.ndarray, bias: np.ndarray) -> nn.Conv2d:
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
    conv.weight.data = torch.from_numpy(weight.astype(np.float32))[:, :, None, None]
    conv.bias = nn.Parameter(torch.from_numpy(bias.astype(np.float32)))
    return conv


class _Program:
    """The weights of :class:`PlantedInput`, written row by row.

    A step [z > t] is ReLU(64 (z - t)) - ReLU(64 (z - t) - 1), exact since z and t are multiples of 1/64. A gate
    is an AND of steps: ReLU(sum - (n - 1)). A gate stamps a pattern onto the grid.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._step_of: dict[tuple[int, int], int] = {}
        self._gates: list[tuple[dict[int, float], float]] = []
        self._stamps: list[tuple[int, int, np.ndarray]] = []  # gate, map, pattern
        self.blob_maps = {blob.name: i for i, blob in enumerate(world.blobs)}
        self.shifted_maps = {s: len(self.blob_maps) + i for i, s in enumerate(world.shifted)}
        first = len(self.blob_maps) + len(self.shifted_maps)
        pairs = [(s, c) for s in world.drawn_shapes for c in range(len(world.drawn_colours))]
        self.colour_maps = {pair: first + i for i, pair in enumerate(pairs)}
        self.suppress_map = first + len(pairs)
        self.maps = self.suppress_map + 1
        self._write()
        self.step_weight, self.step_bias = self._steps()
        self.gate_weight, self.gate_bias = self._gate_arrays()
        self.stamps = np.zeros((len(self._gates), self.maps, GRID, GRID), np.float32)
        for gate, channel, pattern in self._stamps:
            self.stamps[gate, channel] += pattern

    def _write(self) -> None:
        world = self.world
        everywhere = np.ones((GRID, GRID), np.float32)
        for blob in world.blobs:
            for row in range(len(world.positions)):
                for column in range(len(world.positions)):
                    terms = [
                        self._above(blob.presence_dim, blob.threshold),
                        self._interval(blob.row_dim, world.position_thresholds, row),
                        self._interval(blob.column_dim, world.position_thresholds, column),
                    ]
                    gate = self._gate(terms)
                    top, left = world.positions[row], world.positions[column]
                    self._stamps.append((gate, self.blob_maps[blob.name], world.stamp(blob, top, left)))
                    if blob.name in self.shifted_maps:
                        shifted = world.stamp(blob, top, left + world.shift)
                        self._stamps.append((gate, self.shifted_maps[blob.name], shifted))
        for (shape, colour), channel in self.colour_maps.items():
            terms = [self._interval(world.colour_dims[shape], world.colour_thresholds, colour)]
            self._stamps.append((self._gate(terms), channel, everywhere))
        gate = self._gate([self._above(world.suppress_dim, world.suppress_threshold)])
        self._stamps.append((gate, self.suppress_map, everywhere))

    def _above(self, dim: int, threshold: int) -> dict[int, float]:
        step = self._step_of.setdefault((dim, threshold), len(self._step_of))
        return {2 * step: 1.0, 2 * step + 1: -1.0}

    def _interval(self, dim: int, thresholds: Sequence[int], index: int) -> dict[int, float]:
        """[thresholds[index - 1] < z <= thresholds[index]], open at both ends; the always-true term has key -1."""
        terms: dict[int, float] = {-1: 1.0} if index == 0 else self._above(dim, thresholds[index - 1])
        if index < len(thresholds):
            for key, value in self._above(dim, thresholds[index]).items():
                terms[key] = terms.get(key, 0.0) - value
        return terms

    def _gate(self, terms: Sequence[dict[int, float]]) -> int:
        weights: dict[int, float] = {}
        for term in terms:
            for key, value in term.items():
                weights[key] = weights.get(key, 0.0) + value
        bias = weights.pop(-1, 0.0) - (len(terms) - 1)
        self._gates.append((weights, bias))
        return len(self._gates) - 1

    def _steps(self) -> tuple[np.ndarray, np.ndarray]:
        weight = np.zeros((2 * len(self._step_of), self.world.z_dim))
        bias = np.zeros(2 * len(self._step_of))
        for (dim, threshold), step in self._step_of.items():
            weight[2 * step : 2 * step + 2, dim] = ROUND
            bias[2 * step] = -threshold
            bias[2 * step + 1] = -threshold - 1
        return weight, bias

    def _gate_arrays(self) -> tuple[np.ndarray, np.ndarray]:
        weight = np.zeros((len(self._gates), 2 * len(self._step_of)))
        bias = np.zeros(len(self._gates))
        for row, (terms, constant) in enumerate(self._gates):
            bias[row] = constant
            for key, value in terms.items():
                weight[row, key] = value
        return weight, bias

    def occlude(self) -> tuple[np.ndarray, np.ndarray]:
        """Each blob minus those drawn above it; everything else passes."""
        weight = np.eye(self.maps)
        for index, name in enumerate(self.world.drawing_order):
            for above in self.world.drawing_order[:index]:
                weight[self.blob_maps[name], self.blob_maps[above]] = -1
        return weight, np.zeros(self.maps)

    def paint(self) -> tuple[np.ndarray, np.ndarray]:
        """The basis maps in the order of ``World.basis``."""
        world = self.world
        weight, bias = np.zeros((len(world.basis), self.maps)), np.zeros(len(world.basis))
        for row, (kind, *what) in enumerate(world.basis):
            if kind == "blob":
                weight[row, self.blob_maps[what[0]]] = 1
            elif kind == "shifted":
                weight[row, self.shifted_maps[what[0]]] = 1
            elif kind == "coloured":
                shape, colour = what
                weight[row, self.blob_maps[shape]] = 1
                weight[row, self.colour_maps[shape, colour]] = 1
                bias[row] = -1
                if shape == world.suppressed:
                    weight[row, self.suppress_map] = -1
            else:  # the suppressed part of one shape
                weight[row, self.blob_maps[world.suppressed]] = 1
                weight[row, self.suppress_map] = 1
                bias[row] = -1
        return weight, bias


def _layer_weights(world: World, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Layer 1 reads the basis; later layers hand each role on to its own unit."""
    roles, bias = world.roles[index], np.zeros(world.units)
    inputs = len(world.basis) if index == 0 else world.units
    weight = np.zeros((world.units, inputs))
    for unit, role in enumerate(roles):
        scale = world.scales[index][unit]
        if role.kind == "inert":
            bias[unit] = scale * role.constant
        elif index == 0:
            for channel in world.channels_of(role):
                weight[unit, channel] = scale
        else:
            source = world.unit_of(index - 1, role)
            weight[unit, source] = scale / world.scales[index - 1][source]
    return weight, bias


def _output_weights(world: World) -> tuple[np.ndarray, np.ndarray]:
    weight, last = np.zeros((RGB, world.units)), world.layers - 1
    for unit, role in enumerate(world.roles[last]):
        weight[:, unit] = np.array(_contribution(world, role)) / world.scales[last][unit]
    return weight, np.full(RGB, BASE)


def _contribution(world: World, role: Role) -> tuple[float, float, float]:
    """What one unit adds to a pixel's RGB where its map is 1."""
    if role.kind == "garbage":
        red, green, blue = GARBAGE_RGB[role.copy]
        return red * STEP, green * STEP, blue * STEP
    if role.kind == "inhibitory":
        code = -CODES[SHAPES.index(role.concepts[0])] * STEP
        return code, code, code
    if role.kind not in ("painting", "rare"):
        return 0.0, 0.0, 0.0
    share = 1 / world.painters(role.concepts[0])
    if role.concepts[0] in SHAPES:
        code = CODES[SHAPES.index(role.concepts[0])] * STEP * share
        return code, code, code
    bits = COLOUR_BITS[world.colour_index(role.concepts[0])]
    red, green, blue = (bit * FULL * STEP * share for bit in bits)
    return red, green, blue
