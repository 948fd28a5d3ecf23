"""Examples of a unit from bands of its whole range, where the run keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .library import OpenRun


@dataclass(frozen=True)
class Band:
    """Samples whose maximum lies between two shares of all.

    Attributes:
        low, high: e.g. 0.8 and 1.0, the highest fifth. seeds, values: [k], the weakest first; maps: [k, h, w].
    """

    low: float
    high: float
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    maps: tuple[NDArray[np.float16], ...]


def bands_of(opened: OpenRun, layer: str, unit: int) -> list[Band]:
    """Return a unit's examples, the highest band first; an empty list if the run keeps none."""
    read: Any = getattr(opened.run.layer(layer), "examples", None)
    found = read(unit) if read is not None else []
    bands = []
    for band in reversed(found):
        shown = [s for s in band.samples if s.seed in opened.encoded]
        if shown:
            bands.append(
                Band(
                    band.low, band.high, tuple(s.seed for s in shown), tuple(s.value for s in shown),
                    tuple(s.feature for s in shown),
                )
            )  # fmt: skip
    return bands
