"""Units that tell images which people call broken from those they call fine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segmodels import GanatomyError

from ..effects.areas import digest
from ..effects.effect import holm
from ..generators import Codes, Generator
from .ranking import Float64, Ranking, facts_of
from .tags import Tags


def tagged(generator: Generator, layer: str, codes: Codes, tags: Tags, batch: int = 4) -> Ranking:
    """Rank a layer's units by how well their maxima separate broken images from fine ones.

    The score is the area under the ROC curve, 1 where every broken image has a higher maximum than every fine one, 1/2
    for a unit that knows nothing. ``p`` is that of the rank-sum test (Mann and Whitney 1947), ``p_adjusted`` the same
    given that all units were looked at (Holm 1979).

    Args:
        codes: of the tagged images, in their order.

    Raises:
        GanatomyError: unless there are images of both kinds, and codes for all.
    """
    if len(codes) != len(tags):
        raise GanatomyError(f"expected codes of the {len(tags)} tagged images, got {len(codes)}")
    if tags.broken.all() or not tags.broken.any():
        raise GanatomyError("expected images with both tags, broken and fine")
    place = generator.layer(layer)
    maxima = np.concatenate(
        [
            place.cropped(features).amax((2, 3)).cpu().numpy()
            for start in range(0, len(codes), batch)
            for features in generator.features(codes[start : start + batch], place.name).values()
        ]
    )
    score, p = separation(maxima, tags.broken)
    facts = facts_of(
        generator, "tagged", place.name, seeds=tags.seeds.tolist(), broken=int(tags.broken.sum()),
        fine=int((~tags.broken).sum()), inputs=digest(tags.broken),
    )  # fmt: skip
    return Ranking(facts, score, {"p": p, "p_adjusted": holm(p)})


def separation(values: NDArray[np.float32], broken: NDArray[np.bool_]) -> tuple[Float64, Float64]:
    """Return the area under the ROC curve and its two-sided p of each column of values [N, U], [U] and [U]."""
    from scipy import stats  # takes a second, which other work need not wait for

    test = stats.mannwhitneyu(values[broken], values[~broken], axis=0, method="asymptotic")
    return test.statistic / (broken.sum() * (~broken).sum()), np.nan_to_num(test.pvalue, nan=1.0)
