"""From joint counts to numbers: agreement, threshold, chance, error bars, labels. Pure functions of arrays.

Shapes: U units, B levels, C concepts, Q coarse levels, g jackknife groups. A unit is on where its activation
exceeds a level, so level b is exceeded in the bins above b. Concept 0 is "unlabelled".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

FLOOR = 0.04  # IoU that a labelled unit must reach in both halves (Bau et al., 2019 and 2020)
ALPHA = 0.05  # chance of labelling an unrelated unit, shared among the concepts present
LEAST_ON = 100  # pixels; a level with fewer decides nothing
LEAST_SHARE = 1e-4  # of the pixels, for a concept to be judged
LEAST_IMAGES = 10  # in which a concept must occur
LEAST_GROUPS = 10  # filled jackknife groups, for a standard error


@dataclass(frozen=True, eq=False)
class Tally:
    """Pixels at every level.

    Attributes:
        both: pixels on and of the concept, [..., U, B, C]; on: [..., U, B]; area: [..., U, C]; pixels: [..., U].
    """

    both: Int64
    on: Int64
    area: Int64
    pixels: Int64


def tally(counts: Int64, first_plane: NDArray[np.bool_]) -> Tally:
    """Sum bins into levels.

    Args:
        counts: [..., U, B + 1, C].
        first_plane: [C], true for concept 0 and the concepts of plane 0, whose pixels sum to all.
    """
    above = np.flip(np.cumsum(np.flip(counts, -2), -2), -2)  # above[b]: bins b and higher
    on = above[..., first_plane].sum(-1)
    return Tally(above[..., 1:, :], on[..., 1:], above[..., 0, :], on[..., 0])


def iou(both: NDArray, on: NDArray, area: NDArray) -> Float64:
    """Return intersection over union of summed pixels (survey Eq. 8); NaN where the union is empty."""
    union = on + area - both
    return np.divide(both, union, out=np.full(np.shape(union), np.nan), where=union > 0)


def information_ratio(both: NDArray, on: NDArray, area: NDArray, pixels: NDArray) -> Float64:
    """Return I(on; concept) / H(on, concept) of two indicator variables (survey Eq. 8), 0 where H is 0."""
    total = np.asarray(pixels, np.float64)
    total = np.maximum(total, 1)  # a half without a sample: then all is 0
    p_on, p_area = on / total, area / total
    mutual, joint = np.zeros(np.shape(both)), np.zeros(np.shape(both))
    for is_on in (True, False):
        for is_concept in (True, False):
            if is_on:
                cell = both if is_concept else on - both
            else:
                cell = area - both if is_concept else pixels - on - area + both
            p = cell / total
            expected = (p_on if is_on else 1 - p_on) * (p_area if is_concept else 1 - p_area)
            positive = cell > 0
            logarithm = np.log(p, out=np.zeros_like(p), where=positive)
            joint -= p * logarithm
            mutual += p * (logarithm - np.log(expected, out=np.zeros_like(p), where=positive))
    return np.divide(np.maximum(mutual, 0), joint, out=np.zeros_like(joint), where=joint > 1e-15)


def best_level(t: Tally, judged: NDArray[np.bool_]) -> tuple[NDArray[np.intp], Float64]:
    """Return (index of the level that maximises the information ratio, that ratio) per pair, [..., U, C].

    Only levels with positive association and at least 100 pixels on take part; -1 and NaN where none does,
    and for concepts that are not ``judged`` [C].
    """
    on, area, pixels = t.on[..., None], t.area[..., None, :], t.pixels[..., None, None]
    ratio = information_ratio(t.both, on, area, pixels)
    # float64 products: exact enough for a sign, where int64 ones could overflow
    positive = t.both.astype(np.float64) * pixels > on.astype(np.float64) * area
    ratio = np.where(positive & (on >= LEAST_ON) & judged, ratio, -np.inf)
    index = ratio.argmax(-2)
    value = np.take_along_axis(ratio, index[..., None, :], -2)[..., 0, :]
    found = np.isfinite(value)
    return np.where(found, index, -1), np.where(found, value, np.nan)


def negative_ratio(t: Tally, judged: NDArray[np.bool_]) -> Float64:
    """Return the highest information ratio among levels of *negative* association per pair, [U, C]; NaN if none."""
    on, area, pixels = t.on[..., None], t.area[..., None, :], t.pixels[..., None, None]
    ratio = information_ratio(t.both, on, area, pixels)
    negative = t.both.astype(np.float64) * pixels < on.astype(np.float64) * area
    ratio = np.where(negative & (on >= LEAST_ON) & judged, ratio, -np.inf).max(-2)
    return np.where(np.isfinite(ratio), ratio, np.nan)


def at_level(t: Tally, index: NDArray[np.intp]) -> tuple[Int64, Int64]:
    """Return (both, on) at a level per pair, both [..., U, C]; ``index`` [U, C], where -1 reads level 0."""
    safe = np.maximum(index, 0)
    shape = t.both.shape[:-2]
    chosen = np.broadcast_to(safe[..., None, :], (*shape, 1, safe.shape[-1]))
    both = np.take_along_axis(t.both, chosen, -2)[..., 0, :]
    on = np.take_along_axis(t.on, np.broadcast_to(safe, both.shape), -1)
    return both, on


def iou_at(t: Tally, index: NDArray[np.intp]) -> Float64:
    """Return the IoU [..., U, C] at a level per pair; NaN where ``index`` is -1."""
    both, on = at_level(t, index)
    return np.where(index < 0, np.nan, iou(both, on, t.area))


def accuracy_at(t: Tally, index: NDArray[np.intp]) -> Float64:
    """Return the share of pixels where "on" and "concept" agree, [..., U, C]; NaN where ``index`` is -1."""
    both, on = at_level(t, index)
    wrong = on + t.area - 2 * both
    return np.where(index < 0, np.nan, 1 - wrong / t.pixels[..., None])


def average_precision(t: Tally) -> Float64:
    """Return the average precision of each unit as a detector of each concept's pixels, [U, C].

    The sum over levels, from the highest down and ending with all pixels on, of precision times gain in recall;
    NaN for concepts without a pixel.
    """
    both = np.concatenate([t.area[..., None, :], t.both], -2)
    on = np.concatenate([t.pixels[..., None], t.on], -1)[..., None]
    precision = np.divide(both, on, out=np.zeros(both.shape), where=on > 0)
    gain = both - np.concatenate([both[..., 1:, :], np.zeros_like(both[..., :1, :])], -2)
    area = t.area.astype(np.float64)
    return np.divide((gain * precision).sum(-2), area, out=np.full(area.shape, np.nan), where=area > 0)


def judged_concepts(concept_area: NDArray, pixels_per_image: int) -> NDArray[np.bool_]:
    """Return which concepts may be judged at all, [C]: at least 1e-4 of the pixels, in at least 10 images.

    Args:
        concept_area: pixels per image and concept, [N, C].
    """
    share = concept_area.sum(0) / (len(concept_area) * pixels_per_image)
    judged = (share >= LEAST_SHARE) & ((concept_area > 0).sum(0) >= LEAST_IMAGES)
    judged[0] = False
    return judged


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Agreement read on the half that did not choose the level.

    Attributes:
        iou, chance, stderr: [U, C]; the mean of the two halves' readings, and the jackknife error of their
            difference D = iou - chance.
        halves_iou, halves_difference: [2, U, C], the readings themselves.
        groups: number of filled jackknife groups m.
    """

    iou: Float64
    chance: Float64
    stderr: Float64
    halves_iou: Float64
    halves_difference: Float64
    groups: int


