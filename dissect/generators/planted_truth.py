"""The truth about a planted generator, computed from z in NumPy alone: no network, no torch, none of our kernels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial

import numpy as np

from segmodels import GanatomyError
from segmodels.errors import unknown_name
from segmodels.planted import COLOURS, SHAPES

from .planted_world import GRID, ROUND, Role, World

CONCEPTS = ("unlabelled", *SHAPES, *COLOURS)


class Truth(Mapping[str, Mapping[int, "str | None"]]):
    """``truth[layer][unit]`` is the unit's concept, or None for units that must not be labelled.

    Attributes:
        kind: ``kind[layer][unit]``: painting, rare, shifted, entangled, correlated, inhibitory, independent,
            garbage or inert.
        concepts: ``concepts[layer][unit]``: every concept the unit has to do with (two for an entangled unit,
            the suppressed one for an inhibitory unit).
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._scene = lru_cache(maxsize=256)(partial(_Scene, world))  # asked again for every unit and layer
        self._layers = {f"layer{i + 1}": i for i in range(world.layers)}
        self.kind = {name: {u: r.kind for u, r in enumerate(world.roles[i])} for name, i in self._layers.items()}
        self.concepts = {
            name: {u: r.concepts for u, r in enumerate(world.roles[i])} for name, i in self._layers.items()
        }

    def __getitem__(self, layer: str) -> Mapping[int, str | None]:
        return {unit: _name(role) for unit, role in enumerate(self._world.roles[self._index(layer)])}

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def features(self, seeds: Sequence[int], layer: str) -> np.ndarray:
        """The units' maps, float32 [N, U, h, w], with the constant noise."""
        index = self._index(layer)
        scenes = [self._scene(int(seed)) for seed in seeds]
        maps = np.stack([[scene.map_of(role) for role in self._world.roles[index]] for scene in scenes])
        maps = maps * np.array(self._world.scales[index], np.float32)[None, :, None, None]
        maps = maps.repeat(1 << index, axis=2).repeat(1 << index, axis=3)
        return maps + self._world.noise_map(0, index) if self._world.noise else maps

    def labels(self, seeds: Sequence[int], ablated: tuple[str, Sequence[int]] | None = None) -> np.ndarray:
        """The labels that a reader of the images must find, int16 [N, 2, R, R], with units ablated or not."""
        gone = [self._world.roles[self._index(ablated[0])][u] for u in ablated[1]] if ablated else []
        grids = np.stack([self._scene(int(seed)).labels(gone) for seed in seeds])
        factor = 1 << (self._world.layers - 1)
        return grids.repeat(factor, axis=2).repeat(factor, axis=3)

    def iou(self, seeds: Sequence[int], layer: str, level: float | np.ndarray) -> np.ndarray:
        """IoU float64 [U, C] of each unit, on where its bilinearly upsampled map exceeds ``level``, with each concept.

        Args:
            seeds: the samples.
            layer: name of the layer.
            level: one activation for all units, or one per unit [U].

        Returns:
            Sums over all pixels of all samples, then the ratio; NaN where nothing is on and no pixel has the
            concept. Column 0 is plane 0's unlabelled.
        """
        units, concepts = self._world.units, len(CONCEPTS)
        both, on, area = np.zeros((units, concepts)), np.zeros(units), np.zeros(concepts)
        limit = np.broadcast_to(np.asarray(level, np.float32), (units,))[:, None, None]
        for seed in seeds:
            labels = self.labels([seed])[0]
            active = bilinear(self.features([seed], layer)[0], labels.shape[1]) > limit
            pixels = np.stack([labels[1 if c > len(SHAPES) else 0].ravel() == c for c in range(concepts)], 1)
            on += active.sum((1, 2))
            area += pixels.sum(0)
            both += active.reshape(units, -1).astype(np.float32) @ pixels.astype(np.float32)  # exact below 2^24
        union = on[:, None] + area[None] - both
        return np.divide(both, union, out=np.full_like(both, np.nan), where=union > 0)

    def effect(self, seeds: Sequence[int], layer: str, units: int | Sequence[int]) -> np.ndarray:
        """Change of each concept's area when ``units`` are set to zero, float64 [C], as a share of the pixels."""
        chosen = [units] if isinstance(units, (int, np.integer)) else list(units)
        return self._areas(self.labels(seeds, (layer, chosen))) - self._areas(self.labels(seeds))

    def _areas(self, labels: np.ndarray) -> np.ndarray:
        planes = [labels[:, 1 if c > len(SHAPES) else 0] == c for c in range(len(CONCEPTS))]
        return np.array([where.mean() for where in planes])

    def _index(self, layer: str) -> int:
        if layer not in self._layers:
            raise unknown_name("layer", layer, self._layers)
        return self._layers[layer]


