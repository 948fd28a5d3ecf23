"""What an edit does to the area of every concept, beside what random other units do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from segmodels import Concept, GanatomyError, Segmenter

from ..edits import Edit, FeatureEdit
from ..generators import Codes, Generator
from ..generators.codes import InTurn
from ..recipes import Recipe
from ..samples import Sampling
from . import intervals
from .areas import (
    Bench,
    Int64,
    Progress,
    check_recipe,
    concept_index,
    concepts_of,
    described_recipe,
    digest,
    first_layer,
    plain,
)
from .controls import Constants, control_edits
from .result import Measured

Float64 = NDArray[np.float64]

CONTROLS = 5
CHANGED, LIKE_CONTROLS, UNCHANGED, TOO_FEW = "changed", "like controls", "unchanged", "too few images"


@dataclass(frozen=True, eq=False, repr=False)
class Effect(Measured):
    """The change of every concept's area by a recipe. N images, C concepts (0 is "unlabelled"), K controls.

    Attributes:
        facts: what was edited, measured and by what; JSON.
        seeds: of the images, [N].
        before, after: pixels of each concept in each image, [N, C].
        control_after: pixels in all images after each control's edits, [K, C].
        control_square: sums over images of the squared change by each control, [K, C].
    """

    kind: ClassVar[str] = "effect"
    ARRAYS: ClassVar[tuple[str, ...]] = ("seeds", "before", "after", "control_after", "control_square")

    facts: Mapping[str, Any]
    seeds: Int64
    before: Int64
    after: Int64
    control_after: Int64
    control_square: Int64

    @cached_property
    def concepts(self) -> tuple[Concept, ...]:
        """The segmenter's concepts."""
        return concepts_of(self.facts)

    @property
    def aim(self) -> str | None:
        """Name of the concept that was asked about."""
        return self.facts["aim"]

    @property
    def pixels(self) -> int:
        """Number of pixels of an image."""
        return int(self.facts["pixels"])

    @cached_property
    def change(self) -> Float64:
        """Pooled change [C]: sum after / sum before - 1; NaN where the concept never occurs before."""
        return intervals.pooled_change(self.before, self.after)

    @cached_property
    def change_interval(self) -> Float64:
        """95% interval [C, 2] of :attr:`change`; NaN for fewer than 10 images."""
        return intervals.of_ratio(self.after, self.before) - 1

    @cached_property
    def share(self) -> Float64:
        """Mean change of the area as a share of the image, [C]: 0.01 is one more hundredth of the picture."""
        return (self.after - self.before).mean(0) / self.pixels

    @cached_property
    def share_interval(self) -> Float64:
        """95% interval [C, 2] of :attr:`share`; NaN for fewer than 10 images."""
        return intervals.of_mean(self.after - self.before) / self.pixels

    @cached_property
    def control_change(self) -> Float64:
        """Pooled change by each control, [K, C]."""
        total = self.before.sum(0).astype(np.float64)
        return np.divide(
            self.control_after, total, out=np.full(self.control_after.shape, np.nan), where=total > 0
        ) - 1  # fmt: skip

    @cached_property
    def control_share(self) -> Float64:
        """Mean change by each control as a share of the image, [K, C]."""
        return (self.control_after - self.before.sum(0)) / (len(self.seeds) * self.pixels)

    @cached_property
    def control_stderr(self) -> Float64:
        """Standard error [K, C] of :attr:`control_share` over the images; NaN for a single one."""
        count = len(self.seeds)
        if count < 2:
            return np.full(self.control_after.shape, np.nan)
        mean = (self.control_after - self.before.sum(0)) / count
        variance = np.maximum(self.control_square / count - mean**2, 0) / (count - 1)
        return np.sqrt(variance) / self.pixels

    @cached_property
    def images(self) -> Int64:
        """Number of images that show each concept before or after, [C]."""
        return ((self.before > 0) | (self.after > 0)).sum(0)

    @cached_property
    def beyond_controls(self) -> NDArray[np.bool_]:
        """Which concepts changed: the interval excludes 0 and no control changed them as much that way, [C]."""
        low, high = self.share_interval[:, 0], self.share_interval[:, 1]
        changed = ((low > 0) | (high < 0)) & (self.images >= intervals.FEWEST)
        if not len(self.control_share):
            return changed
        least, most = self.control_share.min(0), self.control_share.max(0)
        return changed & np.where(self.share > 0, self.share > most, self.share < least)

    @cached_property
    def adjusted(self) -> Float64:
        """Chance that as much changes as did, given how many concepts were looked at, [C]: Student's p after Holm.

        Of the mean change of the area, for concepts that at least ten images show; NaN for the others. Controls play no
        part. Where :meth:`verdict` calls 336 concepts changed or not, one by one, 17 may be changed by chance.
        """
        count = len(self.seeds)
        judged = np.flatnonzero((self.images >= intervals.FEWEST) & (np.arange(self.before.shape[1]) > 0))
        found = np.full(self.before.shape[1], np.nan)
        if count < 2 or not len(judged):
            return found
        change = (self.after - self.before)[:, judged].astype(np.float64)
        mean, error = change.mean(0), change.std(0, ddof=1) / np.sqrt(count)
        t = np.divide(np.abs(mean), error, out=np.where(mean != 0, np.inf, 0.0), where=error > 0)
        found[judged] = holm(2 * stdtr(count - 1, -t))
        return found

    def verdict(self, concept: int) -> str:
        """Say of a concept whether it changed, beyond what random units do."""
        if self.images[concept] < intervals.FEWEST:
            return TOO_FEW
        if self.beyond_controls[concept]:
            return CHANGED
        low, high = self.share_interval[concept]
        return LIKE_CONTROLS if low > 0 or high < 0 else UNCHANGED

    def concept_index(self, concept: str | int) -> int:
        """Return a concept's index; GanatomyError with the nearest names otherwise."""
        return concept_index(self.concepts, concept)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each concept that some image shows before or after, the largest change first."""
        rows = []
        for c in np.argsort(-np.abs(self.share), kind="stable"):
            if not self.images[c] or not c:
                continue
            controls = self.control_change[:, c]
            there = len(controls) and not np.isnan(controls).any()
            row = {
                "aim": self.aim, "concept": self.concepts[c].name, "category": self.concepts[c].category,
                "images": int(self.images[c]), "before": self.before[:, c].mean() / self.pixels,
                "after": self.after[:, c].mean() / self.pixels, "change": self.change[c],
                "low": self.change_interval[c, 0], "high": self.change_interval[c, 1], "share": self.share[c],
                "share_low": self.share_interval[c, 0], "share_high": self.share_interval[c, 1],
                "control": controls.mean() if there else np.nan,
                "control_low": controls.min() if there else np.nan,
                "control_high": controls.max() if there else np.nan,
                "verdict": self.verdict(int(c)), "p_adjusted": self.adjusted[c],
            }  # fmt: skip
            rows.append({k: plain(v) for k, v in row.items()})
        return rows


def holm(p: Float64) -> Float64:
    """Return p values [n] of n questions, as they are when all are asked at once (Holm, 1979)."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def effect(
    generator: Generator,
    segmenter: Segmenter,
    recipe: Sequence[Edit] | Edit,
    seeds: Sequence[int] | Codes,
    *,
    concept: str | int | None = None,
    controls: int = CONTROLS,
    constants: Constants | None = None,
    classes: int | Sequence[int] | InTurn | None = None,
    truncation: float = 1.0,
    cutoff: int | None = None,
    noise: str = "const",
    batch: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Effect:
    """Measure what a recipe does to the area of every concept (survey, section 3.1.2; Bau et al., ICLR 2019).

    Args:
        generator, segmenter: whose images, and what reads them.
        recipe: edits, in order.
        seeds: of the images; others than those by which units were chosen. Or codes.
        concept: the concept that is asked about.
        controls: how many sets of random other units have the same done to them.
        constants: layer -> a value for each unit, for controls of edits that put in values; else they get the values
            of the edited units.
        classes, truncation, cutoff, noise: as for ``generator.sample``.
        batch, threads: samples in one pass, CPU threads. progress: called with (images done, of how many).

    Raises:
        GanatomyError: for what does not fit the generator; if no image shows ``concept``, before or after.
    """
    edits = check_recipe(generator, recipe)
    if not isinstance(controls, (int, np.integer)) or controls < 0:
        raise GanatomyError(f"expected a number of controls >= 0, got {controls!r}")
    place = first_layer(generator, edits)
    given = tuple(classes) if isinstance(classes, Sequence) else classes
    bench = Bench(generator, segmenter, seeds, place, Sampling(given, truncation, cutoff, noise), batch, threads)
    aim = None if concept is None else bench.concepts[bench.concept(concept)].name
    control = control_edits(generator, edits, controls, constants)
    before, after, sums, squares = _measured(bench, [edits, *control], progress)
    if aim is not None and not (before[:, bench.concept(aim)].any() or after[:, bench.concept(aim)].any()):
        raise GanatomyError(
            f"none of the {len(bench)} images shows {aim!r} by {segmenter.name}, with the recipe or without it: "
            f"nothing can be said of its effect; give other seeds, or more"
        )
    facts = bench.described() | {
        "aim": aim, "recipe": described_recipe(edits),
        "controls": [[[e.layer, list(e.units)] for e in one if isinstance(e, FeatureEdit)] for one in control],
        "inputs": digest([Recipe(one).id for one in control]),
    }  # fmt: skip
    return Effect(facts, bench.samples.seeds.astype(np.int64), before, after, sums, squares)


