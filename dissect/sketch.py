"""How a layer's units agree with a concept that someone drew on a few images.

A dissection judges concepts on thousands of images, and none below ten. A person with a brush has three. What can be
said then is the IoU on these images, at a level that the others of them chose, and how much it moves when one image is
left out: enough to find units that may be meant, not to label them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segmodels import GanatomyError

from .agreement import best_level, iou, tally
from .counts import count_reference
from .generators import Codes, Generator
from .tables import Tabled

Float64 = NDArray[np.float64]
FEWEST = 2  # images: one chooses the level at which the other is read
BOTH_PLANES = np.array([True, True])  # nothing, and the concept: together all pixels
JUDGED = np.array([False, True])


@dataclass(frozen=True, eq=False, repr=False)
class Sketch(Tabled):
    """Agreement of each unit with what was drawn, U units.

    Attributes:
        iou: read on each image at the level that the other images chose, summed over images, [U]; 0 where no level of
            positive association has 100 pixels on.
        chance: what it would be if where a unit is on had nothing to do with the drawing, in the same images, [U].
        stderr: jackknife error of ``iou`` over images, [U]; NaN for two images.
        level: the level that all images choose, [U]; NaN where ``iou`` is 0 for want of one.
        images: how many.
    """

    layer: str
    iou: Float64
    chance: Float64
    stderr: Float64
    level: Float64
    images: int

    @property
    def order(self) -> NDArray[np.intp]:
        """Units, those that agree most beyond chance first; equal ones by their number."""
        return np.argsort(-(self.iou - self.chance), kind="stable")

    def rows(self, top: int | None = None) -> list[dict[str, Any]]:
        """Return one row for each unit, best first."""
        return [
            {
                "layer": self.layer, "unit": int(unit), "iou": float(self.iou[unit]),
                "chance": float(self.chance[unit]), "stderr": float(self.stderr[unit]),
                "level": float(self.level[unit]),
            }
            for unit in self.order[:top]
        ]  # fmt: skip


def sketch(
    generator: Generator, layer: str, codes: Codes, masks: NDArray[np.bool_], levels: NDArray[np.float32]
) -> Sketch:
    """Compare a layer's units with drawn masks.

    Args:
        codes: of the images. masks: bool [N, H, W], true where the concept is; it may be nowhere in some images.
        levels: activation levels [U, B], ascending: a run's (``run.layer(name).levels``).

    Raises:
        GanatomyError: for fewer than two images, masks of another shape, levels of another layer, or an empty drawing.
    """
    place = generator.layer(layer)
    if masks.ndim != 3 or len(masks) != len(codes) or masks.dtype != np.bool_ or len(masks) < FEWEST:
        raise GanatomyError(
            f"expected masks bool [{len(codes)}, H, W] of {FEWEST} images or more, got {masks.dtype} "
            f"{list(masks.shape)}"
        )
    if len(levels) != place.channels:
        raise GanatomyError(f"layer {place.name!r} has {place.channels} units, the levels are of {len(levels)}")
    if masks.any((1, 2)).sum() < FEWEST:
        raise GanatomyError(f"the concept has to be drawn on {FEWEST} images or more")
    counts = []
    for index in range(len(codes)):
        (features,) = generator.features(codes[[index]], place.name).values()
        values = place.cropped(features).cpu().numpy()
        counts.append(count_reference(values, masks[None, index : index + 1].astype(np.int16), levels, 2))
    return read(place.name, np.stack(counts), levels)


def read(layer: str, counts: NDArray[np.int64], levels: NDArray[np.float32]) -> Sketch:
    """Return what joint counts of each image say.

    Args:
        counts: [N, U, B + 1, 2], as :func:`dissect.counts.count_reference` counts one image: outside, inside.
        levels: [U, B].
    """
    each, images = tally(counts, BOTH_PLANES), len(counts)
    both, on = np.zeros((images, len(levels))), np.zeros((images, len(levels)))
    area, pixels = each.area[:, :, 1].astype(float), each.pixels.astype(float)
    rows = np.arange(len(levels))
    for image in range(images):
        others = tally(np.delete(counts, image, 0).sum(0), BOTH_PLANES)
        level = best_level(others, JUDGED)[0][:, 1]
        found = level >= 0
        both[image] = np.where(found, each.both[image, rows, level, 1], 0)
        on[image] = np.where(found, each.on[image, rows, level], 0)
    by_chance = on * area / pixels
    value, expected = iou(both.sum(0), on.sum(0), area.sum(0)), iou(by_chance.sum(0), on.sum(0), area.sum(0))
    return Sketch(
        layer, np.nan_to_num(value), np.nan_to_num(expected), _jackknife(both, on, area), _level_of_all(counts, levels),
        images,
    )  # fmt: skip


def _level_of_all(counts: NDArray[np.int64], levels: NDArray[np.float32]) -> Float64:
    index = best_level(tally(counts.sum(0), BOTH_PLANES), JUDGED)[0][:, 1]
    return np.where(index < 0, np.nan, levels[np.arange(len(levels)), index].astype(float))


def _jackknife(both: Float64, on: Float64, area: Float64) -> Float64:
    """Return the error of an IoU of sums over images [N, U], from leaving one image out."""
    images = len(both)
    if images <= FEWEST:
        return np.full(both.shape[1], np.nan)
    without = np.nan_to_num(iou(both.sum(0) - both, on.sum(0) - on, area.sum(0) - area))
    return np.sqrt((images - 1) / images * ((without - without.mean(0)) ** 2).sum(0))
