"""Edits of weights as values: low-rank changes of one convolution. The loaded weights are never touched.

A convolution is an associative memory, ``v = W k`` (survey, Eq. 9; Bau et al., ECCV 2020). A change of what it
remembers is a sum of a few products: what is added to the values, times how strongly a key is meant.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segmodels import GanatomyError

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class WeightEdit:
    """W <- W + strength * sum_r left_r right_r, for the convolution of a layer. Edits that do the same are equal.

    Attributes:
        layer: name of the layer whose convolution it is; the first layer whose features the edit changes.
        weight: name of the tensor in the network's state dict.
        left: float32 [O, R]: what is added to the O outputs.
        right: float32 [R, I, kh, kw]: for which patches of the input.
        transposed: whether the tensor is stored [I, O, kh, kw], as a transposed convolution's is.
        strength: 1 is the whole change, 0 none; between them the weights are on the line between the two.
        provenance: how it was made, as JSON: request, seeds, method, and so on. It has no part in what the edit does.
    """

    layer: str
    weight: str
    left: Floats
    right: Floats
    transposed: bool = False
    strength: float = 1.0
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("left", "right"):
            with np.errstate(over="ignore"):  # infinite values are refused below
                array = np.array(getattr(self, name), np.float32)
            if not np.isfinite(array).all():
                raise GanatomyError(f"the change of {self.weight} holds NaN or infinite values")
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        object.__setattr__(self, "strength", float(self.strength))
        object.__setattr__(self, "transposed", bool(self.transposed))
        if not np.isfinite(self.strength):
            raise GanatomyError(f"expected a finite strength, got {self.strength}")
        if self.left.ndim != 2 or self.right.ndim != 4 or self.left.shape[1] != len(self.right):
            given = f"{list(self.left.shape)} and {list(self.right.shape)}"
            raise GanatomyError(f"expected factors [O, R] and [R, I, kh, kw] of {self.weight}, got {given}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WeightEdit) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        factors = (self.left.shape, self.left.tobytes(), self.right.shape, self.right.tobytes())
        return self.layer, self.weight, *factors, self.transposed, self.strength

    @property
    def rank(self) -> int:
        """R, how many products the change is a sum of."""
        return len(self.right)

    @property
    def idle(self) -> bool:
        """Whether the edit changes nothing."""
        return self.strength == 0 or not self.left.any() or not self.right.any()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor that is changed."""
        outputs, (inputs, height, width) = len(self.left), self.right.shape[1:]
        return (inputs, outputs, height, width) if self.transposed else (outputs, inputs, height, width)

    def delta(self) -> NDArray[np.float64]:
        """Return what is added to the tensor, in its own layout; ``strength`` included."""
        made = self.strength * (self.left.astype(np.float64) @ self.right.reshape(self.rank, -1).astype(np.float64))
        made = made.reshape(len(self.left), *self.right.shape[1:])
        return made.swapaxes(0, 1) if self.transposed else made

    def check(self, tensor: Tensor) -> None:
        """Raise GanatomyError unless ``tensor`` is one that the edit is a change of."""
        if tuple(tensor.shape) != self.shape:
            raise GanatomyError(f"weight {self.weight!r} is {list(tensor.shape)}, the edit is for {list(self.shape)}")

    def described(self) -> dict[str, Any]:
        """Return what it is for people and files: JSON, without the factors."""
        return {
            "layer": self.layer, "weight": self.weight, "transposed": self.transposed, "strength": self.strength,
            "provenance": json.loads(json.dumps(dict(self.provenance))),
        }  # fmt: skip


def changed(tensor: Tensor, edits: list[WeightEdit]) -> Tensor:
    """Return a copy of a weight with edits of it added up, on its device; summed in float64, rounded once.

    Raises:
        GanatomyError: if a number gets too large.
    """
    total = np.zeros(tuple(tensor.shape))
    for edit in edits:
        total += edit.delta()
    made = (tensor.detach().cpu().double() + torch.from_numpy(total)).to(tensor.dtype)
    if not torch.isfinite(made).all():
        raise GanatomyError(f"edits of {edits[0].weight} make weights that are infinite; lower their strength")
    return made.to(tensor.device)


def changed_weights(tensors: Mapping[str, Tensor], edits: list[WeightEdit]) -> dict[str, Tensor]:
    """Return name -> tensor for every weight that edits change."""
    active = [edit for edit in edits if not edit.idle]
    return {
        name: changed(tensors[name], [edit for edit in active if edit.weight == name])
        for name in dict.fromkeys(edit.weight for edit in active)
    }
