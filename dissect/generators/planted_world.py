"""What a planted seed draws: shapes, colours, places, and which unit has which role. Pure data, no network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from segmodels import GanatomyError
from segmodels.planted import COLOURS, SHAPES

GRID = 16  # cells of the first layer
CELLS = 4  # a shape is CELLS x CELLS cells
ROUND = 64  # z is rounded to 1 / ROUND
Z_DIM = 64
MAX_UNITS = 4096
RARE_THRESHOLD = 131  # in 1/64: P(z > 2.05) = 2.0%
GARBAGE_THRESHOLD = 34  # P(z > 0.53) = 29.8%
SUPPRESS_THRESHOLD = 43  # P(z > 0.67) = 25.1%
QUINTILES = (-54, -16, 16, 54)
SEXTILES = (-62, -28, 0, 28, 62)
# Steps above the background; no channel of these decodes as a shape, and green never as a colour.
GARBAGE_RGB = ((40.5, 20.5, 36.5), (28.5, 24.5, 8.5))

PATTERNS = {
    "circle": (".##.", "####", "####", ".##."),
    "square": ("####", "####", "####", "####"),
    "cross": (".#..", "####", ".#..", ".#.."),
    "diamond": (".#..", "###.", "####", ".##."),
    "frame": ("####", "#..#", "#..#", "####"),
    "stripes": ("####", "....", "####", "####"),
    "blob": (".###", "####", "####", "###."),
}


@dataclass(frozen=True)
class Blob:
    """Something with a place: present if z[presence_dim] > threshold / 64, placed by two other entries of z."""

    name: str
    pattern: str
    presence_dim: int
    row_dim: int
    column_dim: int
    threshold: int


@dataclass(frozen=True)
class Role:
    """What a unit does. ``copy`` tells roles of the same kind and concepts apart.

    Kinds: painting, rare (paints in 2% of the images), shifted, entangled, correlated, inhibitory, independent,
    garbage, inert.
    """

    kind: str
    concepts: tuple[str, ...] = ()
    copy: int = 0
    constant: float = 0.0


@dataclass(frozen=True, eq=False)
class World:
    """Everything a planted seed decides. See :func:`make_world`."""

    seed: int
    units: int
    layers: int
    noise: float
    blobs: tuple[Blob, ...]
    drawing_order: tuple[str, ...]  # the first is on top
    drawn_shapes: tuple[str, ...]
    drawn_colours: tuple[str, ...]
    colour_dims: dict[str, int]
    shifted: tuple[str, ...]
    suppressed: str
    suppress_dim: int
    doubled: tuple[str, ...]
    roles: tuple[tuple[Role, ...], ...]  # [layer][unit]
    scales: tuple[tuple[float, ...], ...]  # [layer][unit], powers of two
    z_dim: int = Z_DIM
    positions: tuple[int, ...] = (0, 3, 6, 9, 12)
    position_thresholds: tuple[int, ...] = QUINTILES
    suppress_threshold: int = SUPPRESS_THRESHOLD
    shift: int = CELLS // 2

    @property
    def colour_thresholds(self) -> tuple[int, ...]:
        """Where z changes a shape's colour."""
        return SEXTILES if len(self.drawn_colours) == len(COLOURS) else QUINTILES

    @cached_property
    def basis(self) -> tuple[tuple, ...]:
        """The maps that the input makes: visible blobs, shifted shapes, coloured parts, the suppressed part."""
        visible = [("blob", blob.name) for blob in self.blobs]
        shifted = [("shifted", name) for name in self.shifted]
        coloured = [("coloured", s, c) for s in self.drawn_shapes for c in range(len(self.drawn_colours))]
        return (*visible, *shifted, *coloured, ("suppressed",))

    def channels_of(self, role: Role) -> list[int]:
        """Indices of the basis maps whose sum is the role's map."""
        index = {entry: i for i, entry in enumerate(self.basis)}
        if role.kind == "inert":
            return []
        if role.kind == "inhibitory":
            return [index["suppressed",]]
        if role.kind == "shifted":
            return [index["shifted", role.concepts[0]]]
        if role.kind in ("independent", "garbage"):
            return [index["blob", f"{role.kind}{role.copy}"]]
        channels = []
        for concept in role.concepts:
            if concept in SHAPES:
                channels.append(index["blob", concept])
            else:
                colour = self.drawn_colours.index(concept)
                channels += [index["coloured", shape, colour] for shape in self.drawn_shapes]
        return channels

    def unit_of(self, layer: int, role: Role) -> int:
        """The unit that has a role in a layer."""
        return self.roles[layer].index(role)

    def painters(self, concept: str) -> int:
        """How many units of a layer paint a concept together."""
        return 2 if concept in self.doubled else 1

    def colour_index(self, concept: str) -> int:
        """Index of a colour among all colours."""
        return COLOURS.index(concept)

    def stamp(self, blob: Blob, top: int, left: int) -> np.ndarray:
        """Return the blob's pattern on an empty grid, float32 [16, 16], cut at the edges."""
        grid = np.zeros((GRID, GRID), np.float32)
        for row, line in enumerate(PATTERNS[blob.pattern]):
            for column, cell in enumerate(line):
                if cell == "#" and top + row < GRID and left + column < GRID:
                    grid[top + row, left + column] = 1
        return grid

    def noise_map(self, seed: int, layer: int) -> np.ndarray:
        """Return the noise of a layer, float32 [U, h, w]: multiples of noise / 64 in [0, noise)."""
        side = GRID << layer
        state = np.random.RandomState([seed % 2**32, layer])
        return (state.randint(0, ROUND, (self.units, side, side)) * (self.noise / ROUND)).astype(np.float32)


