"""The table of a sweep: what each candidate edit did to the same images, and which one the rule recommends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from dissect.effects.areas import plain
from dissect.effects.result import Measured

from .evaluation import drift_names, mean, shares_interval
from .moments import Float64
from .trial import Int64

WITHIN = 0.9  # of the largest effect: what comes as near to it may be chosen for changing less elsewhere
LEAST = 0.01  # effect below which nothing is recommended: random edits reach that, too
SAME = 1e-3  # change outside that is as good as none: an eighth of one of the 256 grades of a pixel
MOST_OUTSIDE = 0.1  # mean change outside that is allowed: a twentieth of a pixel's range is plainly seen


@dataclass(frozen=True, eq=False)
class RewriteSweep(Measured):
    """Candidates, V of them, on the same N images.

    Attributes:
        facts: what was asked for, measured and by what; JSON. ``candidates`` are [layer, rank, method] each,
            ``failed`` have the reason besides.
        seeds: of the images, [N].
        source: pixels of the source that are not the target already, [N].
        became: how many of these each candidate makes the target, [V, N].
        way, went: as in :class:`rewrite.Evaluation`, [V, N] each.
        outside: mean absolute change outside the source, [V, N]; similarity: SSIM there; perceptual: likewise.
        attained: shares [V, 4]: of the convolution's values and of the layer's features as the request asks for them,
            on its own images; of the way of the features to those that were copied, on these; and its cosine.
        size: [V, 2]: the change's norm beside the weights', and how much it disturbs typical keys' values.
        drift: Fréchet and kernel distance from the samples as they are, [V, 2]; NaN without an extractor.
        seconds: [V, 2]: to solve, and to make the memory of the layer's keys, which its ranks share.
    """

    kind: ClassVar[str] = "rewrite-sweep"
    ARRAYS: ClassVar[tuple[str, ...]] = (
        "seeds", "source", "became", "way", "went", "outside", "similarity", "perceptual", "attained", "size",
        "drift", "seconds",
    )  # fmt: skip

    facts: Mapping[str, Any]
    seeds: Int64
    source: Int64
    became: Int64
    way: Float64
    went: Float64
    outside: Float64
    similarity: Float64
    perceptual: Float64
    attained: Float64
    size: Float64
    drift: Float64
    seconds: Float64

    @property
    def candidates(self) -> list[tuple[str, int, str]]:
        """Layer, rank and method of each, [V]."""
        return [(str(layer), int(rank), str(method)) for layer, rank, method in self.facts["candidates"]]

    @cached_property
    def effect(self) -> Float64:
        """Share of the source's pixels that became the target, over all images, [V]; or how far features went."""
        return self.became.sum(1) / self.source.sum() if self.facts["counted"] else self.attained[:, 2]

    @cached_property
    def effect_interval(self) -> Float64:
        """95% interval [V, 2] of :attr:`effect` over the images that show the source; NaN for fewer than 10."""
        if self.facts["counted"]:
            return shares_interval(self.became, self.source)
        return np.stack([shares_interval(w[None], c)[0] for w, c in zip(self.went, self.way, strict=True)])

    @cached_property
    def change(self) -> Float64:
        """Mean change outside, over the images, [V]."""
        return np.array([mean(row) for row in self.outside])

    @property
    def recommended(self) -> int | None:
        """The candidate that the rule recommends, or None if none does what was asked, or all change too much else."""
        return recommended(self.effect, self.change, [rank for _, rank, _ in self.candidates], self.most_outside)

    @property
    def most_outside(self) -> float:
        """How much change outside the rule allows."""
        return float(self.facts["most_outside"])

    @property
    def rule(self) -> str:
        """The rule by which one is recommended, in a sentence."""
        return (
            f"of the candidates that change the rest of the image by at most {self.most_outside:g} (mean, of a range "
            f"of 2), those whose effect is at least {WITHIN:g} of the largest; of these the one that changes the rest "
            f"least, or one of lower rank that changes it by at most {SAME:g} more; none if no effect reaches {LEAST:g}"
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each candidate, in the order of layers, ranks and methods."""
        rows = []
        for v, (layer, rank, method) in enumerate(self.candidates):
            first, second = drift_names(self.facts)
            row = {
                "layer": layer, "rank": rank, "method": method, "effect": self.effect[v],
                "low": self.effect_interval[v, 0], "high": self.effect_interval[v, 1], "outside": self.change[v],
                "ssim": mean(self.similarity[v]), "perceptual": mean(self.perceptual[v]),
                "attained_values": self.attained[v, 0], "attained_seen": self.attained[v, 1],
                "attained_unseen": self.attained[v, 2], "cosine": self.attained[v, 3], "norm": self.size[v, 0],
                "disturbance": self.size[v, 1], first: self.drift[v, 0], second: self.drift[v, 1],
                "seconds": self.seconds[v, 0], "memory_seconds": self.seconds[v, 1],
                "recommended": v == self.recommended,
            }  # fmt: skip
            rows.append({key: plain(value) for key, value in row.items()})
        return rows


def recommended(effect: Float64, outside: Float64, ranks: Sequence[int], most: float = MOST_OUTSIDE) -> int | None:
    """Return the candidate that :attr:`RewriteSweep.rule` recommends, or None.

    Args:
        effect, outside: of each candidate, [V]; an ``outside`` of NaN is of images that are all source, and no harm; an
            effect of NaN, where nothing tells one, is not recommended.
        ranks: of each. most: change outside that is allowed.
    """
    harm = np.nan_to_num(outside, nan=0.0)
    allowed = np.flatnonzero((harm <= most) & ~np.isnan(effect))
    if not len(allowed) or effect[allowed].max() < LEAST:
        return None
    near = [int(v) for v in allowed if effect[v] >= WITHIN * effect[allowed].max()]
    least = min(harm[v] for v in near)
    return min((v for v in near if harm[v] <= least + SAME), key=lambda v: (ranks[v], harm[v], -effect[v]))
