"""The leakage matrix: what several recipes changed beside what they were aimed at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segmodels import Concept, GanatomyError

from ..tables import Tabled
from .areas import plain
from .effect import Effect


@dataclass(frozen=True, eq=False, repr=False)
class Leakage(Tabled):
    """What each of several recipes changed: a row for each, named after what it was aimed at.

    Attributes:
        aims: R names. concepts: C of them.
        change: pooled change, [R, C]. beyond: whether it changed beyond the controls, [R, C].
    """

    aims: tuple[str, ...]
    concepts: tuple[Concept, ...]
    change: NDArray[np.float64]
    beyond: NDArray[np.bool_]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each recipe: the change of every concept that occurs, NaN as None."""
        shown = [c for c in range(1, len(self.concepts)) if not np.isnan(self.change[:, c]).all()]
        return [
            {"aim": aim} | {self.concepts[c].name: plain(self.change[r, c]) for c in shown}
            for r, aim in enumerate(self.aims)
        ]


def leakage(effects: Sequence[Effect]) -> Leakage:
    """Return the matrix of several effects: row, what was aimed at; column, what changed.

    Raises:
        GanatomyError: if there is none, or they were read by different segmenters.
    """
    if not effects:
        raise GanatomyError("expected at least one effect")
    if any(effect.concepts != effects[0].concepts for effect in effects):
        raise GanatomyError("the effects were read by different segmenters; a matrix needs the same concepts")
    aims = tuple(effect.aim or effect.facts["recipe"]["id"] for effect in effects)
    change = np.stack([effect.change for effect in effects])
    return Leakage(aims, effects[0].concepts, change, np.stack([effect.beyond_controls for effect in effects]))
