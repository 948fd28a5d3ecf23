"""What a unit was found to cause: the sweeps and effects beside a run, as pages show them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from dissect import Run
from dissect.agreement import ALPHA
from dissect.effects import Effect, Sweep
from dissect.effects.effect import CHANGED
from dissect.effects.intervals import FEWEST
from segmodels import GanatomyError

MOST = 6  # concepts of a unit that are shown
PUT = {"zero": "set to zero", "other": "replaced by what it is in another image", "values": "set to a value of its own"}


@dataclass(frozen=True)
class Cause:
    """What happened to a concept when a unit was taken away.

    Attributes:
        concept: its index in the sweep. before, after: its share of all pixels.
        change: after / before - 1, NaN if it did not occur before. stderr: of the change.
        sure: whether the change is beyond what the error allows, given how many concepts were looked at (Student, and
            at least ten images).
    """

    concept: int
    name: str
    category: str
    before: float
    after: float
    change: float
    stderr: float
    sure: bool


@dataclass(frozen=True)
class Causes:
    """What is known of one unit. ``causes`` are those of its sweep, the surest and largest first.

    Attributes:
        images: how many images the sweep looked at, 0 if there was none; put: what the unit was changed to.
        sets: effects of several units of which it was one: (how many, aim, change of the aim, low, high).
        alone: the latest effect of setting the whole unit to zero, and nothing else, beside random other units.
    """

    images: int
    put: str
    causes: list[Cause]
    sets: list[tuple[int, str, float, float, float]]
    alone: Effect | None = None

    @property
    def enough(self) -> bool:
        """Whether there were images enough for a verdict."""
        return self.images >= FEWEST

    def shown(self, always: Sequence[str] = ()) -> list[Cause]:
        """Return those worth a line: what is sure, and in any case the concepts of ``always``.

        These go by name: a sweep may have been read by another segmenter than the run, which counts them otherwise.
        """
        sure = [cause for cause in self.causes if cause.sure][:MOST]
        return sure + [c for c in self.causes if c.name in always and c not in sure]

    def rows_alone(self, always: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Return those rows of ``alone`` that are worth a line, as :meth:`shown` does for a sweep."""
        rows = [] if self.alone is None else self.alone.rows()
        changed = [row for row in rows if row["verdict"] == CHANGED][:MOST]
        return changed + [row for row in rows if row["concept"] in always and row not in changed]


NOTHING = Causes(0, "", [], [])


class LayerCauses:
    """What is known of the units of a layer; a later sweep of a unit stands for an earlier one."""

    def __init__(self, run: Run, layer: str) -> None:
        found = run.effects
        kinds = (Effect.kind, Sweep.kind)
        self._path, self._layer = found.path, layer
        with _whole(self._path):
            names = {key: layers_of(found.kind(key), found.header(key)) for key in found if found.kind(key) in kinds}
            results = [found[key] for key, layers in names.items() if layer in layers]
            self._sweeps: dict[int, tuple[Sweep, int]] = {}
            for sweep in (result for result in results if isinstance(result, Sweep)):
                self._sweeps |= {int(unit): (sweep, row) for row, unit in enumerate(sweep.units)}
            self._effects = [(units_in(e, layer), e) for e in results if isinstance(e, Effect)]

    def __bool__(self) -> bool:
        return bool(self._sweeps or self._effects)

    @property
    def swept(self) -> bool:
        """Whether any unit of the layer was looked at alone."""
        return bool(self._sweeps)

    def unit(self, unit: int) -> Causes:
        """Return what is known of a unit; GanatomyError if the file has something else in the place of numbers."""
        with _whole(self._path):
            mine = [effect for effect in self._effects if is_alone(effect[1], self._layer, unit)]
            alone = mine[-1][1] if mine else None
            others = [one for one in self._effects if unit in one[0] and one not in mine]
            sets = [_of_set(len(units), effect) for units, effect in others]
            if unit not in self._sweeps:
                return Causes(0, "", [], sets, alone)
            sweep, row = self._sweeps[unit]
            put = PUT.get(str(sweep.facts.get("to")), PUT["values"])
            return Causes(len(sweep.seeds), put, _causes(sweep, row), sets, alone)


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Tell in one line of what is readable, with right checksums, and yet not what a result is made of."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        reason = " ".join(str(error).split()) or "something is missing"
        raise GanatomyError(f"{path} is damaged: {type(error).__name__} ({reason}); move it away") from error


def layers_of(kind: str, header: dict) -> set[str]:
    """Return the layers that a stored result is about, from its header."""
    if kind == Effect.kind:
        return {str(edit["layer"]) for edit in header["recipe"]["edits"]}
    return {str(header["layer"])} if "layer" in header else set()


def units_in(effect: Effect, layer: str) -> set[int]:
    """Return the units of a layer that a recipe names."""
    edits = effect.facts["recipe"]["edits"]
    return {int(unit) for edit in edits if edit["layer"] == layer for unit in edit.get("units", ())}


def is_alone(effect: Effect, layer: str, unit: int) -> bool:
    """Whether an effect is that of setting one whole unit to zero, and nothing else."""
    edits = effect.facts["recipe"]["edits"]
    whole = {"layer": layer, "units": [unit], "strength": 1.0, "mask": False, "put": "zero"}
    return len(edits) == 1 and {name: edits[0].get(name) for name in whole} == whole


def _causes(sweep: Sweep, row: int) -> list[Cause]:
    pixels = len(sweep.seeds) * sweep.pixels
    shown = np.flatnonzero(sweep.before[1:] + sweep.after[row, 1:]) + 1
    enough = len(sweep.seeds) >= FEWEST  # fewer give no verdict, as everywhere
    beyond = -stdtrit(len(sweep.seeds) - 1, ALPHA / 2 / max(1, len(shown)))  # shared out among the concepts
    found = []
    for c in shown.tolist():
        concept, share, error = sweep.concepts[c], float(sweep.share[row, c]), float(sweep.share_stderr[row, c])
        found.append(
            Cause(
                c, concept.name, concept.category, float(sweep.before[c] / pixels), float(sweep.after[row, c] / pixels),
                float(sweep.change[row, c]), float(sweep.stderr[row, c]), enough and abs(share) > beyond * error,
            )
        )  # fmt: skip
    return sorted(found, key=lambda cause: (not cause.sure, -abs(cause.after - cause.before)))


def _of_set(units: int, effect: Effect) -> tuple[int, str, float, float, float]:
    largest = 1 + int(np.abs(effect.share[1:]).argmax())
    index = effect.concept_index(effect.aim) if effect.aim is not None else largest
    low, high = effect.change_interval[index]
    return units, effect.concepts[index].name, float(effect.change[index]), float(low), float(high)
