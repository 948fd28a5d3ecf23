"""Edits are values: small frozen records of what to change at a layer. Weights and models are never touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from segmodels import GanatomyError


@dataclass(frozen=True, eq=False)
class FeatureEdit:
    """Scale some units of a layer towards zero: f <- (1 - a) f, with a = strength times mask.

    Attributes:
        layer: name of the layer.
        units: indices of the units, ascending.
        strength: a in [0, 1]; 1 removes the units.
        mask: float32 [H, W] in [0, 1] saying where, or None for everywhere. It is brought to the layer's own
            size: averaged by area where that is smaller, bilinearly where it is larger.
    """

    layer: str
    units: tuple[int, ...]
    strength: float = 1.0
    mask: np.ndarray | None = None

    def __call__(self, features: Tensor) -> Tensor:
        """Return edited features [N, U, h, w]; the input is left alone."""
        if self.units and self.units[-1] >= features.shape[1]:
            raise GanatomyError(f"layer {self.layer!r} has {features.shape[1]} units, the edit names unit {self.units[-1]}")
        index = torch.tensor(self.units, device=features.device, dtype=torch.long)
        edited = features.clone()
        if self.mask is None and self.strength == 1.0:
            edited[:, index] = 0
            return edited
        keep = 1.0 - self.strength * self._mask_at(features)
        edited[:, index] = edited[:, index] * keep
        return edited

    def _mask_at(self, features: Tensor) -> Tensor:
        if self.mask is None:
            return torch.ones((), dtype=features.dtype, device=features.device)
        mask = torch.tensor(self.mask, dtype=features.dtype, device=features.device)[None, None]
        height, width = features.shape[-2:]
        if height <= mask.shape[-2] and width <= mask.shape[-1]:
            return F.adaptive_avg_pool2d(mask, (height, width))
        return F.interpolate(mask, (height, width), mode="bilinear", align_corners=False)


def ablate(
    layer: str, units: Sequence[int] | int, strength: float = 1.0, mask: np.ndarray | Tensor | None = None
) -> FeatureEdit:
    """Return the edit that sets ``units`` of ``layer`` to zero (survey, section 3.1; Bau et al., ICLR 2019).

    Args:
        layer: name of a layer of the generator.
        units: one index or several; order and repetition do not matter.
        strength: 1 removes, 0 leaves, between them scales.
        mask: [H, W] in [0, 1], where to act; None is everywhere.

    Raises:
        GanatomyError: for a strength or mask outside [0, 1], a mask that is not 2-D, or negative units.
    """
    chosen = (units,) if isinstance(units, (int, np.integer)) else units
    indices = tuple(sorted({int(u) for u in chosen}))
    if indices and indices[0] < 0:
        raise GanatomyError(f"expected units >= 0, got {indices[0]}")
    if not 0.0 <= strength <= 1.0:
        raise GanatomyError(f"expected a strength in [0, 1], got {strength}")
    where = None
    if mask is not None:
        where = np.array(mask.detach().cpu() if isinstance(mask, Tensor) else mask, np.float32)
        if where.ndim != 2 or not (where.min() >= 0 and where.max() <= 1):
            raise GanatomyError(f"expected a mask [H, W] with values in [0, 1], got shape {list(where.shape)}")
        where.flags.writeable = False
    return FeatureEdit(layer, indices, float(strength), where)
