"""If units are put in *here*, what appears? Asked at every place of a map, and tallied by what was there before.

The experiment behind "doors do not grow in the sky" (Bau et al., ICLR 2019, section 4.4; survey, section 3.1.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from segmodels import GanatomyError, Segmenter

from ..edits import FeatureEdit, insert
from ..generators import Generator
from ..generators.codes import InTurn
from ..samples import Sampling
from ..tables import Tabled
from .heldout import with_units
from .subject import Subject, parts, seeds_of

Progress = Callable[[int, int], None]
Ints = NDArray[np.int64]
REACH = 1  # tiles on each side of a place that are near to it: upsampling and convolutions blur what is put in
ARRAYS = ("overall", "near", "overall_under", "near_under", "squares_under", "under", "seeds", "pixels")


@dataclass(frozen=True, eq=False, repr=False)
class InsertionMap(Tabled):
    """What appears where units are put in. h x w places of a layer's map, C concepts, N images.

    All sums are exact integers over the images, in pixels of the segmenter's labels; a share of an image, or a mean, is
    a property. Column 0 of C is what plane 0 leaves unlabelled, as everywhere.

    Attributes:
        about: generator, segmenter, layer, units, values, settings: what determines the result, as JSON.
        overall: int64 [h, w, C], change of every concept's area in the whole image, summed over the images.
        near: int64 [h, w, C], the same among the pixels near the place (its own tile and ``reach`` round it).
        overall_under, near_under: int64 [C, C], the same summed over all places and images by the concept underneath:
            that of which the unedited image shows most in the place's own tile, for each plane of labels.
        squares_under: int64 [C, C], of ``near``'s changes, for their error.
        under: int64 [C], how many places had that concept underneath.
        seeds: int64 [N]. pixels: int64 [2], height and width of the labels.
    """

    kind: ClassVar[str] = "insertion"
    about: Mapping[str, Any]
    overall: Ints
    near: Ints
    overall_under: Ints
    near_under: Ints
    squares_under: Ints
    under: Ints
    seeds: Ints
    pixels: Ints

    @property
    def layer(self) -> str:
        """Name of the layer."""
        return str(self.about["layer"])

    @property
    def concepts(self) -> list[str]:
        """Names of the concepts [C]."""
        return [str(concept[0]) for concept in self.about["concepts"]]

    @property
    def tile_pixels(self) -> float:
        """Area of a whole tile in pixels of the labels."""
        height, width = self.about["map"]
        return float(np.prod(self.pixels) * self.about["tile"] ** 2 / (height * width))

    def mean(self, near: bool = True) -> NDArray[np.float64]:
        """Return the mean change of area per image, in pixels, [h, w, C]."""
        return (self.near if near else self.overall) / len(self.seeds)

    def mean_under(self, near: bool = True) -> NDArray[np.float64]:
        """Return the mean change by the concept underneath, in pixels, [C, C]; NaN for concepts that never were."""
        sums, count = (self.near_under if near else self.overall_under), self.under[:, None]
        return np.divide(sums, count, out=np.full(sums.shape, np.nan), where=count > 0)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row per concept underneath and concept that changed there, the largest changes first."""
        near, overall = self.mean_under(), self.mean_under(near=False)
        rows: list[dict[str, Any]] = []
        for below, appears in zip(*np.nonzero((self.near_under != 0) | (self.overall_under != 0)), strict=True):
            count = int(self.under[below])
            spread = self.squares_under[below, appears] / count - near[below, appears] ** 2
            rows.append(
                {
                    "layer": self.layer, "under": self.concepts[below], "places": count,
                    "appears": self.concepts[appears], "near_change": float(near[below, appears]),
                    "near_std": float(np.sqrt(max(spread, 0.0))), "overall_change": float(overall[below, appears]),
                }
            )  # fmt: skip
        return sorted(rows, key=lambda row: -abs(row["near_change"]))

    def header(self) -> dict[str, Any]:
        """Return what is stored as JSON."""
        return {"kind": self.kind, **self.about}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what is stored as arrays."""
        return {name: getattr(self, name) for name in ARRAYS}

    @classmethod
    def from_stored(cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """Return the result of what :meth:`header` and :meth:`arrays` gave; GanatomyError if something is missing."""
        if missing := [name for name in ARRAYS if name not in arrays]:
            raise GanatomyError(f"this stored result is damaged: it lacks {', '.join(missing)}")
        about = {key: value for key, value in header.items() if key != "kind"}
        return cls(about, **{name: arrays[name] for name in ARRAYS})


def insertion_map(
    generator: Generator,
    segmenter: Segmenter,
    layer: str,
    units: Iterable[int] | int,
    values: ArrayLike,
    seeds: Sequence[int],
    stride: int = 1,
    *,
    reach: int = REACH,
    classes: int | InTurn | None = None,
    truncation: float = 1.0,
    cutoff: int | None = None,
    noise: str = "const",
    batch: int | None = None,
    progress: Progress | None = None,
) -> InsertionMap:
    """Put units in at one place of a layer's map at a time, and measure what appears.

    What the passes held up to the layer is made once an image; only what comes after it runs for every place.

    Args:
        units, values: as for :func:`dissect.insert`: a number for all, or one for each unit in the order of ``units``.
        seeds: of the images.
        stride: side of a place in cells of the layer: places are next to one another and cover the map.
        reach: how many tiles on each side of a place are near to it.
        classes, truncation, cutoff, noise: as for ``generator.sample``; one class for all images, classes that
            seeds take in turn, or each seed's own.
        batch: places in one pass; the result does not depend on it but for the generator's rounding.
        progress: called with (places done, places in all).

    Raises:
        GanatomyError: for unknown names, units out of range, values of the wrong number, a layer without a map.
    """
    subject = Subject.of(generator, segmenter, layer, Sampling(classes, truncation, cutoff, noise), stride)
    edit, chosen = insert(subject.layer.name, units, values), seeds_of(seeds, "seeds")
    if not edit.units:
        raise GanatomyError("expected at least one unit to put in")
    edit.check(subject.layer.channels, (subject.layer.height, subject.layer.width))
    if reach < 0 or (batch is not None and batch < 1):
        raise GanatomyError(f"expected reach >= 0 and batch >= 1, got {reach} and {batch}")
    if not isinstance(edit.values, np.ndarray) or edit.values.ndim != 1:
        raise GanatomyError("expected a number for each unit, which is put in at every place; maps have places already")
    tally, total = _Tally(subject, reach), len(chosen) * subject.tiles.count
    for index, seed in enumerate(chosen):
        for done in tally.add(seed, edit, batch or subject.at_once):
            if progress is not None:
                progress(index * subject.tiles.count + done, total)
    about = {
        **subject.header(chosen), "units": list(edit.units), "values": [float(v) for v in edit.values],
        "reach": reach, "map": list(subject.layer.seen),
    }  # fmt: skip
    return tally.result(about, chosen)


class _Tally:
    """The sums of an insertion map, image by image. Memory does not depend on their number."""

    def __init__(self, subject: Subject, reach: int) -> None:
        self.subject, self.reach = subject, reach
        concepts, tiles = len(subject.segmenter.concepts), subject.tiles
        self.overall, self.near = (np.zeros((tiles.count, concepts), np.int64) for _ in range(2))
        square = [np.zeros((concepts, concepts), np.int64) for _ in range(3)]
        self.overall_under, self.near_under, self.squares_under = square
        self.under = np.zeros(concepts, np.int64)
        self.size = (0, 0)

    def add(self, seed: int, edit: FeatureEdit, batch: int) -> Iterable[int]:
        """Count one image, yielding how many of its places are done."""
        subject, tiles = self.subject, self.subject.tiles
        capture = subject.capture([seed])
        before = self._labels(capture.images, [seed])[0]
        self.size = (before.shape[1], before.shape[2])
        near = _Boxes(*tiles.pixels(self.size, self.reach))
        base_near, base = near.areas(before, len(self.under), range(tiles.count)), self._areas(before)
        below = _Boxes(*tiles.pixels(self.size)).areas(before, len(self.under), range(tiles.count), split=True)
        done = 0
        for chunk in parts(range(tiles.count), batch):
            rows = subject.rows(capture, [0] * len(chunk))
            put = torch.from_numpy(np.array(edit.values))
            features = with_units(subject.features(rows), edit.units, put, tiles.masks(chunk))
            after = self._labels(subject.resume(rows, features), [seed] * len(chunk))
            for tile, labels in zip(chunk, after, strict=True):
                change = near.areas(labels, len(self.under), [tile])[0] - base_near[tile]
                self._count(tile, below[tile], self._areas(labels) - base, change)
            done += len(chunk)
            yield done

    def _count(self, tile: int, below: Ints, overall: Ints, near: Ints) -> None:
        self.overall[tile] += overall
        self.near[tile] += near
        for plane, areas in enumerate(below):
            concept = int(areas.argmax())
            if not areas.any() or (concept == 0 and plane > 0):
                continue  # no pixel lies in the tile; what another plane leaves unlabelled is no concept
            self.under[concept] += 1
            self.overall_under[concept] += overall
            self.near_under[concept] += near
            self.squares_under[concept] += near**2

    def _labels(self, images: torch.Tensor, keys: Sequence[int]) -> NDArray[np.int16]:
        return self.subject.segmenter(images, list(keys)).cpu().numpy()

    def _areas(self, labels: NDArray[np.int16]) -> Ints:
        return _of_planes(np.stack([np.bincount(plane.ravel(), minlength=len(self.under)) for plane in labels]))

    def result(self, about: Mapping[str, Any], seeds: Sequence[int]) -> InsertionMap:
        """Return the finished map."""
        shape = (self.subject.tiles.rows, self.subject.tiles.columns, -1)
        return InsertionMap(
            about, self.overall.reshape(shape), self.near.reshape(shape), self.overall_under, self.near_under,
            self.squares_under, self.under, np.array(seeds, np.int64), np.array(self.size, np.int64),
        )  # fmt: skip


class _Boxes:
    """Rectangles of a label map, one for each tile: rows bool [rows, H], columns bool [columns, W]."""

    def __init__(self, rows: NDArray[np.bool_], columns: NDArray[np.bool_]) -> None:
        def spans(members: NDArray[np.bool_]) -> list[slice]:
            found = [np.flatnonzero(line) for line in members]
            return [slice(int(f[0]), int(f[-1]) + 1) if len(f) else slice(0, 0) for f in found]

        self._down, self._across = spans(rows), spans(columns)

    def areas(self, labels: NDArray[np.int16], concepts: int, tiles: Iterable[int], split: bool = False) -> Ints:
        """Return pixels of each concept in the boxes of some tiles, [n, C]; ``split`` by plane: [n, K, C]."""
        found = []
        for tile in tiles:
            row, column = divmod(tile, len(self._across))
            box = labels[:, self._down[row], self._across[column]]
            counts = np.stack([np.bincount(plane.ravel(), minlength=concepts) for plane in box])
            found.append(counts if split else _of_planes(counts))
        return np.stack(found).astype(np.int64)


def _of_planes(counts: Ints) -> Ints:
    """Return pixels of each concept [C] from those in each plane [K, C]: column 0 is plane 0's alone."""
    total = counts.sum(0)
    total[0] = counts[0, 0]
    return total.astype(np.int64)
