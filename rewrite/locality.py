"""How much images change where they should not: pure functions of images and of a mask that says where to look.

What lies outside the mask has no part in any of them, so that a change there is not counted at its border.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .moments import Float64

# Called with images [N, 3, R, R] in [-1, 1], twice, and where to look, bool [N, R, R]; returns [N], NaN for nowhere.
Distance = Callable[[Tensor, Tensor, Tensor], Tensor]

SIGMA, REACH = 1.5, 5  # of SSIM's Gaussian window, in pixels: 11 x 11 (Wang et al., IEEE TIP 2004)
SIDE = 256  # pixels a side, near which SSIM says what people see; larger images are averaged down, as its authors say
RANGE = 2.0  # of a pixel's value: [-1, 1]


def change(before: Tensor, after: Tensor, where: Tensor) -> Float64:
    """Return the mean absolute change [N] of images [N, 3, R, R] where a mask bool [N, R, R] is; NaN where it is empty.

    It is in units of [-1, 1], as people see it: what lies beyond that range is cut off.
    """
    apart = (seen(before) - seen(after)).abs().mean(1)
    total = (apart * where).flatten(1).sum(1).cpu().numpy()
    count = where.flatten(1).sum(1).cpu().numpy()
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def similarity(before: Tensor, after: Tensor, where: Tensor) -> Float64:
    """Return the structural similarity [N] of images [N, 3, R, R] where a mask bool [N, R, R] is, 1 for the same.

    It is the mean of SSIM's map over the mask and the channels. NaN where the mask is empty, and for images smaller
    than SSIM's window.
    """
    from skimage.metrics import structural_similarity  # a second to import: only when it is wanted

    kept = torch.where(where[:, None], seen(after), seen(before))  # the same outside: windows reach across the border
    factor = max(1, round(min(before.shape[2:]) / SIDE))
    ours, theirs, share = (
        F.avg_pool2d(maps, factor).cpu().numpy() for maps in (seen(before), kept, where[:, None].double())
    )
    found = np.full(len(ours), np.nan)
    if min(ours.shape[2:]) < 2 * REACH + 1:
        return found
    for index, (a, b, (weight,)) in enumerate(zip(ours, theirs, share, strict=True)):
        if weight.any():
            maps = structural_similarity(
                a, b, channel_axis=0, data_range=RANGE, gaussian_weights=True, sigma=SIGMA,
                use_sample_covariance=False, full=True,
            )[1]  # fmt: skip
            found[index] = (maps.mean(0) * weight).sum() / weight.sum()
    return found


def seen(images: Tensor) -> Tensor:
    """Return images as people see them, float64 in [-1, 1]."""
    return images.double().clamp(-1, 1)
