"""Edits are values: small frozen records of what to change at a layer. Weights and models are never touched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from segmodels import GanatomyError


@dataclass(frozen=True, eq=False)
class FeatureEdit:
    """Scale some units of a layer towards zero: f <- (1 - a) f, with a = strength times mask.

    Two edits that do the same are equal.

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

    def __post_init__(self) -> None:
        if list(self.units) != sorted(set(self.units)) or (self.units and self.units[0] < 0):
            raise GanatomyError(f"expected units >= 0 in ascending order, got {self.units}; ablate() sorts them")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FeatureEdit) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        mask = None if self.mask is None else (self.mask.shape, self.mask.tobytes())
        return self.layer, self.units, self.strength, mask

    def __call__(self, features: Tensor) -> Tensor:
        """Return edited features [N, U, h, w]; the input is left alone."""
        if self.units and self.units[-1] >= features.shape[1]:
            raise GanatomyError(
                f"layer {self.layer!r} has units 0..{features.shape[1] - 1}, the edit names {self.units[-1]}"
            )
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
    layer: str, units: Iterable[int] | int, strength: float = 1.0, mask: np.ndarray | Tensor | None = None
) -> FeatureEdit:
    """Return the edit that sets ``units`` of ``layer`` to zero (survey, section 3.1; Bau et al., ICLR 2019).

    Args:
        layer: name of a layer of the generator.
        units: one index or several; order and repetition do not matter.
        strength: 1 removes, 0 leaves, between them scales.
        mask: [H, W] in [0, 1], where to act; None is everywhere.

    Raises:
        GanatomyError: for a strength or mask outside [0, 1], a mask that is not 2-D, or units that are not
            indices.
    """
    if not 0.0 <= strength <= 1.0:
        raise GanatomyError(f"expected a strength in [0, 1], got {strength}")
    where = None
    if mask is not None:
        where = np.array(mask.detach().cpu().numpy() if isinstance(mask, Tensor) else mask, np.float32)
        if where.ndim != 2 or not where.size:
            raise GanatomyError(f"expected a mask [H, W], got shape {list(where.shape)}")
        if not (where.min() >= 0 and where.max() <= 1):
            raise GanatomyError(f"expected a mask with values in [0, 1], got {where.min():g} to {where.max():g}")
        where.flags.writeable = False
    return FeatureEdit(layer, _indices(units), float(strength), where)


def _indices(units: Iterable[int] | int) -> tuple[int, ...]:
    listed = units.tolist() if isinstance(units, (Tensor, np.ndarray, np.generic)) else units
    given = np.array([listed] if not isinstance(listed, Iterable) else list(listed))
    if given.size and (given.dtype.kind not in "iu" or given.ndim != 1):
        raise GanatomyError(f"expected units as integer indices, got {given.ravel().tolist()[:5]}")
    if given.size and given.min() < 0:
        raise GanatomyError(f"expected units >= 0, got {given.min()}")
    return tuple(int(u) for u in np.unique(given))
