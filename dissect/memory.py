"""How much memory counting takes: a formula in units, levels and concepts, and none in samples but for small things.

For U units of h x w in a layer, C concepts, B levels, Q coarse ones, k top samples::

    counts   2 x 2 x U x C x (B + 1)        x 4 bytes   (8 if more than 2^32 pixels are counted)
    slab     2 x U x C x (Q + 1)            x 4         of the current group; up to 32 MB of finished ones
    atom     2 x U x C x (B + 1)            x 4         of the current atom
    moments  2 x (U^2 + (C + 1) x U)        x 8
    top      U x k x min(h, 64) x min(w, 64) x 2
    examples U x (48 x (min(h, 32) x min(w, 32) x 2 + 8) + min(N, 4096) x 4)
    samples  N x (C x 8 + U x 4 if maxima), and up to U x k thumbnails

Beside that, and not reckoned with here, work in hand: two batches more than are made at a time, and what the network
needs for each in the making; the batches that are counted together (16 MB, twice while they are joined); up to 64 MB of
values in float64; and per thread C x 2 (B + 1) x 4 bytes and the table of a sample's M combinations, M x 4 (B + 1) x 2
or 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .accumulate import UINT32_PIXELS
from .examples import LARGEST_EXAMPLE, POOL, RANKED
from .levels import COARSE
from .plan import GROUPS, Plan
from .slabs import HELD_BYTES
from .statistics import LARGEST_STORED_MAP

THUMBNAIL_BYTES = 4000  # of a JPEG, roughly


@dataclass(frozen=True)
class Memory:
    """Bytes that counting takes, by what for."""

    counts: int
    slabs: int
    atom: int
    moments: int
    top: int
    examples: int
    samples: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.counts + self.slabs + self.atom + self.moments + self.top + self.examples + self.samples


def memory_of(
    shapes: Sequence[tuple[int, int, int]], concepts: int, bins: int, plan: Plan, size: tuple[int, int], keep: int,
    maxima: bool,
) -> Memory:  # fmt: skip
    """Return what one pass for layers of ``shapes`` (U, h, w) takes.

    Args:
        concepts: C. bins: the number of levels B. size: (H, W) at which pixels are counted. keep: k.
    """
    units = sum(shape[0] for shape in shapes)
    item = 4 if plan.samples * size[0] * size[1] < UINT32_PIXELS else 8
    coarse = min(COARSE, bins) + 1
    slab = 2 * units * concepts * coarse * item
    pool = min(plan.samples, POOL)
    return Memory(
        counts=4 * units * concepts * (bins + 1) * item,
        slabs=slab + min(HELD_BYTES + slab, GROUPS * slab),
        atom=2 * units * concepts * (bins + 1) * 4,
        moments=sum(2 * (u * u + (concepts + 1) * u) * 8 for u, _, _ in shapes),
        top=2 * keep * stored_values(shapes, LARGEST_STORED_MAP),
        examples=units * (8 * pool + 4 * min(plan.samples, RANKED)) + 2 * pool * stored_values(shapes, LARGEST_EXAMPLE),
        samples=plan.samples * (concepts * 8 + 4 * units * maxima)
        + min(plan.samples, units * keep + pool) * THUMBNAIL_BYTES,
    )


def stored_values(shapes: Sequence[tuple[int, int, int]], side: int) -> int:
    """Return how many values the maps (U, h, w) of one sample have, averaged down to at most ``side``."""
    return sum(units * min(height, side) * min(width, side) for units, height, width in shapes)