def make_world(seed: int, units: int, layers: int, noise: float) -> World:
    """Draw a world.

    Args:
        seed: any non-negative integer.
        units: per layer; at least as many as there are roles (29), at most MAX_UNITS.
        layers: 3 to 5; layer i has 16 * 2^i cells a side.
        noise: amplitude added to every unit's map; a multiple of 1/64 in [0, 1].

    Raises:
        GanatomyError: for a setting out of range.
    """
    if not 0 <= seed < 2**32:
        raise GanatomyError(f"planted: expected a seed between 0 and {2**32 - 1}, got {seed}")
    if not 3 <= layers <= 5:
        raise GanatomyError(f"planted: expected 3 to 5 layers, got {layers}")
    if not 0 <= noise <= 1 or noise * ROUND != int(noise * ROUND):
        raise GanatomyError(f"planted: expected noise as a multiple of 1/64 in [0, 1], got {noise}")
    state = np.random.RandomState(seed)
    dims = iter(state.permutation(Z_DIM).tolist())
    shapes, colours = state.permutation(SHAPES).tolist(), state.permutation(COLOURS).tolist()
    if state.randint(2):  # the concept that nobody paints is a shape, or else a colour
        shapes.pop()
    else:
        colours.pop()
    rare = shapes[0]
    thresholds = {s: int(state.randint(-24, 25)) for s in shapes} | {rare: RARE_THRESHOLD}
    extras = [("garbage0", GARBAGE_THRESHOLD), ("garbage1", GARBAGE_THRESHOLD)]
    extras += [(f"independent{i}", int(state.randint(-24, 25))) for i in range(4)]
    blobs = tuple(
        Blob(name, name if name in PATTERNS else "blob", next(dims), next(dims), next(dims), threshold)
        for name, threshold in [*thresholds.items(), *extras]
    )
    common = shapes[1:]
    doubled = (common[0], colours[0], colours[1])
    suppressed = common[1]
    roles = _roles(state, shapes, colours, rare, doubled, suppressed)
    if not len(roles) <= units <= MAX_UNITS:
        raise GanatomyError(f"planted: expected {len(roles)} to {MAX_UNITS} units, got {units}")
    inert = [Role("inert", copy=i, constant=float(i % 2)) for i in range(units - len(roles))]
    everyone = [*roles, *inert]
    return World(
        seed=seed,
        units=units,
        layers=layers,
        noise=noise,
        blobs=blobs,
        drawing_order=("garbage0", "garbage1", rare, *state.permutation(common).tolist()),
        drawn_shapes=tuple(shapes),
        drawn_colours=tuple(colours),
        colour_dims={shape: next(dims) for shape in shapes},
        shifted=(common[2], common[3]),
        suppressed=suppressed,
        suppress_dim=next(dims),
        doubled=doubled,
        roles=tuple(tuple(everyone[i] for i in state.permutation(units)) for _ in range(layers)),
        scales=tuple(tuple((2.0 ** state.randint(-2, 3, units)).tolist()) for _ in range(layers)),
    )


def _roles(
    state: np.random.RandomState,
    shapes: list[str],
    colours: list[str],
    rare: str,
    doubled: tuple[str, ...],
    suppressed: str,
) -> list[Role]:
    """Every role but the inert ones."""
    common = shapes[1:]
    roles = [Role("rare" if c == rare else "painting", (c,)) for c in [*shapes, *colours]]
    roles += [Role("painting", (c,), copy=1) for c in doubled]
    roles += [Role("shifted", (common[2],)), Role("shifted", (common[3],))]
    pairs = [state.choice(len(common), 2, replace=False) for _ in range(2)]
    roles += [Role("entangled", (common[a], common[b]), copy=i) for i, (a, b) in enumerate(pairs)]
    roles += [Role("correlated", (c,)) for c in (common[0], common[3], colours[2], colours[3])]
    roles += [Role("inhibitory", (suppressed,))]
    roles += [Role("independent", copy=i) for i in range(4)]
    roles += [Role("garbage", copy=i) for i in range(2)]
    return roles
