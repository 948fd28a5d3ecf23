"""What a judgement of a rewrite holds: each image's numbers for the edit and its controls, and what follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from dissect.effects import intervals
from dissect.effects.areas import plain
from dissect.effects.result import Measured

from .moments import Float64
from .trial import Int64

DRIFTS = ("frechet", "kernel")


@dataclass(frozen=True, eq=False)
class Evaluation(Measured):
    """An edit on N images, and K controls: V = 1 + K variants, the edit first.

    Attributes:
        facts: what was edited, measured and by what; JSON.
        seeds: of the images, [N].
        source: pixels of the source that are not the target already, in the images as they are, [N].
        became: how many of these each variant makes the target, [V, N].
        target: pixels of the target in the whole image: as it is, and by each variant, [1 + V, N].
        inside, outside: mean absolute change of an image where the source is, and elsewhere, [V, N], in units of
            [-1, 1]; NaN where there is nothing.
        similarity: SSIM outside, [V, N]. perceptual: what the given distance says outside, [V, N]; NaN without one.
        way: how much each image counts for the way of the layer's features to what was copied, [N]; 0 where that is
            not looked at. By a concept the way is from the mean of the source's features to that of what was copied,
            and an image counts by its cells. A crop at a place has a way of its own in each cell, which counts by its
            squared length.
        went: how far they went on it, times that, [V, N].
        cosine: of the change and the way, [V]; NaN where nothing changes.
        drift: Fréchet and kernel distance from the samples as they are, [V, 2, 4]: value, ends of the 95% interval,
            the most that two halves of those give in ten splits. NaN without an extractor. The samples have the same
            seeds, so that the distance of an edit that does nothing is 0 (the kernel's, unbiased, a little below).
    """

    kind: ClassVar[str] = "rewrite"
    ARRAYS: ClassVar[tuple[str, ...]] = (
        "seeds", "source", "became", "target", "inside", "outside", "similarity", "perceptual", "way", "went",
        "cosine", "drift",
    )  # fmt: skip

    facts: Mapping[str, Any]
    seeds: Int64
    source: Int64
    became: Int64
    target: Int64
    inside: Float64
    outside: Float64
    similarity: Float64
    perceptual: Float64
    way: Float64
    went: Float64
    cosine: Float64
    drift: Float64

    @property
    def names(self) -> list[str]:
        """What each variant is, [V]."""
        return ["rewrite", *self.facts["controls"]]

    @property
    def pixels(self) -> int:
        """Number of pixels of an image."""
        return int(self.facts["pixels"])

    @property
    def images(self) -> int:
        """How many images show the source."""
        return int((self.source > 0).sum())

    @cached_property
    def effect(self) -> Float64:
        """Share of the source's pixels that became the target, over all images, [V]; else :attr:`attained`."""
        return self.became.sum(1) / self.source.sum() if self.facts["counted"] else self.attained

    @cached_property
    def effect_interval(self) -> Float64:
        """95% interval [V, 2] of :attr:`effect` over the images that show the source; NaN for fewer than 10."""
        return shares_interval(self.became, self.source) if self.facts["counted"] else self.attained_interval

    @cached_property
    def target_change(self) -> Float64:
        """Mean change of the target's area as a share of the image, [V]."""
        return (self.target[1:] - self.target[0]).mean(1) / self.pixels

    @cached_property
    def attained(self) -> Float64:
        """How far features went on the way to those that were copied, over all images, [V]; NaN if not looked at."""
        total = self.way.sum()
        return self.went.sum(1) / total if total else np.full(len(self.went), np.nan)

    @cached_property
    def attained_interval(self) -> Float64:
        """95% interval [V, 2] of :attr:`attained` over the images that show the source; NaN for fewer than 10."""
        return shares_interval(self.went, self.way)

    @cached_property
    def outside_interval(self) -> Float64:
        """95% interval [V, 2] of the mean change outside over images; NaN for fewer than 10."""
        return intervals.of_mean(self.outside[:, ~np.isnan(self.outside[0])].T)

    @property
    def works(self) -> bool:
        """Whether the effect is above 0 beyond the error, and more than that of every control."""
        return bool(self.effect_interval[0, 0] > max([0.0, *self.effect[1:]]))

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each variant."""
        rows = []
        for v, name in enumerate(self.names):
            row: dict[str, Any] = {
                "edit": name, "images": self.images, "effect": self.effect[v], "low": self.effect_interval[v, 0],
                "high": self.effect_interval[v, 1], "target_before": self.target[0].mean() / self.pixels,
                "target_after": self.target[1 + v].mean() / self.pixels, "attained": self.attained[v],
                "attained_low": self.attained_interval[v, 0], "attained_high": self.attained_interval[v, 1],
                "cosine": self.cosine[v], "inside": mean(self.inside[v]), "outside": mean(self.outside[v]),
                "outside_low": self.outside_interval[v, 0], "outside_high": self.outside_interval[v, 1],
                "ssim": mean(self.similarity[v]), "perceptual": mean(self.perceptual[v]),
            }  # fmt: skip
            for name_of, numbers in zip(drift_names(self.facts), self.drift[v], strict=True):
                row |= {name_of + end: x for end, x in zip(("", "_low", "_high", "_floor"), numbers, strict=True)}
            rows.append({key: plain(value) for key, value in row.items()})
        return rows


def drift_names(facts: Mapping[str, Any]) -> tuple[str, str]:
    """Return what the two distances are called: the first is an FID only of Inception's features."""
    return "fid" if facts["inception"] else DRIFTS[0], DRIFTS[1]


def shares_interval(parts: ArrayLike, whole: ArrayLike) -> Float64:
    """Return 95% intervals [V, 2] of pooled shares, of parts [V, N] and wholes [N] of images that have any; or NaN."""
    some, total = np.asarray(parts, np.float64), np.asarray(whole, np.float64)
    there = total > 0
    return intervals.of_ratio(some[:, there].T, np.tile(total[there, None], len(some)))


def mean(values: Float64) -> float:
    """Return the mean of what is known; NaN if nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