def _measured(
    bench: Bench, variants: Sequence[tuple[Edit, ...]], progress: Progress | None
) -> tuple[Int64, Int64, Int64, Int64]:
    """Return areas before and after the first variant [N, C], and of the others the sums and squared changes."""
    shape = len(bench), len(bench.concepts)
    before, after = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    sums = np.zeros((len(variants) - 1, shape[1]), np.int64)
    squares = np.zeros_like(sums)

    def make(worker: Generator, bounds: tuple[int, int]) -> tuple[int, int, list[Int64]]:
        start, stop = bounds
        plain = bench.unedited(worker, start, stop)
        areas = [plain.area]
        for edits in variants:
            active = [edit for edit in edits if not edit.idle]
            if active:
                images = worker.resume(plain.capture, bench.layer, edits=active)
                areas.append(bench.read(images, range(start, stop)))
            else:
                areas.append(plain.area)
        return start, stop, areas

    with bench.computing(), closing(bench.each(make, bench.bounds())) as batches:
        for start, stop, (plain, edited, *control) in batches:
            before[start:stop], after[start:stop] = plain, edited
            for index, area in enumerate(control):
                sums[index] += area.sum(0)
                squares[index] += ((area - plain) ** 2).sum(0)
            if progress is not None:
                progress(stop, len(bench))
    return before, after, sums, squares