class _Scene:
    """One sample, drawn on the grid cell by cell."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        z = np.rint(np.random.RandomState(seed).randn(world.z_dim).astype(np.float32) * ROUND)
        self._z = z
        self.whole: dict[str, np.ndarray] = {}
        self.moved: dict[str, np.ndarray] = {}
        for blob in world.blobs:
            here = z[blob.presence_dim] > blob.threshold
            top, left = self._place(blob.row_dim), self._place(blob.column_dim)
            self.whole[blob.name] = world.stamp(blob, top, left) * here
            self.moved[blob.name] = world.stamp(blob, top, left + world.shift) * here
        self.visible = dict(self.whole)
        covered = np.zeros((GRID, GRID), bool)
        for name in world.drawing_order:
            self.visible[name] = self.whole[name] * ~covered
            covered |= self.whole[name] > 0
        self.suppressing = bool(z[world.suppress_dim] > world.suppress_threshold)

    def _place(self, dim: int) -> int:
        return self.world.positions[sum(bool(self._z[dim] > t) for t in self.world.position_thresholds)]

    def _colour(self, shape: str) -> str:
        index = sum(bool(self._z[self.world.colour_dims[shape]] > t) for t in self.world.colour_thresholds)
        return self.world.drawn_colours[index]

    def _drawn(self, shape: str) -> np.ndarray:
        """Where a shape is seen, with its colour: nowhere when it is suppressed."""
        off = shape == self.world.suppressed and self.suppressing
        return self.visible[shape] * (not off)

    def _map_of_concept(self, concept: str) -> np.ndarray:
        if concept in SHAPES:
            return self.visible[concept]
        parts = [self._drawn(s) for s in self.world.drawn_shapes if self._colour(s) == concept]
        return sum(parts, np.zeros((GRID, GRID), np.float32))

    def map_of(self, role: Role) -> np.ndarray:
        """The role's map before scaling, float32 [16, 16]."""
        if role.kind == "inert":
            return np.full((GRID, GRID), role.constant, np.float32)
        if role.kind == "inhibitory":
            return self.visible[self.world.suppressed] * self.suppressing
        if role.kind == "shifted":
            return self.moved[role.concepts[0]]
        if role.kind in ("independent", "garbage"):
            return self.visible[f"{role.kind}{role.copy}"]
        return sum((self._map_of_concept(c) for c in role.concepts), np.zeros((GRID, GRID), np.float32))

    def labels(self, gone: Sequence[Role]) -> np.ndarray:
        """Label planes int16 [2, 16, 16] when some roles are ablated."""
        lost = {c for role in gone if role.kind in ("painting", "rare") for c in role.concepts}
        released = any(role.kind == "inhibitory" for role in gone)
        planes = np.zeros((2, GRID, GRID), np.int16)
        for shape in self.world.drawn_shapes:
            off = shape == self.world.suppressed and self.suppressing
            seen = self.visible[shape] > 0
            if shape not in lost and (not off or released):
                planes[0][seen] = CONCEPTS.index(shape)
            if not off and self._colour(shape) not in lost:
                planes[1][seen] = CONCEPTS.index(self._colour(shape))
        return planes


def bilinear(maps: np.ndarray, size: int) -> np.ndarray:
    """Upsample [U, h, w] to [U, size, size] between pixel centres, in plain NumPy; exact for these dyadic maps."""
    if size % maps.shape[1]:
        raise GanatomyError(f"cannot bring maps of {maps.shape[1]} to {size}")

    def positions(source: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        centre = np.clip((np.arange(size) + 0.5) * source / size - 0.5, 0, None)
        low = np.floor(centre).astype(int)
        return low, np.minimum(low + 1, source - 1), (centre - low).astype(np.float32)

    low, high, t = positions(maps.shape[1])
    rows = maps[:, low] * (1 - t)[None, :, None] + maps[:, high] * t[None, :, None]
    low, high, t = positions(maps.shape[2])
    return rows[:, :, low] * (1 - t) + rows[:, :, high] * t


def _name(role: Role) -> str | None:
    named = ("painting", "rare", "shifted", "correlated", "entangled")
    return role.concepts[0] if role.kind in named else None
