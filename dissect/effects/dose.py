"""How a concept's area falls as more and more units are taken away: the best first, against random orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segmodels import GanatomyError, Segmenter

from ..edit_values import indices
from ..generators import Codes, Generator
from ..generators.codes import InTurn
from ..samples import Sampling
from . import intervals
from .areas import Bench, Int64, Progress, Put, digest, plain
from .result import Measured

Float64 = NDArray[np.float64]

RANDOM = 3
STEPS = (0, 1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 500, 800)


@dataclass(frozen=True, eq=False, repr=False)
class Dose(Measured):
    """The area of one concept with the first ``steps`` units of an order taken away, over N images.

    Attributes:
        facts: what was edited, measured and by what; JSON.
        seeds: of the images, [N]. steps: numbers of units, ascending from 0, [T].
        orders: units of the given order and of each random one, [1 + R, k].
        areas: pixels of the concept in each image, [1 + R, T, N].
    """

    kind: ClassVar[str] = "dose"
    ARRAYS: ClassVar[tuple[str, ...]] = ("seeds", "steps", "orders", "areas")

    facts: Mapping[str, Any]
    seeds: Int64
    steps: Int64
    orders: Int64
    areas: Int64

    @property
    def concept(self) -> str:
        """Name of the concept."""
        return str(self.facts["aim"])

    @cached_property
    def left(self) -> Float64:
        """Pooled area that is left, as a share of the area without edits, [1 + R, T]; NaN if there was none."""
        total = self.areas.sum(2).astype(np.float64)
        return np.divide(total, total[:1, :1], out=np.full(total.shape, np.nan), where=total[0, 0] > 0)

    @cached_property
    def left_interval(self) -> Float64:
        """95% intervals of :attr:`left`, [1 + R, T, 2]; NaN for fewer than 10 images."""
        images = np.moveaxis(self.areas, 2, 0)
        return intervals.of_ratio(images, np.broadcast_to(images[:, :1, :1], images.shape))

    @cached_property
    def auc(self) -> Float64:
        """Area under each curve over the range of its units, [1 + R]: 1 is no effect, 0 all gone with the first."""
        return _area_under(self.left, self.steps)

    @cached_property
    def auc_interval(self) -> Float64:
        """95% interval [2] of the AUC of the given order; NaN for fewer than 10 images."""
        under = _area_under(np.moveaxis(self.areas[0], 1, 0).astype(np.float64), self.steps)
        return intervals.of_ratio(under, self.areas[0, 0].astype(np.float64))

    @cached_property
    def gain_interval(self) -> Float64:
        """95% interval [2] of the random orders' mean AUC minus the given one's: above 0, the order matters."""
        under = _area_under(np.moveaxis(self.areas, 2, 1).astype(np.float64), self.steps)  # [1 + R, N]
        if len(under) < 2:
            return np.full(2, np.nan)
        return intervals.of_ratio(under[1:].mean(0) - under[0], self.areas[0, 0].astype(np.float64))

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each number of units: what is left, with its interval, and by the random orders."""
        rows = []
        for t, count in enumerate(self.steps):
            others = self.left[1:, t]
            row = {
                "concept": self.concept, "units": count, "left": self.left[0, t],
                "low": self.left_interval[0, t, 0], "high": self.left_interval[0, t, 1],
                "random": others.mean() if len(others) else np.nan,
                "random_low": others.min() if len(others) else np.nan,
                "random_high": others.max() if len(others) else np.nan,
            }  # fmt: skip
            rows.append({k: plain(v) for k, v in row.items()})
        return rows


