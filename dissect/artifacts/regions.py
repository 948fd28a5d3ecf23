"""Units that are on where images are flawed: the defective score of Tousi et al., CVPR 2021.

The mean, over flawed images, of the IoU of the unit's map and the flawed region. Where the regions come from is left
open: a person's brush, or a classifier's Grad-CAM (``classifier``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segmodels import GanatomyError

from ..effects.areas import digest
from ..generators import Codes, Generator
from ..resample import resample
from .ranking import Ranking, facts_of

MOST_BYTES = 2**29  # of maps in memory; where a layer has more, its images are made more than once


def defect(
    generator: Generator, layer: str, codes: Codes, regions: NDArray[np.bool_], *, source: str, batch: int = 4,
    seeds: Sequence[int] = (),
) -> Ranking:  # fmt: skip
    """Rank a layer's units by their defective score.

    A unit is on where its map, enlarged to the regions' size, is among its highest values: in as large a share of all
    pixels of these images as the regions have. So a unit is judged by where it is strong, not by how often it is on.

    Args:
        codes: of the flawed images. regions: bool [N, H, W], true where an image is flawed.
        source: says where the regions come from. seeds: of all images that were looked at, the fine ones too, kept with
            the ranking: what is judged later must not be judged on them.

    Raises:
        GanatomyError: for regions of another number or shape, or without a flawed pixel.
    """
    place = generator.layer(layer)
    if regions.ndim != 3 or len(regions) != len(codes) or regions.dtype != np.bool_:
        raise GanatomyError(f"expected regions bool [{len(codes)}, H, W], got {regions.dtype} {list(regions.shape)}")
    if not regions.any():
        raise GanatomyError("no pixel of any region is flawed")
    kept = regions.any((1, 2))
    chosen, flawed = codes[np.flatnonzero(kept).tolist()], regions[kept]
    each = len(chosen) * place.height * place.width * 4
    some = max(1, MOST_BYTES // each)  # units at a time: a unit's level needs its maps of all images
    scores = []
    for first in range(0, place.channels, some):
        maps = [
            place.cropped(features)[:, first : first + some].cpu().numpy()
            for start in range(0, len(chosen), batch)
            for features in generator.features(chosen[start : start + batch], place.name).values()
        ]
        scores.append(defective_scores(np.concatenate(maps), flawed))
    score, share = np.concatenate(scores), float(flawed.mean())
    known = {"seeds": [int(seed) for seed in seeds]} if len(seeds) else {}
    facts = facts_of(
        generator, "defect", place.name, regions=source, images=len(flawed), share=share,
        inputs=digest(_latent(chosen), np.packbits(flawed)), **known,
    )  # fmt: skip
    return Ranking(facts, score, {})


def _latent(codes: Codes) -> NDArray[np.float32]:
    """Return what tells images apart: their z, or their w where there is no z."""
    found = codes.z if codes.z is not None else codes.w
    assert found is not None  # codes have one of them
    return found.cpu().numpy()


def defective_scores(maps: NDArray[np.float32], regions: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean IoU of each unit's map and the regions, [U].

    Args:
        maps: [N, U, h, w]. regions: [N, H, W], each with a flawed pixel.
    """
    size, share = regions.shape[1:], float(regions.mean())
    score = np.empty(maps.shape[1])
    for unit in range(maps.shape[1]):
        large = resample(maps[:, unit], *size)
        level = np.quantile(large, 1 - share, method="higher")
        on = large > level if (large > level).any() else large >= level
        if large.min() == large.max():
            on = np.zeros_like(regions)
        both, either = (on & regions).sum((1, 2)), (on | regions).sum((1, 2))
        score[unit] = (both / either).mean()
    return score


def mean_scores(rankings: Sequence[Ranking]) -> NDArray[np.float64]:
    """Return the mean score of several rankings of one layer, [U]."""
    return np.nanmean([ranking.score for ranking in rankings], 0)
