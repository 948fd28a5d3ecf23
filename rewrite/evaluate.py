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

from collections.abc import Sequence
from typing import Any

import numpy as np

from dissect import GanatomyError, Generator, WeightEdit
from dissect.edits import Edit
from dissect.effects.areas import Bench, Progress, check_recipe, described_recipe, first_layer
from dissect.generators.codes import check_seeds
from dissect.metrics import Looks, compare
from dissect.metrics.extractors import Extractor
from dissect.samples import Sampling
from segmodels import Segmenter

from .aims import PLACE, Aim
from .controls import CONTROLS, controls_of
from .evaluation import DRIFTS, Evaluation
from .locality import Distance
from .moments import Float64
from .request import Request
from .trial import Counted, Crop, Trial, Variant, copied_of


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
