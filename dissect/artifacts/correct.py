"""From a ranking to a recipe: plain ablation of the worst units, or soft correction of several layers in order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segmodels import GanatomyError

from ..edits import FeatureEdit, ablate
from ..generators import Generator
from ..recipes import Recipe
from .ranking import Ranking

SCALE, SHARE = 0.8, 0.2  # s and alpha as the re-implementation of Tousi et al. has them


def plain(generator: Generator, ranking: Ranking, count: int) -> Recipe:
    """Return the recipe that sets the ``count`` most suspect units to zero; GanatomyError if fewer can be judged."""
    units = ranking.top(count)
    if not 0 < count <= len(units):
        raise GanatomyError(f"expected 1 to {len(ranking.top(len(ranking.score)))} units, got {count}")
    return Recipe([ablate(ranking.layer, units)], generator)


def sequential(
    generator: Generator,
    rankings: Sequence[Ranking],
    scale: float = SCALE,
    share: float = SHARE,
    stop: str | None = None,
) -> Recipe:
    """Return the soft correction of several layers (after Tousi et al., CVPR 2021).

    In each layer up to ``stop``, in the order in which they run, the most suspect ``share`` of the units is multiplied
    by ``scale * (1 - score)``. What a layer does is seen by the next, since edits act on one pass.

    Args:
        rankings: of layers, with scores in 0..1 (``defect``).
        scale: 1 and scores of 0 change nothing.

    Raises:
        GanatomyError: for scores outside 0..1, two rankings of a layer, or a scale or share outside 0..1.
    """
    if not (0 <= scale <= 1 and 0 < share <= 1):
        raise GanatomyError(f"expected scale and share in 0..1, got {scale} and {share}")
    by_layer = {generator.layer(ranking.layer).name: ranking for ranking in rankings}
    if len(by_layer) != len(rankings):
        raise GanatomyError("expected one ranking of each layer")
    order = [layer.name for layer in generator.layers]
    last = len(order) if stop is None else order.index(generator.layer(stop).name)
    edits = []
    for name in sorted(by_layer, key=order.index):
        ranking = by_layer[name]
        score = np.nan_to_num(ranking.score)
        if score.min() < 0 or score.max() > 1:
            raise GanatomyError(f"expected scores in 0..1, {ranking.strategy} has {score.min():g} to {score.max():g}")
        units = sorted(ranking.top(max(1, round(share * len(score)))))
        if order.index(name) <= last and units:
            strength = tuple(float(1 - scale * (1 - score[u])) for u in units)
            edits.append(FeatureEdit(name, tuple(units), strength))
    return Recipe(edits, generator)
