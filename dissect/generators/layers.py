"""The values that passes are made of: a layer, the state between stages, what a capture keeps."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..edits import Edit
from .codes import Codes

KINDS = ("conv", "norm", "activation", "block", "style")


@dataclass(frozen=True)
class Layer:
    """A place in a generator where units can be read and edited.

    Attributes:
        name: unique; the module's dotted name, with ``@2`` for a second use and ``:0`` for an item of a tuple.
        channels: number of units U.
        height, width: size of the feature map h, w.
        kind: one of ``conv``, ``norm``, ``activation``, ``block``, ``style``.
        stage: index of the stage that holds the layer; layers run in the order of their stages.
        default: dissected when no layers are named.
        margin: cells of the map beyond each edge of the picture. They are part of the features and of ``height`` and
            ``width``; they are not counted, and pictures and masks do not show them.
    """

    name: str
    channels: int
    height: int
    width: int
    kind: str
    stage: int
    default: bool
    margin: int = 0

    @property
    def seen(self) -> tuple[int, int]:
        """Height and width of the part of the map that is the picture."""
        return self.height - 2 * self.margin, self.width - 2 * self.margin

    def cropped(self, features: Tensor) -> Tensor:
        """Return the part of features [..., h, w] that is the picture; without a margin, the same tensor."""
        m = self.margin
        return features[..., m : features.shape[-2] - m, m : features.shape[-1] - m] if m else features


@dataclass(frozen=True, eq=False)
class State:
    """What flows between stages: the feature map x, the codes, and for some families the image so far."""

    codes: Codes
    x: Tensor | None = None
    skip: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Capture:
    """Images and features of one forward pass, and what it takes to run the rest again.

    Attributes:
        images: float32 [N, 3, R, R] in [-1, 1], not clamped.
        features: layer name -> [N, U, h, w] as the module returned them, before any edit of that layer.
        edits: the edits that were active.
        restarts: layer name -> (index of the stage to run next, the state before it).
    """

    images: Tensor
    features: dict[str, Tensor]
    edits: tuple[Edit, ...]
    restarts: dict[str, tuple[int, State]]


def rgb(image: Tensor) -> Tensor:
    """Return float32 [N, 3, H, W] of an image [N, 1 or 3, H, W]: grey is repeated."""
    return (image.repeat(1, 3, 1, 1) if image.shape[1] == 1 else image).float()
