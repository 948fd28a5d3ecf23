"""What a rewrite does to images that its request has not seen: the effect that was asked for, and all others.

==============  ======================================================================================
target effect   of the pixels that are the source, and not the target already: the share that become the target
attainment      how far the layer's features went there, on the way to those that were copied
locality        how much everything else changes: mean absolute change, SSIM, a perceptual distance
drift           Fréchet and kernel distance of the edited samples from the unedited ones
==============  ======================================================================================

Beside the edit stand random ones of its size (:mod:`rewrite.controls`). Without any edit the effect is 0 by definition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from dissect import GanatomyError, Generator, WeightEdit
from dissect.edits import Edit
from dissect.effects import intervals
from dissect.effects.areas import Bench, Progress, check_recipe, described_recipe, first_layer, plain
from dissect.effects.result import Measured
from dissect.generators.codes import check_seeds
from dissect.metrics import Looks, compare
from dissect.metrics.extractors import Extractor
from dissect.samples import Sampling
from segmodels import Segmenter

from .aims import PLACE, Aim
from .controls import CONTROLS, controls_of
from .locality import Distance
from .moments import Float64
from .request import Request
from .trial import Counted, Crop, Int64, Trial, Variant, copied_of

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


def evaluate(
    generator: Generator,
    segmenter: Segmenter,
    edits: Sequence[Edit] | Edit,
    seeds: Sequence[int],
    source: Sequence[str] | str | None = None,
    target: Sequence[str] | str | None = None,
    *,
    request: Request | None = None,
    controls: Sequence[str] = CONTROLS,
    extractor: Extractor | None = None,
    distance: Distance | None = None,
    sampling: Sampling | None = None,
    batch: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure what an edit of weights, or a recipe, does to images that no request of it has seen.

    Args:
        generator, segmenter: whose images, and what reads them.
        edits: in order.
        seeds: of the images; those that take part in a request are left out, and their number told in the facts.
        source: the concept that is to change, or several: pixels that have all of them. None: what the request is
            about, a concept, or else the place that is pasted into, in all images (:class:`rewrite.aims.Aim`).
        target: what it is to become, likewise; None: what is copied, if that is another concept; or anything else. Of a
            place without a target no pixels are counted, and the effect is the way that features went.
        request: what was asked for; default: the one that the edits were made by, if it is one.
        controls: which random edits stand beside it: ``random values``, ``random keys``.
        extractor: what samples are compared by; None for no drift.
        distance: a perceptual one; None for none.
        sampling: how codes are drawn from seeds; default: as in the request.
        batch, threads: samples in one pass, CPU threads. progress: called with (images done, of how many).

    Raises:
        GanatomyError: for what does not fit the generator; if all seeds take part in a request; if no image shows the
            source.
    """
    active = check_recipe(generator, edits)
    asked = requests_of(active) if request is None else [request]
    left, dropped = unseen(seeds, asked)
    how = sampling or (asked[0].sampling if asked else Sampling())
    bench = Bench(generator, segmenter, left, first_layer(generator, active), how, batch, threads)
    aim = Aim.of(bench, asked, source, target)
    layer = observed(active) if len(asked) == 1 and asked[0].copy is not None else None
    copied = None if layer is None else copied_of(generator, asked[0], layer, segmenter, aim)
    check_effect(aim, copied)
    random = controls_of(generator, active, controls, bench.samples)
    variants = [Variant(one, layer, copied) for one in (active, *random)]
    counted = Trial(bench, aim, extractor, distance).run(variants, progress)
    facts = described(bench, aim, extractor, distance, dropped) | {
        "recipe": without_requests(described_recipe(active)), "controls": list(controls), "layer": layer,
    }  # fmt: skip
    return Evaluation(
        facts, bench.samples.seeds.astype(np.int64), counted.source, counted.became, counted.target, counted.inside,
        counted.outside, counted.similarity, counted.perceptual, counted.way[0], counted.went, counted.cosine,
        drift_of(counted, extractor),
    )  # fmt: skip


def requests_of(edits: Sequence[Edit]) -> list[Request]:
    """Return the requests that edits of weights were made by, as their provenance tells.

    Raises:
        GanatomyError: if what it tells is no request.
    """
    told = [edit.provenance.get("requests") or [] for edit in edits if isinstance(edit, WeightEdit)]
    if not all(isinstance(some, Sequence) and not isinstance(some, str) for some in told):
        raise GanatomyError("the edit's provenance holds requests that are no list")
    return [Request.of(one) for some in told for one in some]


def observed(edits: Sequence[Edit]) -> str | None:
    """Return the layer whose features the first edit of weights is about: the one that it was asked for."""
    first = next((edit for edit in edits if isinstance(edit, WeightEdit)), None)
    return None if first is None else str(first.provenance.get("observed", first.layer))


def unseen(seeds: Sequence[int], requests: Sequence[Request]) -> tuple[list[int], int]:
    """Return the seeds that take part in no request, and how many do.

    Raises:
        GanatomyError: if all of them do.
    """
    used = {seed for request in requests for seed in request.seeds}
    chosen = check_seeds(seeds)
    left = [seed for seed in chosen if seed not in used]
    if not left:
        raise GanatomyError("all seeds take part in the request; an edit is judged on others, give other seeds")
    return left, len(chosen) - len(left)


def described(
    bench: Bench, aim: Aim, extractor: Extractor | None, distance: Distance | None, dropped: int
) -> dict[str, Any]:
    """Return the facts of a trial: JSON."""
    names = [[bench.concepts[c].name for c in concepts] for concepts in (aim.source, aim.target)]
    perceptual = None if distance is None else [str(getattr(distance, key, "")) for key in ("name", "sha256")]
    return bench.described() | {
        "source": names[0] or [PLACE], "target": names[1], "counted": aim.counted, "left_out": dropped,
        "perceptual": perceptual,
        "extractor": None if extractor is None else [extractor.name, extractor.sha256],
        "inception": extractor is not None and extractor.inception,
    }  # fmt: skip


def without_requests(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe as JSON without the masks of its requests, which are long; its id still tells it from others."""
    edits = [dict(edit) for edit in recipe["edits"]]
    for edit in edits:
        if "provenance" in edit:
            edit["provenance"] = {k: v for k, v in edit["provenance"].items() if k != "requests"}
    return recipe | {"edits": edits}


def check_effect(aim: Aim, copied: Float64 | Crop | None) -> None:
    """Raise GanatomyError if nothing says whether a rewrite did what it was to do."""
    if not aim.counted and copied is None:
        raise GanatomyError(
            "nothing is copied and no concept named, so no effect can be told; give a source or a target"
        )


def drift_of(counted: Counted, extractor: Extractor | None) -> Float64:
    """Return Fréchet and kernel distance of each variant's samples from the unedited, [V, 2, 4]; NaN if unknown."""
    found = np.full((len(counted.became), len(DRIFTS), 4), np.nan)
    if extractor is None or counted.features is None or len(counted.source) < 4:
        return found
    only = ("fid" if extractor.inception else DRIFTS[0], DRIFTS[1])
    before, *after = counted.features
    for v, features in enumerate(after):
        scores = compare(Looks(features), Looks(before), extractor, only=only)
        found[v] = [[score.value, score.low, score.high, score.floor] for score in scores]
    return found


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