def dose(
    generator: Generator,
    segmenter: Segmenter,
    layer: str,
    order: Sequence[int],
    concept: str | int,
    seeds: Sequence[int] | Codes,
    *,
    steps: Sequence[int] | None = None,
    random: int = RANDOM,
    to: ArrayLike | str = "zero",
    classes: int | Sequence[int] | InTurn | None = None,
    truncation: float = 1.0,
    cutoff: int | None = None,
    noise: str = "const",
    batch: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Dose:
    """Measure a concept's area with 0 to k units taken away (the original's ``fullablate``, with its control).

    Args:
        generator, segmenter: whose images, and what reads them.
        layer: name of the layer.
        order: k units, the best first; none twice. For example ``run.layer(l).units(concept, top=k)``.
        concept: whose area. seeds: of the images, or codes.
        steps: numbers of units to look at; default: 0, 1, 2, 3, 5, 8, … and k.
        random: how many random orders of all the layer's units are the control.
        to: as in :func:`sweep`.
        classes, truncation, cutoff, noise, batch, threads, progress: as in :func:`sweep`.

    Raises:
        GanatomyError: for an unknown layer, unit or concept, units that repeat, steps beyond k; if no image shows the
            concept.
    """
    place = generator.layer(layer)
    listed = [int(unit) for unit in order]
    if not listed or len(indices(listed)) < len(listed) or max(listed) >= place.channels:
        raise GanatomyError(f"expected an order of units 0..{place.channels - 1} of {layer!r}, none twice")
    if not isinstance(random, (int, np.integer)) or random < 0:
        raise GanatomyError(f"expected a number of random orders >= 0, got {random!r}")
    counts = _steps(steps, len(listed))
    given = tuple(classes) if isinstance(classes, Sequence) else classes
    bench = Bench(generator, segmenter, seeds, place.name, Sampling(given, truncation, cutoff, noise), batch, threads)
    index, put = bench.concept(concept), Put(generator, place.name, to)
    drawn = [np.random.RandomState([r, 11]).permutation(place.channels)[: len(listed)] for r in range(random)]
    orders = np.array([listed, *drawn], np.int64)
    areas = np.zeros((len(orders), len(counts), len(bench)), np.int64)

    def make(worker: Generator, bounds: tuple[int, int]) -> tuple[int, int, Int64]:
        start, stop = bounds
        one = bench.unedited(worker, start, stop)
        features = one.capture.features[bench.layer]
        codes = next(iter(one.capture.restarts.values()))[1].codes
        instead = put.of(worker, codes, features).expand_as(features)
        found = np.zeros((len(orders), len(counts), stop - start), np.int64)
        found[:, counts == 0] = one.area[:, index]
        for o, units in enumerate(orders):
            for t in np.flatnonzero(counts):
                changed, gone = features.clone(), units[: counts[t]].tolist()
                changed[:, gone] = instead[:, gone]
                images = worker.resume(one.capture, bench.layer, features=changed)
                found[o, t] = bench.read(images, range(start, stop))[:, index]
        return start, stop, found

    with bench.computing(), closing(bench.each(make, bench.bounds())) as batches:
        for start, stop, found in batches:
            areas[:, :, start:stop] = found
            if progress is not None:
                progress(stop, len(bench))
    name = bench.concepts[index].name
    if not areas[:, 0].any():
        raise GanatomyError(
            f"none of the {len(bench)} images shows {name!r} by {segmenter.name}: there is nothing that could fall; "
            f"give other seeds, or more"
        )
    facts = bench.described() | {"aim": name, "layer": place.name, "to": put.kind}
    facts["inputs"] = digest(orders, counts, np.zeros(0) if put.values is None else put.values)
    return Dose(facts, bench.samples.seeds.astype(np.int64), counts, orders, areas)


def _steps(steps: Sequence[int] | None, most: int) -> Int64:
    chosen = [*(s for s in STEPS if s < most), most] if steps is None else sorted({0, *(int(s) for s in steps)})
    if chosen[0] < 0 or chosen[-1] > most or len(chosen) < 2:
        raise GanatomyError(f"expected steps between 1 and the {most} units of the order, got {chosen[1:] or 'none'}")
    return np.array(chosen, np.int64)


def _area_under(curves: Float64, steps: Int64) -> Float64:
    """Return the trapezoids under curves [..., T], as a share of the range of the steps."""
    width = np.diff(steps)
    return ((curves[..., 1:] + curves[..., :-1]) / 2 * width).sum(-1) / (steps[-1] - steps[0])
