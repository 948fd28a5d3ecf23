"""A ranking: how likely each unit of a layer is to draw what should not be there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from segmodels import GanatomyError

from ..generators import Generator
from ..tables import Tabled

Float64 = NDArray[np.float64]
GIVEN = "given"


@dataclass(frozen=True, eq=False, repr=False)
class Ranking(Tabled):
    """Scores of a layer's units by one strategy; all strategies have this interface.

    Attributes:
        facts: strategy, layer, generator, and what determined the scores; JSON.
        score: [U], higher is more suspect; NaN for units that the strategy cannot judge.
        details: other numbers of each unit, by name, [U] each.
    """

    kind: ClassVar[str] = "ranking"

    facts: Mapping[str, Any]
    score: Float64
    details: Mapping[str, Float64]

    @property
    def strategy(self) -> str:
        """``unlike`` (``fid`` with Inception and real images), ``rare``, ``defect``, ``tagged`` or ``given``."""
        return str(self.facts["strategy"])

    @property
    def layer(self) -> str:
        """Name of the layer."""
        return str(self.facts["layer"])

    @property
    def order(self) -> NDArray[np.intp]:
        """Units, the most suspect first; those that cannot be judged come last, equal ones by their number."""
        return np.argsort(-np.nan_to_num(self.score, nan=-np.inf), kind="stable")

    def top(self, count: int) -> list[int]:
        """Return the most suspect units that can be judged, at most ``count``."""
        return [int(u) for u in self.order[:count] if not np.isnan(self.score[u])]

    def rows(self, top: int | None = None) -> list[dict[str, Any]]:
        """Return one row for each unit, the most suspect first."""
        return [
            {
                "rank": rank, "layer": self.layer, "unit": int(unit), "strategy": self.strategy,
                "score": _plain(self.score[unit]), **{name: _plain(v[unit]) for name, v in self.details.items()},
            }
            for rank, unit in enumerate(self.order[:top], 1)
        ]  # fmt: skip

    def header(self) -> dict[str, Any]:
        """Return what determined the result: JSON."""
        return dict(self.facts)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the numbers."""
        return {"score": self.score} | {f"details/{name}": value for name, value in self.details.items()}

    @classmethod
    def from_stored(cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """Return the result of what :meth:`header` and :meth:`arrays` returned."""
        start = "details/"
        details = {name.removeprefix(start): value for name, value in arrays.items() if name.startswith(start)}
        return cls(header, arrays["score"], details)


def given(generator: Generator, layer: str, units: Sequence[int]) -> Ranking:
    """Return people's own ranking: the units that they name, in their order; it knows nothing of the others."""
    place = generator.layer(layer)
    score = np.full(place.channels, np.nan)
    score[list(units)] = np.arange(len(units), 0, -1)
    return Ranking(facts_of(generator, GIVEN, place.name, units=[int(unit) for unit in units]), score, {})


def facts_of(generator: Mapping[str, Any] | Generator, strategy: str, layer: str, **others: Any) -> dict[str, Any]:
    """Return the header of a ranking."""
    if isinstance(generator, Generator):
        generator = {"name": generator.name, "family": generator.family, "fingerprint": generator.fingerprint}
    return {"generator": dict(generator), "strategy": strategy, "layer": layer, **others}


def check_units(found: int, expected: int, layer: str) -> None:
    """Raise GanatomyError unless two things that are compared are of the same units."""
    if found != expected:
        raise GanatomyError(f"layer {layer!r} has {expected} units, got numbers of {found}")


def _plain(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
