"""What edits are given, checked: units, masks, numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from segmodels import GanatomyError

Floats = NDArray[np.float32]


def indices(units: Iterable[int] | int) -> tuple[int, ...]:
    """Return units as ascending plain integers, each once; GanatomyError if they are none."""
    return tuple(sorted(set(listed(units))))


def as_mask(mask: ArrayLike | Tensor | None) -> Floats | None:
    """Return a mask float32 [H, W] that nobody can change; GanatomyError unless it is one with values in [0, 1]."""
    if mask is None:
        return None
    where = as_floats(mask, "a mask", finite=False)
    if where.ndim != 2 or not where.size:
        raise GanatomyError(f"expected a mask [H, W], got shape {list(where.shape)}")
    if not (where.min() >= 0 and where.max() <= 1):
        raise GanatomyError(f"expected a mask with values in [0, 1], got {where.min():g} to {where.max():g}")
    where.flags.writeable = False
    return where


def mask_at(mask: Tensor, height: int, width: int, margin: int = 0, beyond: str = "replicate") -> Tensor:
    """Return a mask [H, W] at a layer's size, [height, width]: averaged by area, or bilinear where that is larger.

    Args:
        margin: cells of the layer beyond each edge of the picture, which the mask is of.
        beyond: what the mask is there: ``"replicate"`` as at the edge, ``"constant"`` zero.
    """
    if margin:
        inner = mask_at(mask, height - 2 * margin, width - 2 * margin)
        return F.pad(inner[None, None], (margin,) * 4, mode=beyond)[0, 0]
    given = mask[None, None]
    if height <= mask.shape[-2] and width <= mask.shape[-1]:
        return F.adaptive_avg_pool2d(given, (height, width))[0, 0]
    return F.interpolate(given, (height, width), mode="bilinear", align_corners=False)[0, 0]


def as_floats(values: ArrayLike | Tensor, what: str, finite: bool = True) -> Floats:
    """Return a float32 copy; GanatomyError, in terms of ``what`` they are, if there are no such numbers."""
    try:
        array = np.array(values.detach().cpu().numpy() if isinstance(values, Tensor) else values, np.float32)
    except (TypeError, ValueError) as error:
        raise GanatomyError(f"expected {what} as numbers, got {type(values).__name__}") from error
    if finite and not np.isfinite(array).all():
        raise GanatomyError(f"expected {what} without NaN or infinite numbers")
    return array


def listed(units: Iterable[int] | int) -> list[int]:
    """Return units as plain integers, as they were given; GanatomyError if they are none."""
    listed: Any = units.tolist() if isinstance(units, (Tensor, np.ndarray, np.generic)) else units
    given = np.array([listed] if not isinstance(listed, Iterable) else list(listed))
    if given.size and (given.dtype.kind not in "iu" or given.ndim != 1):
        raise GanatomyError(f"expected units as integer indices, got {given.ravel().tolist()[:5]}")
    if given.size and given.min() < 0:
        raise GanatomyError(f"expected units >= 0, got {given.min()}")
    return [int(unit) for unit in given]
