"""The weights of a planted generator, written row by row from what its world says. Every one is dyadic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segmodels.planted import BASE, CODES, COLOUR_BITS, FULL, SHAPES, STEP

from .planted_world import GARBAGE_RGB, GRID, ROUND, Role, World

RGB = 3


class Program:
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


def layer_weights(world: World, index: int) -> tuple[np.ndarray, np.ndarray]:
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


def output_weights(world: World) -> tuple[np.ndarray, np.ndarray]:
    """The last layer's units to RGB."""
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
