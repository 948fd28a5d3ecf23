"""A unit and its candidates at each of the unit's levels: what the page shows while its slider moves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dissect import agreement
from dissect.levels import coarse_indices

from .library import OpenRun
from .profiles import Profile

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class AtLevels:
    """Numbers of each level and candidate, all [B, candidates].

    Attributes:
        iou, chance: the plain ratios, which no level was chosen for.
        error: of their difference, by jackknife, at the nearest of the coarse levels.
    """

    iou: Float64
    chance: Float64
    error: Float64


def at_levels(opened: OpenRun, profile: Profile) -> AtLevels:
    """Read a unit's counts and return what they say at every level."""
    chosen, plane = [c.index for c in profile.candidates], opened.run.first_plane

    def counts(name: str, units: int | slice) -> NDArray[np.int64]:
        return opened.run.reader.read(f"layers/{profile.layer}/{name}", (slice(None), units))

    def ratio(name: str) -> Float64:
        tally = agreement.tally(counts(name, profile.unit).sum(0), plane)
        return agreement.iou(tally.both[:, chosen], tally.on[:, None], tally.area[chosen])

    unit = slice(profile.unit, profile.unit + 1)
    error = agreement.error_at_levels(counts("block_counts", unit), counts("chance_block_counts", unit), plane)[0]
    levels = np.arange(len(profile.activation.levels))
    nearest = np.abs(levels[:, None] - coarse_indices(len(levels))).argmin(1)
    return AtLevels(ratio("counts"), ratio("chance_counts"), error[:, chosen][nearest])
