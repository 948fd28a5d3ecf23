"""What there is to say about the layers and units of a run: everything the report shows, nothing of how it looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dissect import Run
from dissect.agreement import ALPHA, FLOOR

BEST, AVOIDED, CORRELATED, OPPOSED = 8, 3, 6, 3
LEAST_AVOIDED = 1e-3  # information ratio; less is not worth a line
LEAST_OPPOSED = 0.1  # correlation
FALLBACK_TAIL = 0.01  # share of pixels on, where no concept chooses the threshold
UNITS_AT_ONCE = 32  # a multiple of the file's chunks of 8; bounds the memory
CERTAIN = float("inf")  # an error rate that every p is below

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """A concept that a unit may stand for. ``difference`` is D = held-out IoU − held-out chance IoU."""

    index: int
    name: str
    category: str
    iou: float
    chance_iou: float
    iou_heldout: float
    chance_heldout: float
    difference: float
    stderr: float
    information_ratio: float
    average_precision: float
    threshold: float


@dataclass(frozen=True)
class Activation:
    """How often a unit is how active.

    Attributes:
        levels: [B]; exceedance: share of all pixels above each level, [B].
        inside: share of the best concept's pixels above each level, [B], if there is one.
        threshold: the unit is on above it; share_on: of all pixels; chosen: whether the best concept chose it.
    """

    levels: NDArray[np.float32]
    exceedance: Float64
    inside: Float64 | None
    threshold: float
    share_on: float
    chosen: bool


@dataclass(frozen=True)
class Tops:
    """The samples that most activate a unit: seeds [k], values [k], maps float16 [k, h, w]."""

    seeds: NDArray[np.int64]
    values: NDArray[np.float32]
    maps: NDArray[np.float16]


@dataclass(frozen=True)
class Examples:
    """Samples over a unit's whole range, the strongest first: of each its seed, value, quantile and band, all [n].

    Attributes:
        bands: 0 is the lowest share of the samples; shares: (low, high) of each band. maps: float16 [n, h, w].
    """

    seeds: NDArray[np.int64]
    values: NDArray[np.float32]
    quantiles: NDArray[np.float32]
    bands: NDArray[np.int64]
    maps: NDArray[np.float16]
    shares: list[tuple[float, float]]

    def by_band(self) -> list[tuple[float, float, list[int]]]:
        """Return of each band, the highest first, its share from low to high and the places of its samples."""
        return [
            (low, high, np.flatnonzero(self.bands == band).tolist())
            for band, (low, high) in reversed(list(enumerate(self.shares)))
        ]


@dataclass(frozen=True)
class Profile:
    """One unit. ``candidates`` are sorted by D; ``why_not`` is empty if labelled, ``examples`` None in older files."""

    layer: str
    unit: int
    labelled: bool
    candidates: list[Candidate]
    why_not: str
    avoided: list[tuple[str, str, float]]
    correlated: list[tuple[int, float]]
    opposed: list[tuple[int, float]]
    activation: Activation
    tops: Tops
    examples: Examples | None

    @property
    def best(self) -> Candidate | None:
        """The concept with the largest D, labelled or not."""
        return self.candidates[0] if self.candidates else None


class LayerProfile:
    """One layer, its numbers read at once; units are read a few at a time."""

    def __init__(self, run: Run, name: str) -> None:
        self._run, self.name = run, name
        self._layer = run.layer(name)
        self.units, self.height, self.width = self._layer.units_count, self._layer.height, self._layer.width
        self.difference: Float64 = self._layer.iou_heldout - self._layer.chance_heldout
        self.label, self.winner = self._layer.label, self._layer.winner

    @property
    def labelled(self) -> int:
        """Number of labelled units."""
        return int((self.label > 0).sum())

    @property
    def by_chance(self) -> int:
        """Number of units that the rule labels by chance: images and next images exchanged in half of the groups."""
        return int((self._layer.chance_label > 0).sum())

    @cached_property
    def per_concept(self) -> dict[int, int]:
        """Number of labelled units of each concept that has any, the most frequent first."""
        return dict(Counter(self.label[self.label > 0].tolist()).most_common())

    @cached_property
    def best_difference(self) -> Float64:
        """D of each unit's best concept, [U]; -inf where there is none."""
        value = self.difference[np.arange(self.units), self.winner]
        return np.where(np.isnan(value) | (self.winner == 0), -np.inf, value)

    def medians(self) -> dict[str, float]:
        """Return the labelled units' median held-out IoU, chance IoU and D; NaN if there is none."""
        units = np.flatnonzero(self.label)
        concepts = self.label[units]
        values = {
            "iou": self._layer.iou_heldout, "chance": self._layer.chance_heldout, "difference": self.difference,
        }  # fmt: skip
        return {name: float(np.median(v[units, concepts])) if len(units) else np.nan for name, v in values.items()}

    def ranking(self, count: int | None = None) -> list[int]:
        """Return units, labelled ones first, then by D; at most ``count``."""
        return np.lexsort((-self.best_difference, self.label == 0)).tolist()[:count]

    def candidate(self, unit: int, concept: int) -> Candidate:
        """Return the numbers of a pair."""
        layer, known = self._layer, self._run.concepts[concept]
        values = (
            layer.iou, layer.chance_iou, layer.iou_heldout, layer.chance_heldout, self.difference, layer.stderr,
            layer.information_ratio, layer.average_precision, layer.threshold,
        )  # fmt: skip
        return Candidate(concept, known.name, known.category, *(float(v[unit, concept]) for v in values))

    def candidates(self, unit: int, count: int = BEST) -> list[Candidate]:
        """Return a unit's best concepts by D."""
        row = self.difference[unit]
        order = np.argsort(-row, kind="stable")
        return [self.candidate(unit, int(c)) for c in order[~np.isnan(row[order])][:count]]

    def profiles(self, units: Sequence[int], tops: int) -> Iterator[Profile]:
        """Yield the chosen units in ascending order, with at most ``tops`` samples each."""
        chosen = sorted(units)
        for start in range(0, self.units, UNITS_AT_ONCE):
            here = [unit for unit in chosen if start <= unit < start + UNITS_AT_ONCE]
            if not here:
                continue
            block = slice(start, start + UNITS_AT_ONCE)
            counts = self._read("counts", (slice(None), block)).sum(0)
            seed, value, maps = (
                self._read(f"top/{name}", (block, slice(tops))) for name in ("seed", "value", "feature")
            )
            examples = self._examples(block)
            for unit in here:
                i = unit - start
                there = seed[i] >= 0
                best = Tops(seed[i][there], value[i][there], maps[i][there])
                yield self._profile(unit, counts[i], best, examples[i] if examples else None)

    def _read(self, name: str, index: object) -> np.ndarray:
        return self._run.reader.read(f"layers/{self.name}/{name}", index)

    def _examples(self, units: slice) -> list[Examples]:
        """Return the examples of some units; an empty list for older files."""
        if f"layers/{self.name}/examples/seed" not in self._run.reader:
            return []
        seed, value, quantile, maps = (
            self._read(f"examples/{name}", units) for name in ("seed", "value", "quantile", "feature")
        )
        count = seed.shape[1]
        shares = [(b / count, (b + 1) / count) for b in range(count)]
        result = []
        for i in range(len(seed)):
            there = np.argwhere(seed[i] >= 0)[::-1]
            at = tuple(there.T)
            result.append(Examples(seed[i][at], value[i][at], quantile[i][at], there[:, 0], maps[i][at], shares))
        return result

    def _profile(self, unit: int, counts: NDArray[np.int64], tops: Tops, examples: Examples | None) -> Profile:
        candidates = self.candidates(unit)
        labelled = bool(self.label[unit])
        return Profile(
            self.name, unit, labelled, candidates, "" if labelled else self._why_not(unit, candidates),
            self._avoided(unit), *self._neighbours(unit), self._activation(unit, counts), tops, examples,
        )  # fmt: skip

    @cached_property
    def _agreeing(self) -> NDArray[np.bool_]:
        """Units whose halves choose the same concept, [U]."""
        return self._layer.labels_at(floor=-1, alpha=CERTAIN) > 0

    @cached_property
    def _high(self) -> NDArray[np.bool_]:
        """Those whose IoU also reaches the floor in both halves, [U]."""
        return self._layer.labels_at(alpha=CERTAIN) > 0

    @cached_property
    def _sure(self) -> NDArray[np.bool_]:
        """Those that are significantly above chance, whatever their IoU, [U]."""
        return self._layer.labels_at(floor=-1) > 0

    def _why_not(self, unit: int, candidates: list[Candidate]) -> str:
        """Say which conditions of a label an unlabelled unit fails."""
        if self._layer.levels[unit, 0] == self._layer.levels[unit, -1]:
            return "its activation is nearly the same everywhere"
        if not candidates:
            return "it is never more active on any concept that is frequent enough to be judged"
        if not self._agreeing[unit]:
            return "the two halves of the samples choose different concepts"
        reasons = []
        if not self._high[unit]:
            reasons.append(f"its IoU is below {FLOOR:g} in at least one half of the samples")
        best, concepts = candidates[0], int(self._run.judged.sum())
        if np.isnan(best.stderr):
            reasons.append("there are too few samples for an error bar")
        elif not self._sure[unit]:
            reasons.append(f"it is not significantly above chance (p ≥ {ALPHA:g} / {concepts} concepts)")
        return " and ".join(reasons)

    def _avoided(self, unit: int) -> list[tuple[str, str, float]]:
        ratio = np.nan_to_num(self._layer.negative_ratio[unit])
        order = [int(c) for c in np.argsort(-ratio, kind="stable")[:AVOIDED] if ratio[c] >= LEAST_AVOIDED]
        return [(self._run.concepts[c].name, self._run.concepts[c].category, float(ratio[c])) for c in order]

    def _neighbours(self, unit: int) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
        """Return the units that most go with a unit, and those that most go against it, with their correlation."""
        row = self._layer.correlation[unit]
        order = [int(v) for v in np.argsort(-row, kind="stable") if v != unit]
        together = [(v, float(row[v])) for v in order[:CORRELATED] if row[v] > 0]
        against = [(v, float(row[v])) for v in order[: -OPPOSED - 1 : -1] if row[v] < -LEAST_OPPOSED]
        return together, against

    def _activation(self, unit: int, counts: NDArray[np.int64]) -> Activation:
        """Summarise counts [B + 1, C]."""
        concept, levels = int(self.winner[unit]), self._layer.levels[unit]
        exceedance = _exceedance(counts[:, self._run.first_plane].sum(1))
        threshold = float(self._layer.threshold[unit, concept]) if concept else np.nan
        chosen = not np.isnan(threshold)
        level = int(np.abs(levels - threshold).argmin() if chosen else np.abs(exceedance - FALLBACK_TAIL).argmin())
        return Activation(
            levels, exceedance, _exceedance(counts[:, concept]) if concept else None,
            float(levels[level]), float(exceedance[level]), chosen,
        )  # fmt: skip


def _exceedance(bins: NDArray[np.int64]) -> Float64:
    """Return the share of pixels above each level, [B], from pixels per bin [B + 1]."""
    above = np.cumsum(bins[::-1])[::-1]
    return above[1:] / max(int(above[0]), 1)
