"""Edits are values: small frozen records of what to change at a layer. Weights and models are never touched.

Every edit is ``f <- (1 - a) f + a v`` on some units of a layer (survey, section 3.1; Bau et al., ICLR 2019):
``a`` is the strength times the mask, ``v`` what is put in the feature's place. What ``v`` is decides what an experiment
says, so each constructor asks for it by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from segmodels import GanatomyError

from .edit_values import Floats, as_floats, as_mask, indices, listed, mask_at
from .weight_edits import WeightEdit


@dataclass(frozen=True)
class Source:
    """The features of other images, as a value to put in: those of one seed, or for each sample of a random other one.

    Attributes:
        seed: of the image; None for another one for each sample, drawn by a hash of the sample's own seed. So what a
            sample gets depends neither on its batch nor on its neighbours.
        draw: tells several random draws for the same samples apart.
    """

    seed: int | None = None
    draw: int = 0


@dataclass(frozen=True, eq=False)
class FeatureEdit:
    """f <- (1 - a) f + a v on some units of a layer, with a = strength times mask. Edits that do the same are equal.

    Use the constructors :func:`ablate`, :func:`insert`, :func:`scale` and :func:`replace`, which check and sort.

    Attributes:
        layer: name of the layer.
        units: indices of the units, ascending.
        strength: a, for all units or one for each; 0 leaves, 1 puts v in f's place, negative amplifies f.
        mask: float32 [H, W] in [0, 1] saying where in the picture, or None for everywhere. It is brought to the
            layer's own size: averaged by area where that is smaller, bilinearly where it is larger. Where a layer has
            a margin round the picture, the mask goes on there as it is at the edge.
        values: v: None is zero, float32 [k] a constant for each unit, [k, h, w] maps of the layer's size, or a
            :class:`Source`.
    """

    layer: str
    units: tuple[int, ...]
    strength: float | tuple[float, ...] = 1.0
    mask: Floats | None = None
    values: Floats | Source | None = None

    def __post_init__(self) -> None:
        # Edits that are equal are stored alike, whatever kinds of numbers they were given.
        strength = tuple(map(float, self.strength)) if isinstance(self.strength, tuple) else float(self.strength)
        object.__setattr__(self, "strength", strength)
        object.__setattr__(self, "units", tuple(map(int, self.units)))
        if list(self.units) != sorted(set(self.units)) or (self.units and self.units[0] < 0):
            raise GanatomyError(f"expected units >= 0 in ascending order, got {self.units}; ablate() sorts them")
        if isinstance(self.strength, tuple) and len(self.strength) != len(self.units):
            raise GanatomyError(f"expected a strength for each of {len(self.units)} units, got {len(self.strength)}")
        if isinstance(self.values, np.ndarray) and len(self.values) != len(self.units):
            raise GanatomyError(f"expected a value for each of {len(self.units)} units, got {len(self.values)}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FeatureEdit) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        return self.layer, self.units, self.strength, _bytes(self.mask), _bytes(self.values)

    @property
    def idle(self) -> bool:
        """Whether the edit changes nothing, whatever the features."""
        return not self.units or not np.any(self.strength) or (self.mask is not None and not self.mask.any())

    def __call__(self, features: Tensor, values: Tensor | None = None, margin: int = 0) -> Tensor:
        """Return edited features [N, U, h, w] (styles: [N, U]); the input is left alone.

        Args:
            values: what a :class:`Source` stands for, [N, k, h, w].
            margin: cells of the features beyond each edge of the picture.

        ``a == 0`` leaves a feature's bits as they are, ``a == 1`` puts exactly v there, and v = f changes nothing.
        """
        self.check(features.shape[1], tuple(features.shape[2:]))
        index = torch.tensor(self.units, device=features.device, dtype=torch.long)
        edited = features.clone()
        amount = self._amount(features, margin)
        own = features[:, index]
        if self.values is None:
            edited[:, index] = torch.where(amount == 1, torch.zeros_like(own), own * (1 - amount))
            return edited
        put = self._put(features) if values is None else values
        mixed = own + amount * (put - own)
        edited[:, index] = torch.where(amount == 1, put, torch.where(amount == 0, own, mixed))
        return edited

    def check(self, channels: int, size: tuple[int, ...]) -> None:
        """Raise GanatomyError unless the edit fits a layer of so many units and such a map (h, w), () for styles."""
        if self.units and self.units[-1] >= channels:
            raise GanatomyError(f"layer {self.layer!r} has units 0..{channels - 1}, the edit names {self.units[-1]}")
        if isinstance(self.values, np.ndarray) and self.values.ndim > 1 and self.values.shape[1:] != size:
            given = " x ".join(map(str, self.values.shape[1:]))
            raise GanatomyError(f"layer {self.layer!r} has maps of {_size(size)}, the edit puts in maps of {given}")
        if self.mask is not None:
            if not size or size == (1, 1):
                raise GanatomyError(f"layer {self.layer!r} acts on the whole image; an edit of it takes no mask")
            if self.mask.shape[0] * size[1] != self.mask.shape[1] * size[0]:
                given = " x ".join(map(str, self.mask.shape))
                raise GanatomyError(
                    f"layer {self.layer!r} has maps of {_size(size)}; a mask of {given} has another shape"
                )

    def _amount(self, features: Tensor, margin: int) -> Tensor:
        """Return a, to be broadcast with [N, k, h, w]."""
        strength = torch.tensor(self.strength, dtype=features.dtype, device=features.device)
        per_unit = strength.reshape(-1, *[1] * (features.ndim - 2)) if strength.ndim else strength
        if self.mask is None:
            return per_unit
        mask = torch.tensor(self.mask, dtype=features.dtype, device=features.device)
        return per_unit * mask_at(mask, features.shape[-2], features.shape[-1], margin)

    def _put(self, features: Tensor) -> Tensor:
        """Return v, to be broadcast with [N, k, h, w]."""
        if isinstance(self.values, Source):
            raise GanatomyError("features of another image can only be put in by a generator: G(codes, edits=...)")
        values = torch.tensor(self.values, dtype=features.dtype, device=features.device)
        return values.reshape(*values.shape, *[1] * (features.ndim - 1 - values.ndim)).expand_as(
            features[:, : len(values)]
        )


Edit: TypeAlias = FeatureEdit | WeightEdit


def ablate(
    layer: str,
    units: Iterable[int] | int,
    strength: float = 1.0,
    mask: ArrayLike | Tensor | None = None,
    to: ArrayLike | Tensor | str = "zero",
) -> FeatureEdit:
    """Return the edit that takes ``units`` of ``layer`` away (survey, section 3.1; Bau et al., ICLR 2019).

    Args:
        layer: name of a layer of the generator.
        units: one index or several; order and repetition do not matter (with values in ``to``: none may repeat).
        strength: 1 removes, 0 leaves, between them scales.
        mask: [H, W] in [0, 1], where to act; None is everywhere.
        to: what is put in the units' place. The choice changes conclusions. ``"zero"``; ``"other"``: what each unit
            is in a random other image; or a number for each unit, such as its mean (``run.layer(l).mean[units]``).

    Raises:
        GanatomyError: for a strength or mask outside [0, 1], a mask that is not 2-D, units that are not indices, or
            values of the wrong number.
    """
    if not 0.0 <= strength <= 1.0:
        raise GanatomyError(f"expected a strength in [0, 1], got {strength}")
    if isinstance(to, str):
        known: dict[str, Source | None] = {"zero": None, "other": Source()}
        if to not in known:
            raise GanatomyError(f"expected to='zero', 'other' or a value for each unit, got {to!r}")
        return FeatureEdit(layer, indices(units), float(strength), as_mask(mask), known[to])
    return insert(layer, units, to, mask, strength)


def insert(
    layer: str,
    units: Iterable[int] | int,
    values: ArrayLike | Tensor,
    mask: ArrayLike | Tensor | None = None,
    strength: float = 1.0,
) -> FeatureEdit:
    """Return the edit that sets ``units`` of ``layer`` to ``values`` (survey, section 3.1; Bau et al., ICLR 2019).

    Args:
        units: one index or several, in any order, none twice.
        values: one number for all, one for each unit in the order of ``units``, or maps [k, h, w] of the layer's own
            size. ``dissect.constants`` has the usual ones: a concept's mean, a high quantile.
        mask, strength: as for :func:`ablate`.

    Raises:
        GanatomyError: as for :func:`ablate`; for values that are not finite.
    """
    if not 0.0 <= strength <= 1.0:
        raise GanatomyError(f"expected a strength in [0, 1], got {strength}")
    order, chosen = listed(units), indices(units)
    given = as_floats(values, "values")
    if not given.ndim:
        given = np.full(len(chosen), given, np.float32)
    elif len(order) != len(chosen):
        raise GanatomyError("expected each unit once, since each has a value of its own")
    if given.ndim not in (1, 3) or len(given) != len(chosen):
        raise GanatomyError(f"expected a value or a map for each of {len(chosen)} units, got {list(given.shape)}")
    ordered = np.ascontiguousarray(given[np.argsort(order)] if len(order) == len(chosen) else given)
    ordered.flags.writeable = False
    return FeatureEdit(layer, chosen, float(strength), as_mask(mask), ordered)


def scale(layer: str, units: Iterable[int] | int, factor: float, mask: ArrayLike | Tensor | None = None) -> FeatureEdit:
    """Return the edit that multiplies ``units`` of ``layer`` by ``factor``: below 1 weakens, above 1 amplifies.

    Args:
        mask: [h, w] in 0..1, where; everywhere if not given.


    Raises:
        GanatomyError: for a factor that is negative or not finite; as for :func:`ablate`.
    """
    if not (np.isfinite(factor) and factor >= 0):
        raise GanatomyError(f"expected a factor >= 0, got {factor}")
    return FeatureEdit(layer, indices(units), 1.0 - float(factor), as_mask(mask))


def replace(
    layer: str,
    units: Iterable[int] | int,
    seed: int | None = None,
    mask: ArrayLike | Tensor | None = None,
    strength: float = 1.0,
    draw: int = 0,
) -> FeatureEdit:
    """Return the edit that puts the units' features in another image in their place, where ``mask`` [h, w] is.

    Args:
        seed: of that image, generated with the class, truncation and noise of each sample; None for a random other
            image for each sample.
        draw: with ``seed=None``, which of many random draws.

    Raises:
        GanatomyError: for a strength outside 0..1, or a seed that is none; as for :func:`ablate`.
    """
    if not 0.0 <= strength <= 1.0:
        raise GanatomyError(f"expected a strength in [0, 1], got {strength}")
    if seed is not None and not (isinstance(seed, (int, np.integer)) and 0 <= seed < 2**32):
        raise GanatomyError(f"expected a seed between 0 and {2**32 - 1}, got {seed!r}")
    source = Source(None if seed is None else int(seed), int(draw))
    return FeatureEdit(layer, indices(units), float(strength), as_mask(mask), source)


def _bytes(value: Floats | Source | None) -> object:
    return (value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


def _size(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size)) or "one number"