def held_out(blocks: Int64, chance_blocks: Int64, first_plane: NDArray[np.bool_], judged: NDArray[np.bool_]) -> HeldOut:
    """Choose each pair's level by Eq. 8 on one half, read IoU, chance and their difference on the other; swap.

    Args:
        blocks, chance_blocks: [g, U, Q + 1, C], counts at the coarse levels per jackknife group; half = g mod 2.
    """
    real, chance = tally(blocks, first_plane), tally(chance_blocks, first_plane)
    filled = real.pixels[:, 0] > 0
    halves = np.arange(len(blocks)) % 2
    readings, differences, jackknife = [], [], np.full((len(blocks), *real.area.shape[1:]), np.nan)
    for half in (0, 1):
        read = halves == half
        level, _ = best_level(_sum(real, ~read), judged)
        part = _Reading(real, chance, level, read)
        readings.append(part.iou())
        differences.append(part.difference())
        for group in np.flatnonzero(read & filled):
            jackknife[group] = part.difference(without=int(group))
    halves_difference = np.stack(differences)
    for group in np.flatnonzero(filled):  # the other half is as it was
        jackknife[group] = (jackknife[group] + halves_difference[1 - halves[group]]) / 2
    groups = int(filled.sum())
    values = jackknife[filled]
    if groups < LEAST_GROUPS:
        stderr = np.full(real.area.shape[1:], np.nan)
    else:
        stderr = np.sqrt((groups - 1) / groups * ((values - values.mean(0)) ** 2).sum(0))
    ious = np.stack([r[0] for r in readings])
    chances = np.stack([r[1] for r in readings])
    return HeldOut(ious.mean(0), chances.mean(0), stderr, ious, halves_difference, groups)


def _sum(t: Tally, groups: NDArray[np.bool_]) -> Tally:
    return Tally(t.both[groups].sum(0), t.on[groups].sum(0), t.area[groups].sum(0), t.pixels[groups].sum(0))


