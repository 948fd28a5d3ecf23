"""What every single unit of a layer does to the area of every concept.

A sample is generated once up to the layer; from there on it is run once for each unit. Where a unit already is what
would be put in its place (mostly: zero after a ReLU) nothing can change, and nothing is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from segmodels import Concept, GanatomyError, Segmenter

from ..edit_values import indices
from ..generators import Capture, Codes, Generator
from ..generators.codes import InTurn
from ..samples import Sampling
from .areas import Bench, Int64, Progress, Put, Side, concept_index, concepts_of, digest, plain, rows_of
from .result import Measured

Float64 = NDArray[np.float64]

KEPT = 8  # parts of a batch that are kept for the next units: they could be any of 2^n, each as large as the batch


@dataclass(frozen=True, eq=False, repr=False)
class Sweep(Measured):
    """The change of every concept's area by each of k units, over N images. C concepts, 0 is "unlabelled".

    Attributes:
        facts: what was edited, measured and by what; JSON.
        seeds: of the images, [N]. units: which units, [k].
        values: what was put in the place of each, float32 [k]; empty for zero and for another image's features.
        shown: number of images that show each concept before, [C].
        before, before_square: pixels of each concept in all images, and the sum of their squares, [C].
        after: pixels after each unit's edit, [k, C].
        square: sum over images of the squared change, [k, C]. product: of the change times the area before, [k, C].
    """

    kind: ClassVar[str] = "sweep"
    ARRAYS: ClassVar[tuple[str, ...]] = (
        "seeds",
        "units",
        "values",
        "shown",
        "before",
        "before_square",
        "after",
        "square",
        "product",
    )

    facts: Mapping[str, Any]
    seeds: Int64
    units: Int64
    values: NDArray[np.float32]
    shown: Int64
    before: Int64
    before_square: Int64
    after: Int64
    square: Int64
    product: Int64

    @property
    def layer(self) -> str:
        """Name of the layer."""
        return str(self.facts["layer"])

    @cached_property
    def concepts(self) -> tuple[Concept, ...]:
        """The segmenter's concepts."""
        return concepts_of(self.facts)

    @property
    def pixels(self) -> int:
        """Number of pixels of an image."""
        return int(self.facts["pixels"])

    @cached_property
    def change(self) -> Float64:
        """Pooled change [k, C]: sum after / sum before - 1; NaN where the concept never occurs before."""
        return _over(self.after - self.before, self.before)

    @cached_property
    def stderr(self) -> Float64:
        """Standard error [k, C] of :attr:`change`, of a ratio of sums over images (Cochran, 1977, section 2.11).

        It is NaN for a single image.
        """
        count, ratio = len(self.seeds), np.nan_to_num(self.change)
        if count < 2:
            return np.full(self.change.shape, np.nan)
        left = self.square - 2 * ratio * self.product + ratio**2 * self.before_square
        return _over(np.sqrt(np.maximum(left, 0) * count / (count - 1)), self.before)

    @cached_property
    def share(self) -> Float64:
        """Mean change of the area as a share of the image, [k, C]."""
        return (self.after - self.before) / (len(self.seeds) * self.pixels)

    @cached_property
    def share_stderr(self) -> Float64:
        """Standard error [k, C] of :attr:`share`; NaN for a single image."""
        count = len(self.seeds)
        if count < 2:
            return np.full(self.share.shape, np.nan)
        mean = (self.after - self.before) / count
        return np.sqrt(np.maximum(self.square / count - mean**2, 0) / (count - 1)) / self.pixels

    def ranked(self, concept: str | int, top: int | None = None) -> NDArray[np.int64]:
        """Return units by how much their absence takes from a concept, the most first.

        Raises:
            GanatomyError: for an unknown concept, or one that no image shows.
        """
        index = self._shown(concept)
        return self.units[np.argsort(self.after[:, index], kind="stable")][:top]

    def rows(self, concept: str | int | None = None) -> list[dict[str, Any]]:
        """Return one row for each unit: its effect on a concept, the strongest first, or on the one it changes most.

        "Most" is the largest change as a share of the image.
        """
        index = None if concept is None else self._shown(concept)
        which = np.abs(self.share[:, 1:]).argmax(1) + 1 if index is None else np.full(len(self.units), index)
        order = np.arange(len(self.units)) if index is None else np.argsort(self.after[:, index], kind="stable")
        rows = []
        for i in order:
            c = int(which[i])
            nothing = not self.square[i].any()
            row = {
                "layer": self.layer, "unit": self.units[i],
                "concept": None if nothing and index is None else self.concepts[c].name,
                "before": self.before[c] / (len(self.seeds) * self.pixels),
                "after": self.after[i, c] / (len(self.seeds) * self.pixels),
                "change": self.change[i, c], "stderr": self.stderr[i, c],
                "share": self.share[i, c], "share_stderr": self.share_stderr[i, c],
            }  # fmt: skip
            rows.append({k: plain(v) for k, v in row.items()})
        return rows

    def _shown(self, concept: str | int) -> int:
        index = concept_index(self.concepts, concept)
        if not self.before[index] and not self.after[:, index].any():
            raise GanatomyError(f"none of the {len(self.seeds)} images shows {self.concepts[index].name!r}")
        return index


