"""One layer of a finished dissection: its counts, and every number that follows from them, computed when asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segmodels import GanatomyError

from . import agreement
from .agreement import HeldOut, Tally
from .by_class import ByClass, by_class
from .derived import TableCache, derive
from .examples import BANDS, NAMES, Band, Example
from .tables import MOST_ROWS, table

if TYPE_CHECKING:
    from .results import Run

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class TopSample:
    """One of the samples that most activate a unit: where its maximum is, in native cells, and its whole map."""

    seed: int
    value: float
    y: int
    x: int
    feature: NDArray[np.float16]


class LayerResult:
    """The numbers of one layer. U units, C concepts (index 0 is "unlabelled"), B levels.

    All [U, C] arrays are NaN where a concept is too rare to be judged (below 1e-4 of the pixels or in fewer than
    10 images) or where no level has positive association and 100 pixels on; :meth:`iou_at` alone has no guards.
    """

    def __init__(self, run: Run, name: str) -> None:
        self.run = run
        self.name = name
        self.units_count, self.height, self.width = run.manifest["layers"][name]

    def _read(self, name: str, index: Any = ()) -> np.ndarray:
        return self.run.reader.read(f"layers/{self.name}/{name}", index)

    @cached_property
    def levels(self) -> NDArray[np.float32]:
        """Activation levels [U, B], ascending."""
        return self._read("levels")

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Joint counts [2, U, B + 1, C]: half, unit, bin, concept."""
        return self._read("counts")

    @cached_property
    def chance_counts(self) -> NDArray[np.int64]:
        """The same counts with every image's features paired with the labels of the next image of its atom."""
        return self._read("chance_counts")

    @cached_property
    def mean(self) -> Float64:
        """Mean activation [U] over native pixels."""
        return self._read("mean")

    @cached_property
    def second_moment(self) -> Float64:
        """E[f f^T], uncentred, [U, U], over native pixels."""
        return self._read("second_moment")

    @cached_property
    def concept_mean(self) -> Float64:
        """Mean activation where a concept is, [C, U]; NaN for concepts that never occur."""
        return self._read("concept_mean")

    @cached_property
    def correlation(self) -> Float64:
        """Pearson correlation between units over native pixels, [U, U]; 0 for constant units."""
        covariance = self.second_moment - np.outer(self.mean, self.mean)
        variance, power = np.diag(covariance), np.diag(self.second_moment)
        varies = variance > 1e-12 * power  # what is left of a constant unit is the rounding of its square
        scale = np.sqrt(np.where(varies, variance, 1))
        return np.where(np.outer(varies, varies), covariance / np.outer(scale, scale), 0.0)

    @property
    def maxima(self) -> NDArray[np.float32]:
        """Every sample's maximum per unit, [N, U]; GanatomyError unless the run kept them."""
        if f"layers/{self.name}/maxima" not in self.run.reader:
            raise GanatomyError(f"{self.run.path} was made without --maxima")
        return self._read("maxima")

    @cached_property
    def by_class(self) -> ByClass:
        """Units by class, of a run of a generator with classes that kept every sample's maximum.

        Raises:
            GanatomyError: for a run without ``--maxima`` or without classes.
        """
        if "samples/class" not in self.run.reader:
            raise GanatomyError(f"{self.run.path} is of a generator without classes")
        return by_class(self.maxima, self.run.reader.read("samples/class"))

    # -- numbers from counts -------------------------------------------------------------------------------

    @cached_property
    def _derived(self) -> dict[str, np.ndarray]:
        cache = TableCache(self.run.path, self.run.id)
        return cache.get(self.name, lambda: derive(self.run.reader, self.name, self.run.judged, self.run.first_plane))

    @property
    def iou(self) -> Float64:
        """IoU [U, C] at each pair's own best level (survey Eq. 8)."""
        return self._derived["iou"]

    @property
    def chance_iou(self) -> Float64:
        """IoU [U, C] that the same level reaches with the labels of another image."""
        return self._derived["chance_iou"]

    @property
    def iou_heldout(self) -> Float64:
        """IoU [U, C] read on the half that did not choose the level, averaged over both ways."""
        return self._derived["iou_heldout"]

    @property
    def chance_heldout(self) -> Float64:
        """Chance IoU [U, C] read as ``iou_heldout``."""
        return self._derived["chance_heldout"]

    @property
    def stderr(self) -> Float64:
        """Jackknife standard error [U, C] of ``iou_heldout - chance_heldout``; NaN with fewer than 10 groups."""
        return self._derived["stderr"]

    @property
    def information_ratio(self) -> Float64:
        """Mutual information over joint entropy [U, C] at the best level, in [0, 1]."""
        return self._derived["information_ratio"]

    @property
    def negative_ratio(self) -> Float64:
        """The same ratio at the best level of *negative* association: how well the unit avoids the concept."""
        return self._derived["negative_ratio"]

    @property
    def threshold(self) -> Float64:
        """The activation [U, C] above which the unit is on, for this concept."""
        return self._derived["threshold"]

    @property
    def accuracy(self) -> Float64:
        """Share of pixels [U, C] where "on" and "concept" agree, at the best level."""
        return self._derived["accuracy"]

    @property
    def average_precision(self) -> Float64:
        """Average precision [U, C] of the unit as a detector of the concept's pixels."""
        return self._derived["average_precision"]

    @cached_property
    def _heldout(self) -> HeldOut:
        d = self._derived
        groups = int((self._read("block_counts", (slice(None), 0)).sum((1, 2)) > 0).sum())
        return HeldOut(
            d["iou_heldout"], d["chance_heldout"], d["stderr"], d["halves_iou"], d["halves_difference"], groups
        )

    @cached_property
    def label(self) -> NDArray[np.intp]:
        """Index of the concept that may be called the unit's, [U], else 0."""
        return self.labels_at()

    @property
    def chance_label(self) -> NDArray[np.intp]:
        """What the same rule calls each unit by chance, [U], else 0: see :func:`agreement.exchanged`."""
        return self._derived["chance_label"]

    def labels_at(self, floor: float = agreement.FLOOR, alpha: float = agreement.ALPHA) -> NDArray[np.intp]:
        """Return :attr:`label` for another IoU floor or another error rate."""
        return agreement.labels(self._heldout, self.run.judged, floor, alpha)

    @cached_property
    def winner(self) -> NDArray[np.intp]:
        """Index of the concept with the largest held-out IoU above chance, [U], labelled or not; 0 if none."""
        return agreement.winners(self._heldout)

    def iou_at(self, tail: float | None = None, level: int | None = None) -> Float64:
        """Return the plain IoU ratio [U, C] at one level per unit, without guards.

        Args:
            tail: choose each unit's level whose counted exceedance is nearest to this share of the pixels.
            level: choose the level of this index.

        Raises:
            GanatomyError: for a level that is not there, a tail outside 0..1, or not exactly one of the two.
        """
        t = self._tally(self.counts.sum(0))
        if level is not None and tail is None:
            if not 0 <= level < t.on.shape[-1]:
                raise GanatomyError(f"iou_at: expected a level between 0 and {t.on.shape[-1] - 1}, got {level}")
            index = np.full(len(t.on), level)
        elif tail is not None and level is None:
            index = np.abs(t.on / t.pixels[:, None] - tail).argmin(1)
        else:
            raise GanatomyError("iou_at: give either tail= or level=")
        return agreement.iou_at(t, np.broadcast_to(index[:, None], t.area.shape))

    def histogram(self, unit: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return (levels [B], pixels per bin [B + 1]) of one unit."""
        counts = self._read("counts", (slice(None), self._unit(unit)))
        return self.levels[unit], counts[..., self.run.first_plane].sum((0, 2))

    def units(self, concept: str | int, top: int = 20) -> NDArray[np.intp]:
        """Return the units that agree best with a concept: by held-out IoU above chance, the best first."""
        index = self.run.concept_index(concept)
        difference = (self.iou_heldout - self.chance_heldout)[:, index]
        order = np.argsort(-difference, kind="stable")
        return order[~np.isnan(difference[order])][:top]

    def top(self, unit: int) -> list[TopSample]:
        """Return the samples that most activate a unit, the strongest first."""
        unit = self._unit(unit)
        seed, value, yx, feature = (self._read(f"top/{k}", unit) for k in ("seed", "value", "yx", "feature"))
        return [
            TopSample(int(s), float(v), int(p[0]), int(p[1]), f)
            for s, v, p, f in zip(seed, value, yx, feature, strict=True)
            if s >= 0
        ]

    def examples(self, unit: int) -> list[Band]:
        """Return samples over the whole range of a unit's maxima, from the lowest band to the highest.

        The list is empty for files that were made before there were examples.
        """
        unit = self._unit(unit)
        if f"layers/{self.name}/examples/seed" not in self.run.reader:
            return []
        read = {name: self._read(f"examples/{name}", unit) for name in NAMES}
        bands = []
        for b in range(BANDS):
            there = np.flatnonzero(read["seed"][b] >= 0)
            samples = (
                Example(int(s), float(v), float(q), int(p[0]), int(p[1]), f)
                for s, v, q, p, f in zip(*(read[name][b][there] for name in NAMES), strict=True)
            )
            bands.append(Band(b / BANDS, (b + 1) / BANDS, tuple(samples)))
        return bands

    def _repr_html_(self) -> str:
        """Return its units, those first that agree with their winner most beyond chance."""
        units = np.arange(self.units_count)
        beyond = (self.iou_heldout - self.chance_heldout)[units, self.winner]
        order = np.argsort(-np.nan_to_num(beyond, nan=-np.inf), kind="stable")
        names = ("unit", "concept", "labelled", "iou_heldout", "chance_heldout", "stderr", "threshold")
        rows = [self.row(int(unit)) for unit in order[:MOST_ROWS]]
        shown = [{name: row[name] for name in names} for row in rows]
        labelled = int((self.label > 0).sum())
        title = f"{self.name} · {self.units_count} units, {labelled} labelled; the first {len(shown)} by D"
        return table(shown, title)

    def row(self, unit: int, concept: int | None = None) -> dict[str, Any]:
        """Return one row of :meth:`Run.table`: the numbers of a unit and its winner, or another concept's index."""
        unit = self._unit(unit)
        concept = int(self.winner[unit]) if concept is None else concept
        row: dict[str, Any] = {"layer": self.name, "unit": unit, "concept": None, "category": None}
        names = (
            "iou", "chance_iou", "iou_heldout", "chance_heldout", "stderr", "information_ratio", "threshold",
            "average_precision",
        )  # fmt: skip
        if concept:
            row["concept"] = self.run.concepts[concept].name
            row["category"] = self.run.concepts[concept].category
        for name in names:
            value = float(getattr(self, name)[unit, concept]) if concept else np.nan
            row[name] = None if np.isnan(value) else value
        row["labelled"] = bool(concept) and int(self.label[unit]) == concept
        return row

    def _unit(self, unit: int) -> int:
        if not 0 <= unit < self.units_count:
            raise GanatomyError(f"layer {self.name!r} has units 0..{self.units_count - 1}, got {unit}")
        return int(unit)

    def _tally(self, counts: NDArray[np.int64]) -> Tally:
        return agreement.tally(counts, self.run.first_plane)