class _Reading:
    """Pixels at one half's chosen levels, per group of the half that is read."""

    def __init__(self, real: Tally, chance: Tally, level: NDArray[np.intp], read: NDArray[np.bool_]) -> None:
        self._none = level < 0
        self._groups = {int(g): i for i, g in enumerate(np.flatnonzero(read))}
        self._parts = []
        for t in (real, chance):
            sub = Tally(t.both[read], t.on[read], t.area[read], t.pixels[read])
            both, on = at_level(sub, level)
            self._parts.append((both, on, sub.area))
        self._sums = [tuple(x.sum(0) for x in part) for part in self._parts]

    def iou(self) -> tuple[Float64, Float64]:
        """Return (IoU, chance IoU), [U, C] each."""
        real, chance = (np.where(self._none, np.nan, iou(*sums)) for sums in self._sums)
        return real, chance

    def difference(self, without: int | None = None) -> Float64:
        """Return IoU - chance IoU, with a group left out or not."""
        sums = self._sums
        if without is not None:
            index = self._groups[without]
            sums = [tuple(s - x[index] for s, x in zip(total, part)) for total, part in zip(sums, self._parts)]
        return np.where(self._none, np.nan, iou(*sums[0]) - iou(*sums[1]))


def exchanged(blocks: Int64, chance_blocks: Int64) -> tuple[Int64, Int64]:
    """Return (counts, chance counts) [g, ...] that have changed places in every other group of each half.

    What a unit owes to the image itself then cancels, positive or negative. To a unit that is independent of the labels
    it makes no difference: its image's labels and the next one's are alike to it. So what :func:`labels` names in the
    result it names by chance, and of the units without relation to the labels it names as many as in the run itself.
    """
    swap = (np.arange(len(blocks)) // 2 % 2 == 1).reshape(-1, *[1] * (blocks.ndim - 1))
    return np.where(swap, chance_blocks, blocks), np.where(swap, blocks, chance_blocks)


def error_at_levels(blocks: Int64, chance_blocks: Int64, first_plane: NDArray[np.bool_]) -> Float64:
    """Return the jackknife standard error of the plain D = IoU - chance IoU at every coarse level, [U, Q, C].

    Args:
        blocks, chance_blocks: as for :func:`held_out`. NaN with fewer than 10 filled groups, or without a pixel.
    """
    real, chance = tally(blocks, first_plane), tally(chance_blocks, first_plane)
    filled = np.flatnonzero(real.pixels[:, 0] > 0)
    if len(filled) < LEAST_GROUPS:
        return np.full(real.both.shape[1:], np.nan)
    values = []
    for group in filled:
        parts = [_sum(t, np.arange(len(blocks)) != group) for t in (real, chance)]
        ious = [iou(t.both, t.on[..., None], t.area[..., None, :]) for t in parts]
        values.append(ious[0] - ious[1])
    spread = np.stack(values)
    return np.sqrt((len(filled) - 1) / len(filled) * ((spread - spread.mean(0)) ** 2).sum(0))


def winners(h: HeldOut) -> NDArray[np.intp]:
    """Return each unit's concept with the largest held-out difference from chance, [U]; 0 where there is none."""
    difference = np.where(np.isnan(h.iou - h.chance), -np.inf, h.iou - h.chance)
    best = difference.argmax(1)
    return np.where(np.isfinite(np.take_along_axis(difference, best[:, None], 1)[:, 0]), best, 0)


def labels(h: HeldOut, judged: NDArray[np.bool_], floor: float = FLOOR, alpha: float = ALPHA) -> NDArray[np.intp]:
    """Return the concept that may be called each unit's, [U], or 0.

    The same concept wins in both halves, its IoU reaches ``floor`` in both, and Student's one-sided p (m - 1
    degrees of freedom) is below ``alpha`` divided by the number of judged concepts.
    """
    halves = np.where(np.isnan(h.halves_difference), -np.inf, h.halves_difference)
    best = halves.argmax(2)
    units = np.arange(best.shape[1])
    chosen = best[0]
    agree = (best[0] == best[1]) & np.isfinite(halves[0, units, chosen]) & np.isfinite(halves[1, units, chosen])
    high = (np.nan_to_num(h.halves_iou[:, units, chosen], nan=-1.0) >= floor).all(0)
    difference = (h.iou - h.chance)[units, chosen]
    p = one_sided_p(difference, h.stderr[units, chosen], h.groups)
    sure = p < alpha / max(int(judged.sum()), 1)
    return np.where(agree & high & sure, chosen, 0)


def one_sided_p(difference: Float64, stderr: Float64, groups: int) -> Float64:
    """Return Student's p that the difference is not above 0; an error of 0 with a positive difference is p = 0."""
    if groups < LEAST_GROUPS:
        return np.ones(np.shape(difference))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = stdtr(groups - 1, -difference / stderr)  # Student's tail; scipy.stats takes a second to import
    p = np.where(stderr == 0, np.where(difference > 0, 0.0, 1.0), p)
    return np.where(np.isnan(p), 1.0, p)