def sweep(
    generator: Generator,
    segmenter: Segmenter,
    layer: str,
    seeds: Sequence[int] | Codes,
    units: Sequence[int] | None = None,
    to: ArrayLike | str = "zero",
    *,
    strength: float = 1.0,
    classes: int | Sequence[int] | InTurn | None = None,
    truncation: float = 1.0,
    cutoff: int | None = None,
    noise: str = "const",
    batch: int | None = None,
    threads: int | None = None,
    skip: bool = True,
    progress: Progress | None = None,
) -> Sweep:
    """Measure what each unit of a layer does to the area of every concept, when it alone is taken away.

    Args:
        generator, segmenter: whose images, and what reads them.
        layer: name of the layer. seeds: of the images, or codes.
        units: which units; default: all.
        to: what is put in a unit's place: ``"zero"``, ``"other"`` (what it is in a random other image), one number, or
            one for each unit of the layer (its mean: ``run.layer(l).mean``).
        strength: how much of a unit is taken away.
        classes, truncation, cutoff, noise: as for ``generator.sample``.
        batch, threads: samples in one pass, CPU threads.
        skip: leave out what cannot change anything; the areas are the same without.
        progress: called with (images done, of how many).

    Raises:
        GanatomyError: for an unknown layer or unit, a value for each unit of the wrong number.
    """
    if not 0.0 <= strength <= 1.0:
        raise GanatomyError(f"expected a strength in [0, 1], got {strength}")
    place = generator.layer(layer)
    chosen = list(range(place.channels)) if units is None else list(indices(units))
    if not chosen or chosen[-1] >= place.channels:
        raise GanatomyError(f"layer {layer!r} has units 0..{place.channels - 1}, got {chosen[-1:] or 'none'}")
    put = Put(generator, place.name, to)
    given = tuple(classes) if isinstance(classes, Sequence) else classes
    bench = Bench(generator, segmenter, seeds, place.name, Sampling(given, truncation, cutoff, noise), batch, threads)
    sums = _Sums(len(chosen), len(bench.concepts))
    done, total = 0, len(bench) * len(chosen)
    with bench.computing():
        for start, stop in bench.bounds():
            one = bench.unedited(bench.generator, start, stop)
            sums.begin(one.area)
            with closing(_edited(bench, put, chosen, strength, skip, one.capture, start)) as edited:
                for index, (rows, area) in enumerate(edited):
                    sums.add(index, one.area, rows, area)
                    done += stop - start
                    if progress is not None:
                        progress(done, total)
    values = np.zeros(0, np.float32) if put.values is None else put.values[chosen]
    facts = bench.described() | {"layer": place.name, "to": put.kind, "strength": float(strength)}
    facts["inputs"] = digest(chosen, values)
    facts["how"] |= {"run": sums.run, "skipped": total - sums.run}
    return Sweep(
        facts, bench.samples.seeds.astype(np.int64), np.array(chosen, np.int64), values, sums.shown, sums.before,
        sums.before_square, sums.after, sums.square, sums.product,
    )  # fmt: skip


class _Sums:
    """Sums over images, batch by batch."""

    def __init__(self, units: int, concepts: int) -> None:
        self.shown, self.before, self.before_square = (np.zeros(concepts, np.int64) for _ in range(3))
        self.after, self.square, self.product = (np.zeros((units, concepts), np.int64) for _ in range(3))
        self.run = 0  # images that were run again

    def begin(self, area: Int64) -> None:
        """Take in a batch without edits, [n, C]."""
        self.shown += (area > 0).sum(0)
        self.before += area.sum(0)
        self.before_square += (area**2).sum(0)

    def add(self, index: int, before: Int64, rows: Sequence[int], area: Int64) -> None:
        """Take in what became of some ``rows`` of the batch with a unit's edit; the others are as before."""
        self.after[index] += before.sum(0)
        if rows:
            change = area - before[rows]
            self.after[index] += change.sum(0)
            self.square[index] += (change**2).sum(0)
            self.product[index] += (change * before[rows]).sum(0)
            self.run += len(rows)


def _edited(
    bench: Bench, put: Put, units: Sequence[int], strength: float, skip: bool, capture: Capture, start: int
) -> Side[tuple[list[int], Int64]]:
    """Yield for each unit which samples of a batch it can change, and their areas with its edit."""
    features = capture.features[bench.layer]
    codes = next(iter(capture.restarts.values()))[1].codes
    instead = put.of(bench.generator, codes, features)
    still = (features == instead).reshape(len(features), features.shape[1], -1).all(2).cpu().numpy()
    part: dict[tuple[int, ...], Capture] = {tuple(range(len(features))): capture}

    def items() -> Iterator[tuple[int, list[int], Capture | None]]:
        for unit in units:
            rows = tuple(np.flatnonzero(~still[:, unit]).tolist()) if skip and strength else tuple(range(len(features)))
            if not strength:
                rows = ()
            if rows and rows not in part:
                if len(part) > KEPT:
                    del part[list(part)[1]]  # the oldest; the whole batch stays
                part[rows] = rows_of(capture, rows)
            yield unit, list(rows), part[rows] if rows else None

    def make(worker: Generator, item: tuple[int, list[int], Capture | None]) -> tuple[list[int], Int64]:
        unit, rows, some = item
        if some is None:
            return [], np.zeros((0, len(bench.concepts)), np.int64)
        changed = some.features[bench.layer].clone()
        new = instead[:, unit] if len(instead) == 1 else instead[rows, unit]
        changed[:, unit] = _mixed(changed[:, unit], new, strength, put.kind == "zero")
        images = worker.resume(some, bench.layer, features=changed)
        return rows, bench.read(images, [start + row for row in rows])

    return bench.each(make, items())


def _mixed(own: Tensor, new: Tensor, strength: float, zero: bool) -> Tensor:
    """Return what :class:`FeatureEdit` makes of a unit's map, bit for bit."""
    if strength == 1:
        return new.expand_as(own)
    return own * (1 - strength) if zero else own + strength * (new - own)


def _over(above: NDArray[Any], below: NDArray[Any]) -> Float64:
    below = np.broadcast_to(below, above.shape)
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
